//! Event Stream (`.es`) version 2, as the tools of the CREMI and ICNS groups write it.
//!
//! `Event Stream`, three bytes of version, a byte of type; for cameras the width and height (16 bits, little end first). A
//! DVS event is a byte of time since the event before (7 bits of microseconds) and polarity (bit 0, on), then x and y of
//! 16 bits. A byte `ff` adds 127 microseconds and no event; `fe` is of no meaning. Other types are named and refused.

use super::{Carry, DecodeError, Decoder, Event, Format, Sensor};

/// The format.
pub static FORMAT: Format = Format {
    name: "es",
    about: "Event Stream version 2, DVS",
    extensions: &["es"],
    sniff: |head, _| head.starts_with(MAGIC),
    decoder: || Box::<EsDecoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

const MAGIC: &[u8] = b"Event Stream";
const HEADER: usize = 20;
const DVS: u8 = 1;
const TYPES: [&str; 5] = ["bytes of any meaning (generic)", "a DVS", "an ATIS", "an asynchronous ATIS", "a colour camera"];

/// Decoder of Event Streams.
#[derive(Debug, Default)]
pub struct EsDecoder {
    carry: Carry,
    sensor: Option<Sensor>,
    t: i64,
}

impl EsDecoder {
    fn header(&mut self, b: &[u8], offset: u64) -> Result<usize, DecodeError> {
        let known = b.len().min(MAGIC.len());
        if b[..known] != MAGIC[..known] {
            return Err(DecodeError::new(offset, "does not begin with `Event Stream`"));
        }
        if let Some(&version) = b.get(12)
            && version != 2
        {
            let what = format!("Event Stream version {version}; only version 2 is read");
            return Err(DecodeError::new(offset + 12, what));
        }
        if let Some(&kind) = b.get(15)
            && kind != DVS
        {
            let of = TYPES.get(usize::from(kind)).copied();
            let of = of.map_or_else(|| format!("type {kind}"), str::to_owned);
            let what = format!("an Event Stream of {of}; only those of a DVS hold events to read");
            return Err(DecodeError::new(offset + 15, what));
        }
        let Some(h) = b.first_chunk::<HEADER>() else {
            return Ok(0);
        };
        let size = |at: usize| u32::from(u16::from_le_bytes([h[at], h[at + 1]]));
        self.sensor = Some(Sensor::new(size(16), size(18)));
        Ok(HEADER)
    }

    fn events(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> usize {
        let (mut at, mut t) = (0, self.t);
        out.reserve(bytes.len() / 5);
        while let Some(&b) = bytes.get(at) {
            if b >= 0xfe {
                t += if b == 0xff { 127 } else { 0 };
                at += 1;
                continue;
            }
            let Some(r) = bytes.get(at..at + 5) else {
                break;
            };
            t += i64::from(b >> 1);
            out.push(Event { t, x: u16::from_le_bytes([r[1], r[2]]), y: u16::from_le_bytes([r[3], r[4]]), p: b & 1 == 1 });
            at += 5;
        }
        self.t = t;
        at
    }
}

impl Decoder for EsDecoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, offset| {
            let header = match self.sensor {
                None => self.header(bytes, offset)?,
                Some(_) => 0,
            };
            Ok(match self.sensor {
                None => 0,
                Some(_) => header + self.events(&bytes[header..], out),
            })
        });
        self.carry = carry;
        result
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), DecodeError> {
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        match self.sensor {
            None => Err(DecodeError::new(at, "the file ends within its header")),
            Some(_) if rest > 0 => Err(super::lines::cut(at, rest, 5)),
            Some(_) => Ok(()),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn file(version: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        [MAGIC, &[version, 0, 0, kind], rest].concat()
    }

    #[test]
    fn layout() {
        let body = [
            30, 0, 32, 0, // the sensor
            7, 1, 0, 2, 0, // 3 us, on
            0xff, 0xff, 0xfe, 4, 3, 1, 4, 0, // 254 + 2 us, off
        ];
        let bytes = file(2, 1, &body);
        let e = |t, x, y, p| Event { t, x, y, p };
        let want = vec![e(3, 1, 2, true), e(259, 259, 4, false)];
        for piece in [1, 3, 100] {
            assert_eq!(in_pieces(&FORMAT, &bytes, piece), (want.clone(), Ok(())));
        }
        let (events, end) = in_pieces(&FORMAT, &bytes[..bytes.len() - 1], 4);
        assert_eq!((events.len(), end.unwrap_err().offset), (1, 28));
    }

    #[test]
    fn others_are_named() {
        let said = |b: &[u8]| decode(&FORMAT, b).unwrap_err().message;
        assert!(said(&file(2, 0, &[])).contains("generic"));
        assert!(said(&file(2, 2, &[1, 0, 1, 0])).contains("ATIS"));
        assert!(said(&file(1, 1, &[1, 0, 1, 0])).contains("version 1"));
        assert!(said(b"Event Str").contains("header") && said(b"Events").contains("begin"));
    }
}
