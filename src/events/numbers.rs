//! Columns of numbers as containers hold them (NumPy, MATLAB, HDF5), and events made of four of them.

use super::columns::{By, Order, Polarity, Unit, doubt, is_coarse, unit_of};
use super::{DecodeError, Event};
use std::borrow::Cow;
use std::ops::Range;

/// The type of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    /// Floating point; else an integer or a truth value.
    pub float: bool,
    /// Below zero too.
    pub signed: bool,
    /// Bytes.
    pub size: usize,
    /// Big end first.
    pub big: bool,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Numbers with fractions.
    Floats(Vec<f64>),
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers::Ints(Vec::new())
    }
}

/// A number of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}

impl Kind {
    /// Whole numbers without gaps, little end first, as most columns are.
    fn side_by_side(self, bytes: &[u8], n: usize) -> Vec<i64> {
        macro_rules! all {
            ($($t:ident)*) => {
                match (self.signed, self.size) {
                    $((signed, size) if signed == ($t::MIN != 0) && size == size_of::<$t>() => {
                        let numbers = bytes.as_chunks().0.iter().take(n);
                        numbers.map(|b| i64::try_from($t::from_le_bytes(*b)).unwrap_or(i64::MAX)).collect()
                    })*
                    _ => Vec::new(),
                }
            };
        }
        all!(i8 u8 i16 u16 i32 u32 i64 u64)
    }
    /// The numbers that stand `stride` bytes apart, the first at `offset`; as many as there are, at most `n`.
    pub fn read(self, bytes: &[u8], offset: usize, stride: usize, n: usize) -> Numbers {
        if !self.float && !self.big && stride == self.size && [1, 2, 4, 8].contains(&self.size) {
            return Numbers::Ints(self.side_by_side(bytes.get(offset..).unwrap_or_default(), n));
        }
        let starts = (0..n).map_while(|i| offset.checked_add(i.checked_mul(stride)?));
        let words = starts.map_while(|at| {
            let b = bytes.get(at..at.checked_add(self.size)?)?;
            let mut w = [0; 8];
            if self.size > 8 {
                return None;
            }
            if self.big {
                b.iter().rev().zip(&mut w).for_each(|(b, w)| *w = *b);
            } else {
                w[..self.size].copy_from_slice(b);
            }
            Some(u64::from_le_bytes(w))
        });
        match (self.float, self.size) {
            (true, 2) => Numbers::Floats(words.map(|w| half(w as u16)).collect()),
            (true, 4) => Numbers::Floats(words.map(|w| f32::from_bits(w as u32).into()).collect()),
            (true, _) => Numbers::Floats(words.map(f64::from_bits).collect()),
            (false, size) => {
                let shift = 64 - 8 * size.clamp(1, 8) as u32;
                let signed = self.signed;
                let int = |w: u64| match signed {
                    true => ((w << shift) as i64) >> shift,
                    false => i64::try_from(w).unwrap_or(i64::MAX),
                };
                Numbers::Ints(words.map(int).collect())
            }
        }
    }
}

impl Numbers {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Ints(v) => v.len(),
            Numbers::Floats(v) => v.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Number `i`.
    pub fn get(&self, i: usize) -> Option<f64> {
        match self {
            Numbers::Ints(v) => v.get(i).map(|&v| v as f64),
            Numbers::Floats(v) => v.get(i).copied(),
        }
    }
    /// Number `i`, if it is whole.
    pub fn whole(&self, i: usize) -> Option<i64> {
        match self {
            Numbers::Ints(v) => v.get(i).copied(),
            Numbers::Floats(v) => {
                let v = v.get(i).copied()?;
                (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64)
            }
        }
    }
    /// Number `i` as a time in microseconds.
    fn time(&self, i: usize, unit: Unit) -> Option<i64> {
        match (self, unit) {
            (Numbers::Ints(v), Unit::Micro) => v.get(i).copied(),
            _ => unit.microseconds(self.get(i)?),
        }
    }
}

/// A column as a container holds it: numbers side by side, which are read as they are needed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Column<'a> {
    pub kind: Kind,
    /// From the first number on.
    pub bytes: &'a [u8],
    /// How many there are.
    pub len: usize,
}

impl Column<'_> {
    /// Some of the numbers.
    pub fn read(&self, rows: Range<usize>) -> Numbers {
        self.kind.read(self.bytes, rows.start.saturating_mul(self.kind.size), self.kind.size, rows.len().min(self.len))
    }
}

/// What there is to tell of a table whose columns became events.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The first row that is no event.
    bad: Option<String>,
    /// How many there are of them.
    n_bad: u64,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How the columns were told.
    pub read_as: Option<String>,
}

impl Told {
    /// The rows that are no events, as [`Decoder::skipped`](super::Decoder::skipped) says it; `offset` is where the table is.
    pub fn skipped(&self, offset: u64) -> Option<DecodeError> {
        self.bad.as_ref().map(|first| DecodeError::new(offset, left_out(first, self.n_bad)))
    }
}

/// What is wrong with the first of `n` rows that are left out.
pub(super) fn left_out(first: &str, n: u64) -> String {
    match n {
        1 => format!("{first}; this row is left out"),
        _ => format!("{first}; {n} such rows are left out"),
    }
}

/// Appends the events of the columns t, x, y and p, as far as all of them reach, and tells how they were read and of rows that are none.
/// `order` was found `by` names or values, or is what the user `asked` for; the unit that was asked for is that of named columns too.
///
/// # Errors
/// Columns of unequal lengths.
pub(super) fn events(
    columns: [&Numbers; 4],
    order: (&Order, By),
    asked: Option<Order>,
    out: &mut Vec<Event>,
    told: &mut Told,
) -> Result<(), String> {
    let read = |c: usize, _: Range<usize>| Cow::Borrowed(columns[c]);
    blocks(columns.map(Numbers::len), (usize::MAX, &read), order, asked, out, told)
}

/// [`events`] of columns that are decoded a block of rows at a time: as numbers of 64 bits four whole columns take twice the memory of
/// their events.
///
/// # Errors
/// Columns of unequal lengths.
pub(super) fn events_in_blocks(
    columns: [Column<'_>; 4],
    order: (&Order, By),
    asked: Option<Order>,
    out: &mut Vec<Event>,
    told: &mut Told,
) -> Result<(), String> {
    let read = |c: usize, rows| Cow::Owned(columns[c].read(rows));
    blocks(columns.map(|c| c.len), (1 << 16, &read), order, asked, out, told)
}

/// [`events`] of columns of so many numbers, of which `read` gives those of some rows: at most as many as is said with it.
fn blocks<'a>(
    n: [usize; 4],
    (most, read): (usize, &dyn Fn(usize, Range<usize>) -> Cow<'a, Numbers>),
    (order, by): (&Order, By),
    asked: Option<Order>,
    out: &mut Vec<Event>,
    told: &mut Told,
) -> Result<(), String> {
    let shortest = n.into_iter().min().unwrap_or(0);
    let step = most.min(shortest).max(1);
    let ranges = || (0..shortest).step_by(step).map(|from| from..shortest.min(from + step));
    let values = |c: usize| {
        ranges().flat_map(move |rows| {
            let part = read(c, rows.clone());
            (0..rows.len()).map_while(move |i| part.get(i))
        })
    };
    let asked = asked.and_then(|a| a.unit);
    let unit = asked.or(order.unit).unwrap_or_else(|| match ranges().next().map(|rows| read(0, rows)).as_deref() {
        Some(Numbers::Floats(_)) => unit_of(values(0)),
        _ => Unit::Micro,
    });
    told.read_as = Some(order.read_as(by, unit, asked.is_some()));
    let coded = Polarity::of(values(3));
    told.notes.extend(coded.note());
    let before = out.len();
    out.reserve(shortest);
    for range in ranges() {
        let parts = [0, 1, 2, 3].map(|c| read(c, range.clone()));
        rows(parts.each_ref().map(|p| &**p), range, (unit, coded), out, told);
    }
    let guessed = asked.is_none() && (order.unit.is_none() || by == By::Values);
    if let (true, Some(new)) = (guessed, out.get(before..))
        && let (Some(from), Some(to)) = (new.iter().map(|e| e.t).min(), new.iter().map(|e| e.t).max())
    {
        let letters = if by == By::Names { "txyp".to_owned() } else { order.letters() };
        told.notes.extend(doubt(unit, [from, to], new.len(), is_coarse(unit, values(0)), &letters));
    }
    match n.iter().any(|&n| n != shortest) {
        true => Err(format!("columns t, x, y, p of unequal lengths {n:?}")),
        false => Ok(()),
    }
}

/// The events of some rows of a table, of which here are the columns.
fn rows(
    [t, x, y, p]: [&Numbers; 4],
    range: Range<usize>,
    (unit, coded): (Unit, Polarity),
    out: &mut Vec<Event>,
    told: &mut Told,
) {
    let mut from = 0;
    if let (Numbers::Ints(t), Numbers::Ints(x), Numbers::Ints(y), Numbers::Ints(p), Unit::Micro) = (t, x, y, p, unit) {
        // Columns of whole numbers up to the first row that is no event: ten times as fast.
        let on = i64::from(coded == Polarity::FromOne) + 1;
        let rows = t.iter().zip(x).zip(y).zip(p).take(range.len());
        let events = rows.map_while(|(((t, x), y), p)| {
            let is_polarity = *p == on || *p == on - 1 || (*p == -1 && on == 1);
            let sound = (*x | *y) & !0xffff == 0 && is_polarity;
            sound.then_some(Event { t: *t, x: *x as u16, y: *y as u16, p: *p == on })
        });
        let before = out.len();
        out.extend(events);
        from = out.len() - before;
    }
    for i in from..range.len() {
        let place = |v: &Numbers| v.whole(i).and_then(|v| u16::try_from(v).ok());
        let at = |v: &Numbers| v.get(i).unwrap_or(0.0);
        let row = range.start + i;
        let what = match (t.time(i, unit), place(x), place(y), coded.on(at(p))) {
            (Some(t), Some(x), Some(y), Some(p)) => {
                out.push(Event { t, x, y, p });
                continue;
            }
            (Some(_), Some(_), Some(_), None) => {
                format!("event {row} has the polarity {}, where 0 (or -1) and 1 are known", at(p))
            }
            _ => format!("event {row} at time {}, ({}, {}) is on no sensor", at(t), at(x), at(y)),
        };
        told.bad.get_or_insert(what);
        told.n_bad += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let kind = |float, signed, size, big| Kind { float, signed, size, big };
        let read = |k: Kind, b: &[u8]| k.read(b, 0, k.size, 9);
        assert_eq!(read(kind(false, true, 2, true), &[0xff, 0xfe, 0, 1, 9]), Numbers::Ints(vec![-2, 1]));
        assert_eq!(read(kind(false, false, 2, false), &[0xfe, 0xff]), Numbers::Ints(vec![65534]));
        let halves = [0x00, 0x3c, 0x00, 0xc2, 0x01, 0x00];
        let want = vec![1.0, -3.0, 2f64.powi(-24)];
        assert_eq!(read(kind(true, true, 2, false), &halves), Numbers::Floats(want));
        assert_eq!(read(kind(true, true, 4, true), &1.5f32.to_be_bytes()), Numbers::Floats(vec![1.5]));
    }

    /// Without gaps and with, each size reads the same; what no size has is nothing.
    #[test]
    fn columns_side_by_side() {
        let bytes: Vec<u8> = (0..48u8).map(|i| i.wrapping_mul(37).wrapping_add(200)).collect();
        for (signed, size) in [1, 2, 4, 8].into_iter().flat_map(|n| [(true, n), (false, n)]) {
            let k = Kind { float: false, signed, size, big: false };
            let spread: Vec<u8> = bytes.chunks(size).flat_map(|b| [b, &[9; 3]].concat()).collect();
            for n in [0, 1, 3, 99] {
                let want = k.read(&spread, 0, size + 3, n);
                assert_eq!(k.read(&bytes, 0, size, n), want, "{signed} {size} {n}");
                assert_eq!(want.len(), n.min(48 / size));
            }
        }
        assert!(Kind { float: false, signed: true, size: 2, big: false }.read(&bytes, 999, 2, 2).is_empty());
    }

    /// Thousandths of seconds are doubted unless they are asked for; the unit that is asked for is that of named columns.
    #[test]
    fn milliseconds_with_fractions() {
        let t = Numbers::Floats((0..100).map(|i| f64::from(i) * 3.125).collect());
        let ones = Numbers::Ints(vec![1; 100]);
        let found = Order::parse("txyp").unwrap();
        let read = |by, asked: Option<&str>| {
            let (mut out, mut told) = (Vec::new(), Told::default());
            let asked = asked.map(|a| Order::parse(a).unwrap());
            events([&t, &ones, &ones, &ones], (&found, by), asked, &mut out, &mut told).unwrap();
            (out.last().unwrap().t, told.notes, told.read_as.unwrap())
        };
        for by in [By::Names, By::Values] {
            let (t, notes, how) = read(by, None);
            assert_eq!(t, 309_375_000);
            assert!(notes.len() == 1 && notes[0].ends_with("--columns txyp:ms says so"), "{notes:?}");
            assert!(how.ends_with("times in seconds, for they have fractions"));
            let (t, notes, how) = read(by, Some("txyp:ms"));
            assert_eq!((t, notes), (309_375, vec![]));
            assert!(how.ends_with("times in milliseconds, as asked for"), "{how}");
        }
        assert_eq!(read(By::Names, Some("txyp:s")).1, Vec::<String>::new());
    }

    /// Nanoseconds, as whole numbers or as floats without fractions.
    #[test]
    fn nanoseconds() {
        let times: Vec<i64> = (0..1000).map(|i| 1_700_000_000_000_000_000 + i * 51_200).collect();
        let floats = Numbers::Floats(times.iter().map(|&t| t as f64).collect());
        let ones = Numbers::Ints(vec![1; 1000]);
        for t in [Numbers::Ints(times), floats] {
            let read = |asked: Option<&str>, found: &str| {
                let (mut out, mut told) = (Vec::new(), Told::default());
                let order = (&Order::parse(found).unwrap(), By::Names);
                events([&t, &ones, &ones, &ones], order, asked.map(|a| Order::parse(a).unwrap()), &mut out, &mut told).unwrap();
                (out.last().unwrap().t - out[0].t, told.notes)
            };
            let (last, notes) = read(None, "txyp");
            assert!(last == 51_148_800 && notes.len() == 1 && notes[0].ends_with("--columns txyp:ns says so"), "{notes:?}");
            assert_eq!(read(Some("txyp:ns"), "txyp"), (51_149, vec![]));
            // A name that says the unit is believed.
            assert_eq!(read(None, "txyp:us"), (51_148_800, vec![]));
        }
    }

    /// In blocks as at once.
    #[test]
    fn columns_in_blocks() {
        let n = 200_000usize;
        let kind = |float, signed, size| Kind { float, signed, size, big: false };
        let column = |f: &dyn Fn(usize) -> Vec<u8>| (0..n).flat_map(f).collect::<Vec<u8>>();
        let [x, y] = [90, 70].map(|m| column(&move |i| vec![(i % m) as u8]));
        // A row that is none behind the first block, and a polarity that tells the coding in the last.
        let p = column(&|i| {
            vec![match i {
                150_000 => 9,
                _ => u8::from(i % 3 == 0),
            }]
        });
        let coded = column(&|i| vec![1 + u8::from(i > 190_000)]);
        let whole = column(&|i| (i as i64 * 3).to_le_bytes().to_vec());
        // And a fraction in the last that tells the unit.
        let fractions = column(&|i| (i as f64 * 3.0 + if i > 190_000 { 0.5 } else { 0.0 }).to_le_bytes().to_vec());
        for (t, is_float) in [(&whole, false), (&fractions, true)] {
            for p in [&p, &coded] {
                let of = |bytes, kind, len| Column { kind, bytes, len };
                let byte = kind(false, false, 1);
                let columns = [of(t, kind(is_float, true, 8), n), of(&x, byte, n), of(&y, byte, n), of(p, byte, n - 5)];
                let order = Order::parse("txyp").unwrap();
                let (mut out, mut told) = (Vec::new(), Told::default());
                let end = events_in_blocks(columns, (&order, By::Names), None, &mut out, &mut told);
                let numbers = columns.map(|c| c.read(0..c.len));
                let (mut want, mut said) = (Vec::new(), Told::default());
                let at_once = events(numbers.each_ref(), (&order, By::Names), None, &mut want, &mut said);
                assert!(end == at_once && end.is_err() && out == want && out.len() > n - 10);
                assert_eq!(format!("{told:?}"), format!("{said:?}"));
                assert_eq!((told.n_bad, told.notes.is_empty()), if p[0] == 1 && p[1] == 1 { (0, false) } else { (1, !is_float) });
            }
        }
    }

    #[test]
    fn rows_that_are_no_events_cost_themselves_alone() {
        let column = |v: &[i64]| Numbers::Ints(v.to_vec());
        let t = column(&[5, 6, 7, 8, 9]);
        let (x, y) = (column(&[1, 2, -3, 4, 65_535]), column(&[1, 2, 3, 65_536, 5]));
        for (p, on) in [
            ([0, 1, 1, 0, 1], [false, true, true]),
            ([-1, 1, 1, 0, -1], [false, true, false]),
            ([2, 1, 1, 2, 2], [true, false, true]),
        ] {
            for floats in [false, true] {
                // Floats take the other way.
                let p = if floats { Numbers::Floats(p.map(|p| p as f64).to_vec()) } else { column(&p) };
                let (mut out, mut told) = (Vec::new(), Told::default());
                events([&t, &x, &y, &p], (&Order::parse("txyp:us").unwrap(), By::Names), None, &mut out, &mut told).unwrap();
                assert_eq!(out.iter().map(|e| (e.t, e.p)).collect::<Vec<_>>(), [5, 6, 9].into_iter().zip(on).collect::<Vec<_>>());
                let said = told.skipped(3).unwrap().to_string();
                assert_eq!(said, "byte 3: event 2 at time 7, (-3, 3) is on no sensor; 2 such rows are left out");
            }
        }
    }
}
