//! ATIS 40-bit `.bin` / `.bs2` files, as N-MNIST and N-Caltech101 are published.
//!
//! Five bytes an event and no header: x, y, then polarity in the top bit (1 = on) and 23 bits of time in microseconds, big
//! end first. A record with y = 240 is no event but an overflow of the timestamp: all events behind it are 2^13
//! microseconds later than they say (as in the dataset authors' readers). The sensor's size is not in the file.

use super::{Carry, DecodeError, Decoder, Event, EventStream, Format};

/// The format.
pub static FORMAT: Format = Format {
    name: "atis",
    about: "ATIS 40-bit events (N-MNIST, N-Caltech101)",
    extensions: &["bin", "bs2"],
    sniff,
    decoder: || Box::<AtisDecoder>::default(),
    encode: Some(encode),
    keeps_sensor: false,
    marked: false,
};

const OVERFLOW_ROW: u8 = 240;
/// An overflow as it is written.
const OVERFLOW: [u8; 5] = [0, OVERFLOW_ROW, 0, 0, 0];
const OVERFLOW_STEP: i64 = 1 << 13;
const TIME_LIMIT: i64 = 1 << 23;
/// So many events tell the format without its name.
const SURE: usize = 64;
/// Nothing happens for longer only where somebody says what it is a recording of.
const PAUSE: i64 = 1_000_000;

/// Decoder of 40-bit events.
#[derive(Debug, Default)]
pub struct AtisDecoder {
    carry: Carry,
    base: i64,
}

#[inline]
fn record(r: &[u8; 5]) -> Event {
    Event { t: i64::from(u32::from_be_bytes([0, r[2] & 0x7f, r[3], r[4]])), x: r[0].into(), y: r[1].into(), p: r[2] & 0x80 != 0 }
}

impl Decoder for AtisDecoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let base = &mut self.base;
        self.carry.feed(bytes, |bytes, _| {
            let (records, _) = bytes.as_chunks::<5>();
            out.reserve(records.len());
            for r in records {
                if r[1] == OVERFLOW_ROW {
                    *base += OVERFLOW_STEP;
                } else {
                    let mut e = record(r);
                    e.t += *base;
                    out.push(e);
                }
            }
            Ok(records.len() * 5)
        })
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), DecodeError> {
        match self.carry.rest().len() {
            0 => Ok(()),
            n => Err(DecodeError::new(self.carry.offset(), format!("the file ends after {n} of an event's 5 bytes"))),
        }
    }
}

/// Nothing marks the format: its name says it of what looks like it, and what can be nothing else needs no name.
fn sniff(head: &[u8], named: bool) -> bool {
    named && looks_like_it(head) || is_certain(head) || begins_late(head)
}

/// A recording that begins late begins with overflows, which are like nothing else.
fn begins_late(head: &[u8]) -> bool {
    let (records, _) = head.as_chunks::<5>();
    records.len() >= SURE && records[..SURE].iter().all(|r| *r == OVERFLOW)
}

/// Records of 64 events or more (a part of one may follow, where the file was cut) on the sensor's 240 rows, times that never step back, seldom stand still and never pause for a
/// second, both polarities, more than one pixel. The times alone are in order in one of 64! = 10^89 random files; text has one polarity.
fn is_certain(head: &[u8]) -> bool {
    let (mut decoder, mut events) = (AtisDecoder::default(), Vec::new());
    if decoder.push(head, &mut events).is_err() || events.len() < SURE {
        return false;
    }
    let steps = || events.windows(2).map(|e| e[1].t - e[0].t);
    events.iter().all(|e| e.y < OVERFLOW_ROW.into())
        && steps().all(|us| (0..PAUSE).contains(&us))
        && steps().filter(|us| *us > 0).count() * 4 >= events.len()
        && events.iter().any(|e| e.p != events[0].p)
        && events.iter().any(|e| (e.x, e.y) != (events[0].x, events[0].y))
}

/// Times in order, but for some, and not all records alike. Of random bytes three steps in four go back or pause for seconds.
fn looks_like_it(head: &[u8]) -> bool {
    let (records, rest) = head.as_chunks::<5>();
    if records.is_empty() {
        return false;
    }
    if records.len() < 4 {
        return rest.is_empty();
    }
    let (mut base, mut last, mut back) = (0, 0, 0);
    for r in records {
        if r[1] == OVERFLOW_ROW {
            base += OVERFLOW_STEP;
            continue;
        }
        let t = base + record(r).t;
        back += usize::from(t < last || t > last + 2_000_000);
        last = t;
    }
    back * 4 <= records.len() && records.iter().any(|r| r != &records[0])
}

/// The file for a recording.
///
/// # Errors
/// A coordinate above 255, row 240, a negative time, or a time that takes more than 2^20 overflow records (2.4 hours).
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(stream.events.len() * 5);
    let mut base = 0;
    for (i, e) in stream.events.iter().enumerate() {
        let (Ok(x), Ok(y)) = (u8::try_from(e.x), u8::try_from(e.y)) else {
            return Err(format!("event {i} at ({}, {}): ATIS files hold coordinates up to 255", e.x, e.y));
        };
        if y == OVERFLOW_ROW {
            return Err(format!("event {i} in row 240, which marks overflows in ATIS files"));
        }
        if e.t >= TIME_LIMIT + (OVERFLOW_STEP << 20) {
            let latest = TIME_LIMIT + (OVERFLOW_STEP << 20) - 1;
            return Err(format!(
                "event {i} at {} us is too late for an ATIS file, whose times are written up to {latest} us",
                e.t
            ));
        }
        while e.t - base >= TIME_LIMIT {
            out.extend(OVERFLOW);
            base += OVERFLOW_STEP;
        }
        let t = e.t - base;
        if t < 0 {
            return Err(format!("event {i} at {} us lies before what an ATIS file can say there", e.t));
        }
        let t = t as u32 | u32::from(e.p) << 23;
        out.extend([x, y]);
        out.extend(&t.to_be_bytes()[1..]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::file::HEAD;
    use super::super::{Sensor, decode};
    use super::*;

    fn ev(t: i64, x: u16, y: u16, p: bool) -> Event {
        Event { t, x, y, p }
    }

    #[test]
    fn layout() {
        let bytes = [1, 2, 0x80, 1, 2, 3, 240, 9, 9, 9, 5, 6, 0x7f, 0xff, 0xff];
        let want = [ev(258, 1, 2, true), ev(0x7f_ffff + 8192, 5, 6, false)];
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), want);
        let cut = super::super::testing::in_pieces(&FORMAT, &bytes[..12], 7);
        assert_eq!(cut.0, want[..1]);
        assert_eq!(cut.1.unwrap_err().offset, 10);
    }

    #[test]
    fn late_times_take_overflow_records() {
        let events = vec![ev(3, 0, 0, true), ev(9_000_000, 255, 239, false), ev(8_999_000, 1, 1, true)];
        let stream = EventStream::new(events, Sensor::new(256, 240));
        let bytes = encode(&stream).unwrap();
        assert!(bytes.len() > 15);
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), stream.events);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for e in [ev(-1, 0, 0, true), ev(0, 256, 0, true), ev(0, 0, 240, true), ev(1 << 40, 0, 0, true)] {
            assert!(encode(&EventStream::new(vec![e], Sensor::new(300, 300))).is_err());
        }
    }

    /// One that begins after minutes by its content, one whose every fifth event steps back by its name.
    #[test]
    fn late_and_shuffled_recordings_are_told() {
        let events = |t: fn(i64) -> i64| (0..400).map(|i| ev(t(i), (i % 30) as u16, (i % 20) as u16, i % 2 == 0)).collect();
        let file = |events| encode(&EventStream::new(events, Sensor::new(34, 34))).unwrap();
        let late = file(events(|i| 400_000_000 + 50 * i));
        assert!(late.len() > HEAD && sniff(&late[..HEAD], false));
        let shuffled = file(events(|i| 1000 * i - if i % 5 == 4 { 3000 } else { 0 }));
        assert!(sniff(&shuffled, true) && !sniff(&shuffled, false));
    }

    #[test]
    fn other_files_are_not_taken_for_it() {
        let text = b"0.001 23 45 1\n0.002 24 45 0\n".repeat(20);
        assert!(!sniff(&text, true) && !sniff(&[0; 500], true) && !sniff(&[], true));
    }

    /// A file that was cut within a record is known without its name.
    #[test]
    fn cut_files_are_known() {
        let events = (0..400).map(|i| ev(i * 3, (i % 30) as u16, (i % 20) as u16, i % 2 == 0)).collect();
        let bytes = encode(&EventStream { events, ..EventStream::default() }).unwrap();
        assert!(sniff(&bytes, false) && sniff(&bytes[..bytes.len() - 1], false) && sniff(&bytes[..502], false));
    }
}
