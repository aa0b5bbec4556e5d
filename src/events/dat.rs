//! Prophesee DAT, as N-CARS and the automotive detection sets are published.
//!
//! A text header of lines that begin with `%`, a byte of event type and one of event size, then little-endian records: an
//! unsigned 32-bit time in microseconds and a word with x, y and polarity: bits 0-13, 14-27 and 28 in version 2, bits
//! 0-8, 9-16 and 17 in version 1 and where no version is named.

use super::lines::{self, Clock32, Line};
use super::{Carry, DecodeError, Decoder, Event, EventStream, Format, Sensor};

/// The format.
pub static FORMAT: Format = Format {
    name: "dat",
    about: "Prophesee DAT (N-CARS)",
    extensions: &["dat"],
    sniff,
    decoder: || Box::<DatDecoder>::default(),
    encode: Some(encode),
    keeps_sensor: true,
    marked: false,
};

/// Event types whose records are pixels that changed.
const PIXELS: [u8; 2] = [0, 12];

/// Decoder of DAT.
#[derive(Debug, Default)]
pub struct DatDecoder {
    carry: Carry,
    lines: usize,
    version: u32,
    width: Option<u32>,
    height: Option<u32>,
    /// Bytes of a record, once the header is over.
    record: Option<usize>,
    clock: Clock32,
}

fn sniff(head: &[u8], _: bool) -> bool {
    let (lines, at) = lines::header(head, b'%');
    let raw = ["evt", "format", "plugin_name"];
    let other = |l: &&[u8]| raw.iter().any(|k| lines::value(l, k).is_some());
    if lines.is_empty() || lines.iter().any(other) {
        return false;
    }
    match head[at..] {
        [kind, size, ..] => PIXELS.contains(&kind) && size >= 8,
        _ => lines.iter().any(|l| lines::value(l, "Version").is_some()),
    }
}

impl DatDecoder {
    fn header(&mut self, bytes: &[u8], offset: u64) -> Result<usize, DecodeError> {
        let mut done = 0;
        while self.record.is_none() {
            match lines::line(&bytes[done..], b'%') {
                Line::More => break,
                Line::Text(text, n) => {
                    let number = |key| lines::value(text, key).and_then(|v| v.parse().ok());
                    self.version = number("Version").unwrap_or(self.version);
                    self.width = number("Width").or(self.width);
                    self.height = number("Height").or(self.height);
                    self.lines += 1;
                    done += n;
                }
                Line::Data => {
                    let &[kind, size, ..] = &bytes[done..] else {
                        break;
                    };
                    let at = offset + done as u64;
                    if self.lines == 0 {
                        return Err(DecodeError::new(at, "no header lines that begin with %"));
                    }
                    if !PIXELS.contains(&kind) || size < 8 {
                        let what = format!(
                            "events of type {kind} and {size} bytes; only pixel events (types 0 and 12, 8 bytes) are read"
                        );
                        return Err(DecodeError::new(at, what));
                    }
                    self.record = Some(size.into());
                    done += 2;
                }
            }
        }
        Ok(done)
    }

    fn records(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> usize {
        let Some(size) = self.record else { return 0 };
        let n = bytes.len() / size;
        let bytes = &bytes[..n * size];
        let clock = &mut self.clock;
        out.reserve(n);
        let two = self.version >= 2;
        if let (8, true) = (size, two) {
            let (records, _) = bytes.as_chunks::<8>();
            out.extend(records.iter().map(|r| {
                let [t, d] = words(r);
                version_2(clock.time(t), d)
            }));
        } else {
            out.extend(bytes.chunks_exact(size).map(|r| {
                let [t, d] = words(&[r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]);
                let t = clock.time(t);
                if two { version_2(t, d) } else { version_1(t, d) }
            }));
        }
        bytes.len()
    }
}

#[inline]
fn words(r: &[u8; 8]) -> [u32; 2] {
    let r = u64::from_le_bytes(*r);
    [r as u32, (r >> 32) as u32]
}

#[inline]
fn version_2(t: i64, d: u32) -> Event {
    Event { t, x: (d & 0x3fff) as u16, y: (d >> 14 & 0x3fff) as u16, p: d >> 28 & 1 == 1 }
}

#[inline]
fn version_1(t: i64, d: u32) -> Event {
    Event { t, x: (d & 0x1ff) as u16, y: (d >> 9 & 0xff) as u16, p: d >> 17 & 1 == 1 }
}

impl Decoder for DatDecoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, offset| {
            let header = self.header(bytes, offset)?;
            Ok(header + self.records(&bytes[header..], out))
        });
        self.carry = carry;
        result
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), DecodeError> {
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        match self.record {
            None => Err(DecodeError::new(at, "the file ends within its header")),
            Some(size) if rest > 0 => Err(lines::cut(at, rest, size)),
            Some(_) => Ok(()),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        Some(Sensor::new(self.width?, self.height?))
    }
}

/// The file for a recording.
///
/// # Errors
/// Coordinates above 16383, times outside 32 bits of microseconds (71 minutes), or a step back of more than half of that.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let mut out = b"% Data file containing CD events.\n% Version 2\n".to_vec();
    out.reserve(64 + stream.events.len() * 8);
    if stream.sensor_declared {
        let Sensor { width, height } = stream.sensor;
        out.extend(format!("% Height {height}\n% Width {width}\n").bytes());
    }
    out.extend([12, 8]);
    let mut last = 0;
    for (i, e) in stream.events.iter().enumerate() {
        if e.x > 0x3fff || e.y > 0x3fff {
            return Err(format!("event {i} at ({}, {}): DAT files hold coordinates up to 16383", e.x, e.y));
        }
        let Ok(t) = u32::try_from(e.t) else {
            return Err(format!("event {i} at {} us: DAT files hold times from 0 to 4294967295 us (71 minutes)", e.t));
        };
        if last > t && last - t > 1 << 31 {
            return Err(format!(
                "event {i} lies {} us before the one before it; in a DAT file that reads as a later time",
                last - t
            ));
        }
        last = t;
        let d = u32::from(e.x) | u32::from(e.y) << 14 | u32::from(e.p) << 28;
        out.extend((u64::from(d) << 32 | u64::from(t)).to_le_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    #[test]
    fn both_versions() {
        let head = b"% Data file\n% Height 10\n% Width 20\n";
        let word = 3u32 | 5 << 9 | 1 << 17;
        let v1 = [&head[..], &[0, 8], &9u32.to_le_bytes(), &word.to_le_bytes()].concat();
        let want = Event { t: 9, x: 3, y: 5, p: true };
        assert!(sniff(&v1, false));
        assert_eq!(decode(&FORMAT, &v1).unwrap(), [want]);
        let word = 3u32 | 5 << 14 | 1 << 28;
        let v2 = [&head[..], b"% Version 2\n", &[12, 10], &9u32.to_le_bytes(), &word.to_le_bytes(), &[7, 7]].concat();
        for piece in [1, 4, 1000] {
            assert_eq!(in_pieces(&FORMAT, &v2, piece), (vec![want], Ok(())));
        }
        let mut d = DatDecoder::default();
        d.push(&v2, &mut Vec::new()).unwrap();
        assert_eq!(d.sensor(), Some(Sensor::new(20, 10)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let e = decode(&FORMAT, b"% Version 2\n\x0e\x08").unwrap_err();
        assert!(e.offset == 12 && e.message.contains("type 14"), "{e}");
        assert!(decode(&FORMAT, b"% Version 2\n").is_err() && decode(&FORMAT, b"\x0c\x08").is_err());
        let (events, end) = in_pieces(&FORMAT, b"% Version 2\n\x0c\x08123456781234", 3);
        assert_eq!((events.len(), end.unwrap_err().offset), (1, 22));
        let one = |e| encode(&EventStream::new(vec![e], Sensor::new(1, 1)));
        for e in [
            Event { t: -1, ..Event::default() },
            Event { t: 1 << 32, ..Event::default() },
            Event { x: 16384, ..Event::default() },
        ] {
            assert!(one(e).is_err());
        }
    }
}
