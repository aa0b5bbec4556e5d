//! AEDAT 3.1, as DVS128 Gesture is published and as cAER and jAER write it.
//!
//! A text header of lines that begin with `#`, up to `#!END-HEADER`; then packets of a 28-byte little-endian header (type,
//! source, event size, offset of the timestamp, timestamp overflow, capacity, number, valid) and `capacity` events. Polarity
//! packets (type 1) are read, all others skipped by their size. A time is `overflow << 31 | timestamp` microseconds.
//!
//! Events whose valid bit is clear are left out only where the packet's header itself counts fewer valid events than
//! events: files exist whose every valid bit is clear although their headers call all events valid.

use super::{Carry, DecodeError, Decoder, Event, EventStream, Format, Sensor};
use std::collections::BTreeMap;

/// The format.
pub static FORMAT: Format = Format {
    name: "aedat3",
    about: "AEDAT 3.1 polarity packets (DVS128 Gesture, cAER)",
    extensions: &["aedat"],
    sniff: |head, _| head.starts_with(MAGIC),
    decoder: || Box::<Aedat3Decoder>::default(),
    encode: Some(encode),
    keeps_sensor: true,
    marked: true,
};

const MAGIC: &[u8] = b"#!AER-DAT3.";
const POLARITY: i16 = 1;
/// Other types of packets.
const KINDS: [(i16, &str); 7] =
    [(0, "special"), (2, "frame"), (3, "IMU (6 axes)"), (4, "IMU (9 axes)"), (5, "sample"), (6, "ear"), (7, "configuration")];
const PACKET_HEADER: usize = 28;
const LONGEST_LINE: usize = 1 << 16;
/// Names in `#Source` lines and the pixel arrays of those cameras.
const CAMERAS: [(&str, Sensor); 6] = [
    ("DVS128", Sensor::new(128, 128)),
    ("DAVIS128", Sensor::new(128, 128)),
    ("DAVIS208", Sensor::new(208, 192)),
    ("DAVIS240", Sensor::new(240, 180)),
    ("DAVIS346", Sensor::new(346, 260)),
    ("DAVIS640", Sensor::new(640, 480)),
];
/// The line in which this crate's writer declares a sensor; other readers take it for a comment.
const SENSOR_LINE: &str = "#-Sensor: ";

/// Decoder of AEDAT 3.1.
#[derive(Clone, Debug, Default)]
pub struct Aedat3Decoder {
    carry: Carry,
    state: State,
    sensor: Option<Sensor>,
    /// Packets of other types that were passed over.
    others: BTreeMap<i16, u64>,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// At the file's first line.
    #[default]
    Start,
    /// Within the text header.
    Lines,
    /// Before a packet's header.
    Packet,
    /// `bytes` of a packet to go without looking at them.
    Skip { bytes: u64 },
    /// `events` polarity events to go, then `spare` bytes of unused capacity.
    Events { polarity: Polarity, events: u64, spare: u64 },
}

/// How the events of a polarity packet lie.
#[derive(Clone, Copy, Debug)]
struct Polarity {
    size: usize,
    time_at: usize,
    base: i64,
    all_valid: bool,
}

impl Polarity {
    fn read(&self, bytes: &[u8], out: &mut Vec<Event>) -> usize {
        let mut n = 0;
        for r in bytes.chunks_exact(self.size) {
            let (data, t) = (word(r, 0), word(r, self.time_at));
            if self.all_valid || data & 1 == 1 {
                out.push(Event {
                    t: self.base + i64::from(t as i32),
                    x: (data >> 17) as u16,
                    y: (data >> 2) as u16 & 0x7fff,
                    p: data >> 1 & 1 == 1,
                });
            }
            n += self.size;
        }
        n
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

impl Aedat3Decoder {
    /// One step: how many bytes it consumed, or none if it needs more.
    fn step(&mut self, bytes: &[u8], offset: u64, out: &mut Vec<Event>) -> Result<Option<usize>, DecodeError> {
        match &mut self.state {
            State::Start | State::Lines => self.line(bytes, offset),
            State::Packet => {
                let Some(header) = bytes.first_chunk::<PACKET_HEADER>() else {
                    return Ok(None);
                };
                self.state = packet(header, offset)?;
                if let State::Skip { .. } = self.state {
                    *self.others.entry(i16::from_le_bytes([header[0], header[1]])).or_default() += 1;
                }
                Ok(Some(PACKET_HEADER))
            }
            State::Skip { bytes: left } => {
                let n = (*left).min(bytes.len() as u64);
                *left -= n;
                if *left == 0 {
                    self.state = State::Packet;
                } else if n == 0 {
                    return Ok(None);
                }
                Ok(Some(n as usize))
            }
            State::Events { polarity, events, spare } => {
                let here = (bytes.len() / polarity.size) as u64;
                let n = (*events).min(here) as usize;
                let done = polarity.read(&bytes[..n * polarity.size], out);
                *events -= n as u64;
                if *events == 0 {
                    self.state = State::Skip { bytes: *spare };
                } else if n == 0 {
                    return Ok(None);
                }
                Ok(Some(done))
            }
        }
    }

    fn line(&mut self, bytes: &[u8], offset: u64) -> Result<Option<usize>, DecodeError> {
        match bytes.first() {
            None => return Ok(None),
            Some(b'#') => {}
            Some(_) if matches!(self.state, State::Start) => {
                return Err(DecodeError::new(offset, "no `#!AER-DAT3.1` line"));
            }
            // A header without an end line.
            Some(_) => {
                self.state = State::Packet;
                return Ok(Some(0));
            }
        }
        let Some(end) = bytes.iter().take(LONGEST_LINE).position(|&b| b == b'\n') else {
            if bytes.len() >= LONGEST_LINE {
                return Err(DecodeError::new(offset, "a header line without an end"));
            }
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&bytes[..end]);
        let line = line.trim_end();
        if matches!(self.state, State::Start) {
            if !line.as_bytes().starts_with(MAGIC) {
                return Err(DecodeError::new(offset, "no `#!AER-DAT3.1` line"));
            }
            self.state = State::Lines;
        } else if line == "#!END-HEADER" {
            self.state = State::Packet;
        } else if let Some(size) = line.strip_prefix(SENSOR_LINE) {
            let size = size.split_once('x');
            self.sensor = size.and_then(|(w, h)| Some(Sensor::new(w.parse().ok()?, h.parse().ok()?)));
        } else if let Some(format) = line.strip_prefix("#Format: ") {
            // Frames alone are compressed as PNG; polarity packets stay as they are.
            if format != "RAW" && format != "PNGFrames" {
                let what = format!("AEDAT 3.1 of format `{format}`; only RAW is read");
                return Err(DecodeError::new(offset, what));
            }
        } else if line.starts_with("#Source") && self.sensor.is_none() {
            self.sensor = CAMERAS.iter().find(|(name, _)| line.contains(name)).map(|c| c.1);
        }
        Ok(Some(end + 1))
    }
}

fn packet(h: &[u8; PACKET_HEADER], offset: u64) -> Result<State, DecodeError> {
    let bad = |at: u64, what: String| Err(DecodeError::new(offset + at, what));
    let kind = i16::from_le_bytes([h[0], h[1]]);
    let field = |at: usize| word(h, at) as i32;
    let [size, time_at, overflow, capacity, number, valid] = [4, 8, 12, 16, 20, 24].map(field);
    if kind < 0 || size < 0 || capacity < 0 || number < 0 || number > capacity || valid < 0 {
        return bad(
            0,
            format!("no packet header: type {kind}, event size {size}, capacity {capacity}, number {number}, valid {valid}"),
        );
    }
    let bytes = size as u64 * capacity as u64;
    if kind != POLARITY {
        return Ok(State::Skip { bytes });
    }
    if size < 8 || time_at < 4 || time_at > size - 4 {
        return bad(4, format!("polarity events of {size} bytes with the time at byte {time_at}"));
    }
    if overflow < 0 {
        return bad(12, format!("timestamp overflow {overflow}"));
    }
    Ok(State::Events {
        polarity: Polarity {
            size: size as usize,
            time_at: time_at as usize,
            base: i64::from(overflow) << 31,
            all_valid: valid >= number,
        },
        events: number as u64,
        spare: bytes - size as u64 * number as u64,
    })
}

impl Decoder for Aedat3Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, offset| {
            let mut done = 0;
            while let Some(n) = self.step(&bytes[done..], offset + done as u64, out)? {
                done += n;
            }
            Ok(done)
        });
        self.carry = carry;
        result
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), DecodeError> {
        let at = self.carry.offset();
        let rest = self.carry.rest().len();
        match &self.state {
            State::Start => Err(DecodeError::new(at, "the file ends within its first line")),
            // A file without a single packet may lack the line that ends its header.
            State::Lines if rest == 0 => Ok(()),
            State::Lines => Err(DecodeError::new(at, "the file ends within its header")),
            State::Packet if rest == 0 => Ok(()),
            State::Packet => {
                let what = format!("the file ends after {rest} of a packet header's {PACKET_HEADER} bytes");
                Err(DecodeError::new(at, what))
            }
            State::Skip { bytes } => {
                Err(DecodeError::new(at, format!("the file ends {bytes} bytes before its last packet does")))
            }
            State::Events { events, .. } => {
                Err(DecodeError::new(at, format!("the file ends {events} events before its last packet does")))
            }
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn besides(&self) -> Vec<String> {
        let name = |kind: i16| KINDS.iter().find(|k| k.0 == kind).map_or_else(|| format!("type {kind}"), |k| k.1.to_owned());
        self.others.iter().map(|(kind, n)| format!("{n} {} packet{}", name(*kind), if *n == 1 { "" } else { "s" })).collect()
    }
}

/// Events a packet of the writer's holds at most.
const PACKET: usize = 4096;

/// The file for a recording.
///
/// # Errors
/// A coordinate above 32767, a negative time, or one of 2^62 microseconds and more.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(256 + stream.events.len() * 9);
    out.extend(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: spikemix\r\n");
    if stream.sensor_declared {
        out.extend(format!("{SENSOR_LINE}{}\r\n", stream.sensor).bytes());
    }
    out.extend(b"#!END-HEADER\r\n");
    if let Some(e) = stream.events.iter().find(|e| !(0..1 << 62).contains(&e.t) || e.x > 0x7fff || e.y > 0x7fff) {
        return Err(format!("the event at {} us, ({}, {}) lies outside what AEDAT 3.1 holds", e.t, e.x, e.y));
    }
    for run in stream.events.chunk_by(|a, b| a.t >> 31 == b.t >> 31) {
        for events in run.chunks(PACKET) {
            let n = (events.len() as u32).to_le_bytes();
            out.extend(POLARITY.to_le_bytes());
            out.extend(1i16.to_le_bytes());
            out.extend(8u32.to_le_bytes());
            out.extend(4u32.to_le_bytes());
            out.extend(((run[0].t >> 31) as u32).to_le_bytes());
            out.extend([n, n, n].concat());
            for e in events {
                let data = u32::from(e.x) << 17 | u32::from(e.y) << 2 | u32::from(e.p) << 1 | 1;
                out.extend(data.to_le_bytes());
                out.extend((e.t as u32 & 0x7fff_ffff).to_le_bytes());
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn file(packets: &[Vec<u8>]) -> Vec<u8> {
        let head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n";
        [head.to_vec(), packets.concat()].concat()
    }

    fn packet(kind: i16, size: i32, overflow: i32, [capacity, number, valid]: [i32; 3], body: &[u32]) -> Vec<u8> {
        let mut out = [kind.to_le_bytes(), 1i16.to_le_bytes()].concat();
        for v in [size, 4, overflow, capacity, number, valid] {
            out.extend(v.to_le_bytes());
        }
        out.extend(body.iter().flat_map(|w| w.to_le_bytes()));
        out
    }

    #[test]
    fn other_packets_are_skipped_and_overflows_counted() {
        let bytes = file(&[
            packet(0, 8, 0, [1, 1, 1], &[1, 2]),
            packet(1, 8, 2, [3, 2, 2], &[5 << 17 | 6 << 2 | 2, 7, 1 << 17, 8, 0, 0]),
            packet(3, 12, 0, [1, 1, 1], &[1, 2, 3]),
            packet(1, 8, 0, [2, 2, 1], &[3 << 17 | 1, 9, 4 << 17, 10]),
        ]);
        let want = [
            Event { t: (2 << 31) + 7, x: 5, y: 6, p: true },
            Event { t: (2 << 31) + 8, x: 1, y: 0, p: false },
            Event { t: 9, x: 3, y: 0, p: false },
        ];
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), want);
        for piece in [1, 7, 30] {
            assert_eq!(in_pieces(&FORMAT, &bytes, piece), (want.to_vec(), Ok(())));
        }
        let mut d = Aedat3Decoder::default();
        d.push(&bytes, &mut Vec::new()).unwrap();
        assert_eq!(d.sensor(), Some(Sensor::new(128, 128)));
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let good = file(&[packet(1, 8, 0, [2, 2, 2], &[2, 3, 2, 4])]);
        let (events, end) = in_pieces(&FORMAT, &good[..good.len() - 3], 11);
        let e = end.unwrap_err();
        assert_eq!((events.len(), e.offset), (1, good.len() as u64 - 8));
        let bad = file(&[packet(1, -8, 0, [2, 2, 2], &[])]);
        assert!(decode(&FORMAT, &bad).unwrap_err().message.contains("event size -8"));
        assert!(decode(&FORMAT, b"hello").unwrap_err().message.contains("AER-DAT"));
        assert!(decode(&FORMAT, b"#!AER-DAT2.0\r\n").is_err());
    }

    /// A file that ends within its first packet, be it behind the packet's header or within it, is not taken for one without packets.
    #[test]
    fn a_first_packet_that_is_cut_is_missed() {
        for (kind, size) in [(1, 8), (0, 8), (2, 100)] {
            let head = file(&[]);
            let whole = file(&[packet(kind, size, 0, [2, 2, 2], &vec![1; 2 * size as usize / 4])]);
            assert_eq!(in_pieces(&FORMAT, &head, 9), (vec![], Ok(())));
            for n in head.len() + 1..whole.len() {
                let e = in_pieces(&FORMAT, &whole[..n], 9).1.unwrap_err();
                assert!(
                    e.offset >= head.len() as u64 && e.offset <= n as u64 && e.message.starts_with("the file ends"),
                    "{n}: {e}"
                );
            }
        }
    }

    #[test]
    fn the_sensor_is_kept() {
        let stream = EventStream::new(vec![Event::default()], Sensor::new(33, 44));
        let mut d = Aedat3Decoder::default();
        d.push(&encode(&stream).unwrap(), &mut Vec::new()).unwrap();
        assert_eq!(d.sensor(), Some(stream.sensor));
    }
}
