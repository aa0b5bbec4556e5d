//! AEDAT 2.0 (and 1.0), as jAER writes it: DVS128 and DAVIS cameras, CIFAR10-DVS and MNIST-DVS.
//!
//! A text header of lines that begin with `#`; then big-endian records of an address (32 bits; 16 in AEDAT 1.0) and an
//! unsigned 32-bit time in microseconds, which starts again at 0 after 71 minutes. What an address means depends on the
//! chip, which the header names (`# AEChip:`, `# HardwareInterface:`):
//!
//! - DVS128: `x = 127 - (a >> 1 & 127)`, `y = a >> 8 & 127`, on where bit 0 is clear; bit 15 marks no event of a pixel.
//! - DAVIS: bit 31 marks frame and motion-sensor words, bit 10 external signals; else `x = a >> 12 & 1023`,
//!   `y = a >> 22 & 511`, on = bit 11. No axis is flipped.
//!
//! Row 0 is the lowest, as jAER draws it: iniVation's description of the format puts (0, 0) into the lower left corner. Events keep these
//! rows, as other readers do; `spikemix inspect` draws them upright. jAER also turns the columns of a DAVIS over when it draws them
//! (`sizeX - 1 - x`), which nothing here does.
//!
//! A file that names no chip is told by its first addresses: those that need more than 16 bits are a DAVIS's, those that
//! all lie below 1024 a cochlea's (64 channels of two ears), which is no camera and refused.

use super::lines::{self, Clock32, Line, fill};
use super::{Carry, DecodeError, Decoder, Event, Format, Sensor};

/// The format.
pub static FORMAT: Format = Format {
    name: "aedat2",
    about: "AEDAT 2.0 (jAER: DVS128, DAVIS, CIFAR10-DVS)",
    extensions: &["aedat", "dat"],
    sniff: |head, _| MAGIC.iter().any(|m| head.starts_with(m)),
    decoder: || Box::<Aedat2Decoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

const MAGIC: [&[u8]; 2] = [b"#!AER-DAT2.", b"#!AER-DAT1."];
/// Records looked at to tell the chip where the header does not.
const LOOKED_AT: usize = 2048;
/// So few events could be a camera's lower rows as well as a cochlea's.
const TOO_FEW: usize = 64;
const BLOCK: usize = 2048;

/// Words in the names of chips, and the pixel arrays of those cameras.
const CHIPS: [(&str, Layout, Sensor); 10] = [
    ("dvs128", Layout::Dvs128, Sensor::new(128, 128)),
    ("tmpdiff128", Layout::Dvs128, Sensor::new(128, 128)),
    ("davis128", Layout::Davis, Sensor::new(128, 128)),
    ("davis208", Layout::Davis, Sensor::new(208, 192)),
    ("davis240", Layout::Davis, Sensor::new(240, 180)),
    ("sbret", Layout::Davis, Sensor::new(240, 180)),
    ("davis346", Layout::Davis, Sensor::new(346, 260)),
    ("davis640", Layout::Davis, Sensor::new(640, 480)),
    ("davis", Layout::Davis, Sensor::new(0, 0)),
    ("cochlea", Layout::Cochlea, Sensor::new(0, 0)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Dvs128,
    Davis,
    Cochlea,
}

/// Decoder of AEDAT 2.0 and 1.0.
#[derive(Debug, Default)]
pub struct Aedat2Decoder {
    carry: Carry,
    state: State,
    short: bool,
    chip: Option<(Layout, Sensor)>,
    clock: Clock32,
    /// Records that are no polarity events.
    others: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Lines,
    Records,
}

impl Aedat2Decoder {
    fn record(&self) -> usize {
        if self.short { 6 } else { 8 }
    }

    fn header_line(&mut self, text: &[u8], offset: u64) -> Result<(), DecodeError> {
        if self.state == State::Start {
            let Some(which) = MAGIC.iter().position(|m| text.starts_with(m)) else {
                return Err(DecodeError::new(offset, "no `#!AER-DAT2.0` line"));
            };
            self.short = which == 1;
            self.state = State::Lines;
        } else if text.eq_ignore_ascii_case(b"#End Of ASCII Header") {
            self.state = State::Records;
        } else {
            let chip = lines::value(text, "AEChip");
            let named = chip.is_some();
            if let Some(name) = chip.or_else(|| lines::value(text, "HardwareInterface")) {
                let name = name.to_lowercase();
                let known = CHIPS.iter().find(|c| name.contains(c.0));
                // The chip's name is the better witness.
                if let Some(&(_, layout, sensor)) = known
                    && (named || self.chip.is_none())
                {
                    self.chip = Some((layout, sensor));
                }
            }
        }
        Ok(())
    }

    fn address(&self, r: &[u8]) -> u32 {
        match self.short {
            true => u16::from_be_bytes([r[0], r[1]]).into(),
            false => u32::from_be_bytes([r[0], r[1], r[2], r[3]]),
        }
    }

    /// The layout by the addresses, once there are enough of them.
    fn layout(&mut self, bytes: &[u8], last: bool) -> Option<Layout> {
        if let Some((layout, _)) = self.chip {
            return Some(layout);
        }
        let records = bytes.chunks_exact(self.record());
        let n = records.len().min(LOOKED_AT);
        if n < LOOKED_AT && !last {
            return None;
        }
        let largest = records.take(LOOKED_AT).map(|r| self.address(r)).max().unwrap_or(0);
        let chip = match largest {
            0x1_0000.. => (Layout::Davis, Sensor::default()),
            0..0x400 if n >= TOO_FEW => (Layout::Cochlea, Sensor::default()),
            _ => (Layout::Dvs128, Sensor::new(128, 128)),
        };
        Some(self.chip.insert(chip).0)
    }

    fn records(&mut self, bytes: &[u8], offset: u64, last: bool, out: &mut Vec<Event>) -> Result<usize, DecodeError> {
        let Some(layout) = self.layout(bytes, last) else {
            return Ok(0);
        };
        if layout == Layout::Cochlea {
            let what = "a recording of a cochlea (sounds of two ears), not of a camera";
            return Err(DecodeError::new(offset, what));
        }
        let size = self.record();
        let whole = bytes.len() / size * size;
        out.reserve(whole / size);
        for block in bytes[..whole].chunks(BLOCK * size) {
            let before = out.len();
            let mut clock = std::mem::take(&mut self.clock);
            fill(out, block.len() / size, |slots| {
                let mut n = 0;
                for r in block.chunks_exact(size) {
                    let a = self.address(r);
                    let t = u32::from_be_bytes([r[size - 4], r[size - 3], r[size - 2], r[size - 1]]);
                    let t = clock.time(t);
                    let (e, event) = match layout {
                        Layout::Davis => (davis(a, t), a & 0x8000_0400 == 0),
                        _ => (dvs128(a, t), a & 0xffff_8000 == 0),
                    };
                    slots[n] = e;
                    n += usize::from(event);
                }
                n
            });
            self.clock = clock;
            self.others += (block.len() / size + before - out.len()) as u64;
        }
        Ok(whole)
    }

    fn consume(&mut self, bytes: &[u8], offset: u64, last: bool, out: &mut Vec<Event>) -> Result<usize, DecodeError> {
        let mut done = 0;
        while self.state != State::Records {
            let at = offset + done as u64;
            match lines::line(&bytes[done..], b'#') {
                Line::More => return Ok(done),
                Line::Text(text, n) => {
                    self.header_line(text, at)?;
                    done += n;
                }
                Line::Data if self.state == State::Start => {
                    return Err(DecodeError::new(at, "no `#!AER-DAT2.0` line"));
                }
                Line::Data => self.state = State::Records,
            }
        }
        Ok(done + self.records(&bytes[done..], offset + done as u64, last, out)?)
    }

    fn feed(&mut self, bytes: &[u8], last: bool, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, at| self.consume(bytes, at, last, out));
        self.carry = carry;
        result
    }
}

#[inline]
fn dvs128(a: u32, t: i64) -> Event {
    Event { t, x: 127 - (a >> 1 & 127) as u16, y: (a >> 8 & 127) as u16, p: a & 1 == 0 }
}

#[inline]
fn davis(a: u32, t: i64) -> Event {
    Event { t, x: (a >> 12 & 1023) as u16, y: (a >> 22 & 511) as u16, p: a >> 11 & 1 == 1 }
}

impl Decoder for Aedat2Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.feed(bytes, false, out)
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.feed(&[], true, out)?;
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        match self.state {
            State::Start => Err(DecodeError::new(at, "the file ends within its first line")),
            State::Lines if rest > 0 => Err(DecodeError::new(at, "the file ends within its header")),
            _ if rest > 0 => Err(lines::cut(at, rest, self.record())),
            _ => Ok(()),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.chip.map(|c| c.1).filter(|s| *s != Sensor::default())
    }

    fn besides(&self) -> Vec<String> {
        let what =
            if self.chip.is_some_and(|c| c.0 == Layout::Davis) { "pixels of frames, IMU samples, triggers" } else { "special" };
        let s = if self.others == 1 { "" } else { "s" };
        Some(format!("{} other record{s} ({what})", self.others)).filter(|_| self.others > 0).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn file(header: &str, records: &[(u32, u32)]) -> Vec<u8> {
        let mut out = format!("#!AER-DAT2.0\r\n{header}").into_bytes();
        for (a, t) in records {
            out.extend(a.to_be_bytes());
            out.extend(t.to_be_bytes());
        }
        out
    }

    fn ev(t: i64, x: u16, y: u16, p: bool) -> Event {
        Event { t, x, y, p }
    }

    #[test]
    fn layouts() {
        let records = [(5 << 8 | 7 << 1, 3_000_000_000), (0x8001, 1), (1, 5)];
        let want = [ev(3_000_000_000, 120, 5, true), ev((1 << 32) + 5, 127, 0, false)];
        let bytes = file("# AEChip: a.b.DVS128\r\n", &records);
        for piece in [1, 7, 9999] {
            assert_eq!(in_pieces(&FORMAT, &bytes, piece), (want.to_vec(), Ok(())));
        }
        assert_eq!(decode(&FORMAT, &file("", &records)).unwrap(), want);
        let records = [(9 << 22 | 4 << 12 | 1 << 11, 5), (1 << 31, 6), (1 << 10, 7)];
        for header in ["# HardwareInterface: DAVIS FX2\n", ""] {
            let events = decode(&FORMAT, &file(header, &records)).unwrap();
            assert_eq!(events, [ev(5, 4, 9, true)]);
        }
        // Data that begin with the header's mark.
        let records = [(0x2300_0000 | 4 << 12, 5)];
        let bytes = file("# AEChip: Davis346blue\n", &records);
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), [ev(5, 4, 140, false)]);
        let old = [&b"#!AER-DAT1.0\n"[..], &[2, 0, 0, 0, 0, 9]].concat();
        assert_eq!(decode(&FORMAT, &old).unwrap(), [ev(9, 127, 2, true)]);
    }

    #[test]
    fn a_cochlea_is_no_camera() {
        let records: Vec<_> = (0..100).map(|i| (i * 9, i)).collect();
        for header in ["", "# AEChip: x.CochleaAMS1c\n"] {
            let e = decode(&FORMAT, &file(header, &records)).unwrap_err();
            assert!(e.message.contains("cochlea"), "{e}");
        }
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let bytes = file("# x\n", &[(1, 1), (2, 2)]);
        let (events, end) = in_pieces(&FORMAT, &bytes[..bytes.len() - 3], 5);
        assert_eq!(events.len(), 1);
        assert_eq!(end.unwrap_err().offset, bytes.len() as u64 - 8);
        assert!(decode(&FORMAT, b"#!AER-DAT2.0\n# AEChip: DVS").is_err());
        assert_eq!(decode(&FORMAT, b"#!AER-DAT2.0\n# AEChip: DVS128\n"), Ok(vec![]));
    }
}
