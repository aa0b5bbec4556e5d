//! Prophesee RAW, EVT2 and EVT2.1.
//!
//! EVT2: little-endian words of 32 bits; the upper four say what it is: 0 off, 1 on (6 bits of time, 11 of x, 11 of y), 8
//! the upper 28 bits of the time, anything else (triggers, extensions) is skipped. EVT2.1: words of 64 bits with the same
//! fields and, in the lower half, a mask of up to 32 neighbours in x. Times start again at 0 after 4.8 hours.

use super::evt::{self, Header, High, RawDecoder, Version, Words};
use super::lines::fill;
use super::{Event, EventStream, Format, Sensor};

/// The format EVT2.
pub static FORMAT: Format = Format {
    name: "evt2",
    about: "Prophesee RAW EVT2",
    extensions: &["raw", "bin"],
    sniff: |head, named| evt::is(head, Version::Evt2) || headless(head, named),
    decoder: || Box::<RawDecoder<Evt2>>::default(),
    encode: Some(encode),
    keeps_sensor: true,
    marked: false,
};

/// The format EVT2.1.
pub static FORMAT_21: Format = Format {
    name: "evt21",
    about: "Prophesee RAW EVT2.1",
    extensions: &["raw"],
    sniff: |head, _| evt::is(head, Version::Evt21),
    decoder: || Box::<RawDecoder<Evt21>>::default(),
    encode: None,
    keeps_sensor: false,
    marked: false,
};

const TIME_HIGH: u32 = 8;
const BLOCK: usize = 2048;
/// Upper parts of the time are 28 bits wide, lower ones 6.
const HIGH: u32 = 28;
const LOW: u32 = 6;

/// Words without a header: the first tells the time, the times are in order, and there are no unknown words. That is enough of a file
/// that is named like it; of another [`is_certain`] asks more.
fn headless(head: &[u8], named: bool) -> bool {
    let (words, rest) = head.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
    words.len() >= 8
        && words[0] >> 28 == TIME_HIGH
        && words.iter().all(|w| matches!(w >> 28, 0 | 1 | 8 | 10 | 14 | 15))
        && words.iter().any(|w| *w >> 28 < 2)
        && highs(&words).is_sorted()
        && (named || rest.is_empty() && is_certain(&words))
}

fn highs(words: &[u32]) -> impl Iterator<Item = u32> {
    words.iter().filter(|w| *w >> 28 == TIME_HIGH).map(|w| w & 0x0fff_ffff)
}

/// 64 words or more, times that go on by less than a second, both polarities, and no pixel beyond the largest sensor. A random word
/// passes with 2/16 x 1280/2048 x 720/2048 (a pixel) + 3/16 (triggers, extensions) = 0.215, and hardly ever as a time in order; so
/// one of 10^42 random files does.
fn is_certain(words: &[u32]) -> bool {
    const SURE: usize = 64;
    const SECOND: u32 = 1_000_000 >> LOW;
    const LARGEST: Sensor = Sensor::new(1280, 720);
    let mut pixels = words.iter().filter(|w| *w >> 28 < 2);
    words.len() >= SURE
        && highs(words).zip(highs(words).skip(1)).all(|(a, b)| b - a < SECOND)
        && highs(words).min() < highs(words).max()
        && [0, 1].iter().all(|kind| words.iter().any(|w| w >> 28 == *kind))
        && pixels.all(|w| (w >> 11 & 0x7ff) < LARGEST.width && (w & 0x7ff) < LARGEST.height)
}

#[derive(Debug, Default)]
struct Evt2 {
    high: High,
    base: i64,
    timeless: u64,
}

impl Evt2 {
    /// Words before the first time; how many.
    fn skip<const N: usize>(&mut self, words: &[[u8; N]]) -> usize {
        if self.high.known() {
            return 0;
        }
        let top = |w: &[u8; N]| u32::from(w[N - 1] >> 4);
        let n = words.iter().position(|w| top(w) == TIME_HIGH);
        let n = n.unwrap_or(words.len());
        self.timeless += words[..n].iter().filter(|w| top(w) < 2).count() as u64;
        n
    }
}

impl Words for Evt2 {
    const SIZE: usize = 4;
    const VERSION: Version = Version::Evt2;

    fn words(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let (words, _) = bytes.as_chunks::<4>();
        let words = &words[self.skip(words)..];
        out.reserve(words.len());
        for block in words.chunks(BLOCK) {
            fill(out, block.len(), |slots| {
                let mut n = 0;
                for w in block {
                    let w = u32::from_le_bytes(*w);
                    let kind = w >> 28;
                    if kind == TIME_HIGH {
                        self.base = self.high.set(w & 0x0fff_ffff, HIGH, LOW);
                    }
                    slots[n] = Event {
                        t: self.base + i64::from(w >> 22 & 63),
                        x: (w >> 11 & 0x7ff) as u16,
                        y: (w & 0x7ff) as u16,
                        p: kind & 1 == 1,
                    };
                    n += usize::from(kind < 2);
                }
                n
            });
        }
    }

    fn timeless(&self) -> u64 {
        self.timeless
    }
}

#[derive(Debug, Default)]
struct Evt21 {
    inner: Evt2,
    swapped: bool,
}

impl Words for Evt21 {
    const SIZE: usize = 8;
    const VERSION: Version = Version::Evt21;

    fn begin(&mut self, header: &Header) {
        self.swapped = header.swapped;
    }

    fn words(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let swap = |w: &[u8; 8]| {
            let w = u64::from_le_bytes(*w);
            if self.swapped { w.rotate_left(32) } else { w }.to_le_bytes()
        };
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<[u8; 8]> = words.iter().map(swap).collect();
        let inner = &mut self.inner;
        let words = &words[inner.skip(&words)..];
        out.reserve(words.len());
        for w in words {
            let w = u64::from_le_bytes(*w);
            let (kind, d) = ((w >> 60) as u32, (w >> 32) as u32);
            match kind {
                0 | 1 => {
                    let t = inner.base + i64::from(d >> 22 & 63);
                    let (x, y) = ((d >> 11 & 0x7ff) as u16, (d & 0x7ff) as u16);
                    let mut mask = w as u32;
                    while mask != 0 {
                        out.push(Event { t, x: x + mask.trailing_zeros() as u16, y, p: kind == 1 });
                        mask &= mask - 1;
                    }
                }
                TIME_HIGH => inner.base = inner.high.set(d & 0x0fff_ffff, HIGH, LOW),
                _ => {}
            }
        }
    }

    fn timeless(&self) -> u64 {
        self.inner.timeless
    }
}

/// The EVT2 file for a recording.
///
/// # Errors
/// Coordinates above 2047, times outside 0..2^43 microseconds, or a step back of more than 2.4 hours.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let sensor = stream.sensor_declared.then_some(stream.sensor);
    let mut out = evt::write_header("2.0", "EVT2", sensor);
    out.reserve(stream.events.len() * 5);
    let mut last = 0;
    out.extend((TIME_HIGH << 28).to_le_bytes());
    for (i, e) in stream.events.iter().enumerate() {
        evt::check(i, e)?;
        let high = e.t >> LOW;
        if high < last - evt::step(HIGH) {
            let back = (last - high) << LOW;
            return Err(format!("event {i} lies {back} us before the one before it; in an EVT2 file that reads as a later time"));
        }
        while high != last {
            last = evt::climb(last, high, HIGH);
            out.extend((TIME_HIGH << 28 | (last as u32 & 0x0fff_ffff)).to_le_bytes());
        }
        let low = (e.t & 63) as u32;
        let w = u32::from(e.p) << 28 | low << 22 | u32::from(e.x) << 11 | u32::from(e.y);
        out.extend(w.to_le_bytes());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn e(t: i64, x: u16, y: u16, p: bool) -> Event {
        Event { t, x, y, p }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn evt2() {
        let data = words(&[
            1 << 28, // before any time
            8 << 28 | 2,
            1 << 28 | 5 << 22 | 7 << 11 | 9,
            10 << 28 | 77, // a trigger
            9 << 11 | 3,
            8 << 28 | 1,
            1 << 28 | 1,
        ]);
        let bytes = [b"% evt 2.0\n% geometry 20x10\n".to_vec(), data.clone()].concat();
        let want = vec![e(133, 7, 9, true), e(128, 9, 3, false), e(64, 0, 1, true)];
        for piece in [1, 6, 100] {
            assert_eq!(in_pieces(&FORMAT, &bytes, piece), (want.clone(), Ok(())));
        }
        let mut d = (FORMAT.decoder)();
        d.push(&bytes, &mut Vec::new()).unwrap();
        assert_eq!(d.sensor(), Some(Sensor::new(20, 10)));
        assert!(d.warnings()[0].starts_with("1 events before"));
        assert_eq!(decode(&FORMAT, &data).unwrap(), want);
        assert_eq!(in_pieces(&FORMAT, &bytes[..bytes.len() - 1], 9).1.unwrap_err().offset, 51);
        assert!(decode(&FORMAT, b"% evt 3.0\n\0\0\0\0").unwrap_err().message.contains("3.0"));
    }

    #[test]
    fn evt21() {
        let high = 8u64 << 60 | 3 << 32;
        let on = 1u64 << 60 | 2 << 54 | 32 << 43 | 5 << 32 | 0b101;
        for (header, turn) in [("% evt 2.1\n", 0), ("% format EVT21;endianness=legacy\n", 32)] {
            let body = [high, on].map(|w| w.rotate_right(turn).to_le_bytes()).concat();
            let bytes = [header.as_bytes(), &body].concat();
            assert!((FORMAT_21.sniff)(&bytes, false) && !(FORMAT.sniff)(&bytes, true));
            let events = decode(&FORMAT_21, &bytes).unwrap();
            assert_eq!(events, [e(194, 32, 5, true), e(194, 34, 5, true)]);
        }
    }

    #[test]
    fn long_pauses_are_kept() {
        let events = vec![e(5, 1, 1, true), e(1 << 40, 2, 2, false), e((1 << 40) - 90, 3, 3, true)];
        let stream = EventStream::new(events, Sensor::new(9, 9));
        assert_eq!(decode(&FORMAT, &encode(&stream).unwrap()).unwrap(), stream.events);
        let back = EventStream::new(vec![e(1 << 40, 0, 0, true), e(0, 0, 0, true)], Sensor::new(9, 9));
        assert!(encode(&back).unwrap_err().contains("before the one before"));
    }
}
