//! Prophesee RAW, EVT3.
//!
//! Little-endian words of 16 bits, the upper four of which say what it is: 0 the row; 2 the column and polarity of one
//! event; 3 the column and polarity at which vectors begin; 4 and 5 vectors of 12 and 8 columns, a bit for each; 6 and 8
//! the lower and upper 12 bits of the time. Anything else is skipped. Times start again at 0 after 16.8 seconds, so a
//! pause in a recording must not be longer than half of that, as cameras see to.

use super::evt::{self, High, RawDecoder, Version, Words};
use super::{Event, EventStream, Format};
use std::hint::select_unpredictable;

/// The format.
pub static FORMAT: Format = Format {
    name: "evt3",
    about: "Prophesee RAW EVT3",
    extensions: &["raw"],
    sniff: |head, _| evt::is(head, Version::Evt3),
    decoder: || Box::<RawDecoder<Evt3>>::default(),
    encode: Some(encode),
    keeps_sensor: true,
    marked: false,
};

const ADDR_Y: u16 = 0x0;
const ADDR_X: u16 = 0x2;
const VECT_BASE: u16 = 0x3;
const VECT_12: u16 = 0x4;
const VECT_8: u16 = 0x5;
const TIME_LOW: u16 = 0x6;
const TIME_HIGH: u16 = 0x8;
const POLARITY: u16 = 1 << 11;
/// Upper and lower parts of the time are 12 bits wide.
const BITS: u32 = 12;
/// Events are gathered in a small array before they are appended.
const GATHER: usize = 512;

/// EVT3 with the times that the Python reader expelliarmus 1.1.12 gives, to compare with what was read by it; only by name.
///
/// It takes every step down of the lower part for a wrap of 4096 microseconds, although the upper part tells of wraps
/// already and cameras repeat some microseconds: its times run ahead, up to twice as fast as the clock. By Prophesee's
/// description of the format and their own decoder (OpenEB, `evt3_decoder.h`) the lower part is replaced, never counted.
pub static EXPELLIARMUS: Format = Format {
    name: "evt3-expelliarmus",
    about: "Prophesee RAW EVT3, with expelliarmus' times",
    extensions: &["raw"],
    sniff: |_, _| false,
    decoder: || Box::new(RawDecoder::of(Evt3 { low_drops_count: true, ..Evt3::default() })),
    encode: None,
    keeps_sensor: false,
    marked: false,
};

/// The state between words.
#[derive(Debug, Default)]
pub(super) struct Evt3 {
    low_drops_count: bool,
    ahead: i64,
    high: High,
    base: i64,
    low: u16,
    t: i64,
    x: u16,
    y: u16,
    p: bool,
    timeless: u64,
}

impl Words for Evt3 {
    const SIZE: usize = 2;
    const VERSION: Version = Version::Evt3;

    fn words(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let (words, _) = bytes.as_chunks::<2>();
        let mut words = words.iter().map(|w| u16::from_le_bytes(*w));
        if !self.high.known() {
            // Up to the first upper part of the time.
            for w in words.by_ref() {
                match w >> 12 {
                    TIME_HIGH => {
                        self.set_high(w);
                        break;
                    }
                    ADDR_X => self.timeless += 1,
                    VECT_12 | VECT_8 => self.timeless += u64::from((w & 0xfff).count_ones()),
                    ADDR_Y => self.y = w & 0x7ff,
                    _ => {}
                }
            }
        }
        let mut gathered = [Event::default(); GATHER];
        let mut n = 0;
        for w in words {
            if n > GATHER - 12 {
                out.extend_from_slice(&gathered[..n]);
                n = 0;
            }
            let (kind, v) = (w >> 12, w & 0x7ff);
            // Which of these three comes next cannot be foretold where events are scattered: hence no branch between them.
            if matches!(kind, ADDR_X | ADDR_Y | TIME_LOW) && !self.low_drops_count {
                gathered[n] = Event { t: self.t, x: v, y: self.y, p: w & POLARITY != 0 };
                n += usize::from(kind == ADDR_X);
                self.y = select_unpredictable(kind == ADDR_Y, v, self.y);
                self.t = select_unpredictable(kind == TIME_LOW, self.base + i64::from(w & 0xfff), self.t);
                continue;
            }
            match kind {
                ADDR_X => {
                    gathered[n] = Event { t: self.t, x: v, y: self.y, p: w & POLARITY != 0 };
                    n += 1;
                }
                ADDR_Y => self.y = v,
                TIME_LOW => self.set_low(w),
                VECT_12 => n += self.vector::<12>(w, &mut gathered[n..]),
                VECT_8 => n += self.vector::<8>(w, &mut gathered[n..]),
                VECT_BASE => {
                    self.x = v;
                    self.p = w & POLARITY != 0;
                }
                TIME_HIGH => self.set_high(w),
                _ => {}
            }
        }
        out.extend_from_slice(&gathered[..n]);
    }

    fn timeless(&self) -> u64 {
        self.timeless
    }
}

impl Evt3 {
    fn set_high(&mut self, w: u16) {
        let base = self.high.set(u32::from(w & 0xfff), BITS, BITS);
        // The lower part of another upper part comes right behind it.
        if base != self.base {
            self.base = base;
            self.t = base + self.ahead;
        }
    }

    #[inline]
    fn set_low(&mut self, w: u16) {
        let low = w & 0xfff;
        if self.low_drops_count {
            self.ahead += i64::from(low < self.low) << BITS;
        }
        self.low = low;
        self.t = self.base + self.ahead + i64::from(low);
    }

    /// The events of a vector of N columns; how many.
    #[inline]
    fn vector<const N: usize>(&mut self, mask: u16, out: &mut [Event]) -> usize {
        let Some(out) = out.first_chunk_mut::<N>() else {
            return 0;
        };
        let mut n = 0;
        for i in 0..N {
            out[n.min(N - 1)] = Event { t: self.t, x: self.x.wrapping_add(i as u16), y: self.y, p: self.p };
            n += usize::from(mask >> i & 1);
        }
        self.x = self.x.wrapping_add(N as u16);
        n
    }
}

/// The file for a recording; neighbours of one row, time and polarity become vectors.
///
/// # Errors
/// Coordinates above 2047, times outside 0..2^43 microseconds, or a step back of more than 8 seconds.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let sensor = stream.sensor_declared.then_some(stream.sensor);
    let mut out = evt::write_header("3.0", "EVT3", sensor);
    out.reserve(stream.events.len() * 4);
    let mut put = |kind: u16, v: u16| out.extend((kind << 12 | v).to_le_bytes());
    put(TIME_HIGH, 0);
    let (mut last, mut low, mut row) = (0, None, None);
    let events = &stream.events;
    let mut i = 0;
    while let Some(e) = events.get(i) {
        evt::check(i, e)?;
        let high = e.t >> BITS;
        if high < last - evt::step(BITS) {
            let back = (last - high) << BITS;
            return Err(format!(
                "event {i} lies about {back} us before the one before it; in an EVT3 file that reads as a later time"
            ));
        }
        while high != last {
            last = evt::climb(last, high, BITS);
            put(TIME_HIGH, last as u16 & 0xfff);
            // Readers take the lower part of a new upper part for 0 until it comes.
            low = None;
        }
        let now = e.t as u16 & 0xfff;
        if low != Some(now) {
            put(TIME_LOW, now);
            low = Some(now);
        }
        if row != Some(e.y) {
            put(ADDR_Y, e.y);
            row = Some(e.y);
        }
        // As many of the following as are in order of column within 12.
        let alike = |f: &&Event| f.t == e.t && f.y == e.y && f.p == e.p && f.x <= 2047;
        let run = events[i..].iter().take(12).take_while(alike);
        let (mut mask, mut end, mut n) = (0, e.x, 0);
        for f in run {
            if f.x < end || f.x - e.x >= 12 {
                break;
            }
            mask |= 1u16 << (f.x - e.x);
            end = f.x + 1;
            n += 1;
        }
        let p = u16::from(e.p) << 11;
        if n > 2 {
            put(VECT_BASE, p | e.x);
            put(VECT_12, mask);
            i += n;
        } else {
            put(ADDR_X, p | e.x);
            i += 1;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Sensor, decode, testing::in_pieces};
    use super::*;

    fn e(t: i64, x: u16, y: u16, p: bool) -> Event {
        Event { t, x, y, p }
    }

    #[test]
    fn layout() {
        let words = [
            0x2001u16, // before any time
            0x8001, 0x6002, 0x0007, 0x2805, 0x3803, 0x4801, 0x5081, 0x7000, 0xe123, 0x8fff, 0x8000, 0x2001,
        ];
        let body: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let bytes = [b"% evt 3.0\n% end\n".to_vec(), body].concat();
        assert!((FORMAT.sniff)(&bytes, false));
        let t = 4096 + 2;
        let want = vec![
            e(t, 5, 7, true),
            e(t, 3, 7, true),
            e(t, 14, 7, true),
            e(t, 15, 7, true),
            e(t, 22, 7, true),
            e(1 << 24, 1, 7, false),
        ];
        for piece in [1, 5, 100] {
            assert_eq!(in_pieces(&FORMAT, &bytes, piece), (want.clone(), Ok(())));
        }
        let mut d = (FORMAT.decoder)();
        d.push(&bytes, &mut Vec::new()).unwrap();
        assert!(d.warnings()[0].starts_with("1 events"));
    }

    #[test]
    fn vectors_and_wraps_are_written() {
        let mut events: Vec<_> = (0..40).map(|i| e(5, i, 3, true)).collect();
        events.extend([e(60_000_000, 2, 2, false), e(60_000_000, 1, 2, false), e(59_000_000, 1, 2, true)]);
        let stream = EventStream::new(events, Sensor::new(90, 9));
        let bytes = encode(&stream).unwrap();
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), stream.events);
        assert!(bytes.len() < 150, "{}", bytes.len());
        let back = EventStream::new(vec![e(20_000_000, 0, 0, true), e(0, 0, 0, true)], stream.sensor);
        assert!(encode(&back).unwrap_err().contains("before the one before"));
    }
}
