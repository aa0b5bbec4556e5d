//! Plain text and CSV: an event to a row, columns parted by semicolons, else commas, else tabs, else spaces.
//!
//! A first row of names (`t,x,y,p`, `x y timestamp[us] polarity`) says the order of the columns and perhaps the unit of
//! time; without one the values tell both: the polarity is 0 or 1 (or -1; or 1 and 2), times do not step back, and only times in
//! seconds have fractions. [`Decoder::columns`] tells an order where that fails. Rows that begin with `#`, `%` or `//` are comments;
//! a first row of two numbers is the sensor's width and height. Times are rounded to whole microseconds, which
//! [`Decoder::warnings`] says.
//!
//! Rows that are no events are passed over and counted ([`Decoder::skipped`]). A peculiarity of published files: among rows
//! `x y t p` without names a last row of `0 0 t 0` is a terminator, no event.

use super::columns::{self, By, Order, Polarity, Unit, is_coarse, unit_of};
use super::numbers::left_out;
use super::{Carry, DecodeError, Decoder, Event, EventStream, Format, Sensor};

/// The format.
pub static FORMAT: Format = Format {
    name: "csv",
    about: "text or CSV of events (t x y p in any order)",
    extensions: &["csv", "txt", "tsv"],
    sniff,
    decoder: || Box::<TextDecoder>::default(),
    encode: Some(encode),
    keeps_sensor: false,
    marked: false,
};

/// As much of a file as tells its order.
const SAMPLE: usize = 1 << 16;
const LONGEST_ROW: usize = 1 << 12;

/// Decoder of text.
#[derive(Debug, Default)]
pub struct TextDecoder {
    carry: Carry,
    asked: Option<Order>,
    table: Option<Table>,
    sensor: Option<Sensor>,
    row: u64,
    rounded: u64,
    bad: u64,
    first_bad: Option<DecodeError>,
    terminator: Option<i64>,
    held: Option<Event>,
    origin: u64,
    /// The earliest and the latest time, and how many events, where the unit of time was guessed.
    span: Option<(i64, i64, usize)>,
}

/// How the rows of a file lie.
#[derive(Clone, Copy, Debug)]
struct Table {
    order: Order,
    unit: Unit,
    /// Columns a row must have.
    columns: usize,
    /// Rows at the beginning that are no events.
    skip: u64,
    named: bool,
    /// Whether the unit of time is told by nothing but the values.
    guessed: bool,
    /// Whether these are [coarse](is_coarse).
    is_coarse: bool,
    by: By,
    coded: Polarity,
    /// What parts the fields of a row.
    separator: Option<u8>,
}

impl Table {
    /// Files of rows `x y t p` without names may end with a terminator.
    fn may_end_with_terminator(&self) -> bool {
        !self.named && self.order.at == [2, 0, 1, 3]
    }
}

fn is_comment(row: &[u8]) -> bool {
    row.is_empty() || matches!(row[0], b'#' | b'%') || row.starts_with(b"//")
}

/// A comment without its marks.
fn uncommented(row: &[u8]) -> &[u8] {
    row[row.iter().take_while(|b| matches!(b, b'#' | b'%' | b'/')).count()..].trim_ascii()
}

/// What parts the fields of a row: a semicolon, comma or tab, else (none) spaces.
fn separator(row: &[u8]) -> Option<u8> {
    [b';', b',', b'\t'].into_iter().find(|m| row.contains(m))
}

/// The fields of a row. One kind of separator parts them, so that a decimal comma parts nothing where semicolons do, and between two
/// of them there is a field, if an empty one: a column without a name is a column. Only spaces may be several.
fn parted(row: &[u8], separator: Option<u8>) -> impl Iterator<Item = &[u8]> {
    let row = separator.and_then(|m| row.strip_suffix(&[m])).unwrap_or(row);
    row.split(move |b| *b == separator.unwrap_or(b' '))
        .map(<[u8]>::trim_ascii)
        .filter(move |f| separator.is_some() || !f.is_empty())
}

/// The fields of a row that is not known to be like another.
fn fields(row: &[u8]) -> impl Iterator<Item = &[u8]> {
    parted(row, separator(row))
}

fn number(field: &[u8]) -> Option<f64> {
    match field {
        b"True" | b"true" => return Some(1.0),
        b"False" | b"false" => return Some(0.0),
        _ => {}
    }
    let text = std::str::from_utf8(field).ok()?;
    text.parse().ok().filter(|v: &f64| v.is_finite())
}

fn rows(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').map(trimmed)
}

/// A row without its end; a tab at its beginning parts it from a column without a name.
fn trimmed(row: &[u8]) -> &[u8] {
    let row = row.trim_ascii_end();
    &row[row.iter().take_while(|b| **b == b' ').count()..]
}

/// What the first rows tell.
fn table(sample: &[u8], asked: Option<Order>) -> Result<(Table, Option<Sensor>), String> {
    let mut skip = 0;
    let mut sensor = None;
    let mut order = asked;
    let mut named = None;
    // The last comment that names the columns, as `numpy.savetxt` writes them, and how many.
    let mut commented = None;
    let mut values: Vec<Vec<f64>> = Vec::new();
    let mut parts = None;
    for row in rows(sample) {
        if is_comment(row) {
            skip += u64::from(values.is_empty());
            let names: Vec<_> = fields(uncommented(row)).map(String::from_utf8_lossy).collect();
            commented =
                Order::named(names.iter().map(|n| &**n)).filter(|_| values.is_empty()).map(|o| (o, names.len())).or(commented);
            continue;
        }
        let number = |f: &[u8]| if f.is_empty() { Some(f64::NAN) } else { number(f) };
        let numbers: Option<Vec<f64>> = fields(row).map(number).collect();
        match numbers {
            Some(n) if values.is_empty() && n.len() == 2 && sensor.is_none() && named.is_none() => {
                sensor = Some(Sensor::new(n[0] as u32, n[1] as u32));
                skip += 1;
            }
            Some(n) => values.push(n),
            None if values.is_empty() && named.is_none() => {
                if row.contains(&b'\r') {
                    return Err("rows end with carriage returns alone, where newlines are needed".into());
                }
                if row.starts_with(b"{") || row.starts_with(b"[") {
                    return Err("JSON, where rows of columns are needed".into());
                }
                let names: Vec<_> = fields(row).map(String::from_utf8_lossy).collect();
                order = order.or(Order::named(names.iter().map(|n| &**n)));
                named = Some(names.len());
                skip += 1;
            }
            None => values.push(fields(row).map(|f| number(f).unwrap_or(f64::NAN)).collect()),
        }
        // That of the first row of numbers is that of all.
        if values.len() == 1 {
            parts.get_or_insert(separator(row));
        }
        if values.len() == 2000 {
            break;
        }
    }
    // The last row may be cut off.
    if values.len() > 1 && values.last().map(Vec::len) != values.first().map(Vec::len) {
        values.pop();
    }
    let width = values.iter().map(Vec::len).max().unwrap_or(0);
    if let (None, None, Some((o, n))) = (order, named, commented.filter(|c| c.1 == width)) {
        (order, named) = (Some(o), Some(n));
    }
    if let (Some(names), None) = (named.filter(|n| *n < width), asked) {
        return Err(format!("{names} names for rows of {width} columns; their order is needed, as in --columns txyp"));
    }
    let order = match order {
        Some(o) => o,
        None if named.is_some() => return Err("no columns named t, x, y and p".into()),
        None if values.is_empty() => return Err("no rows of numbers".into()),
        None => {
            let four = |v: &Vec<f64>| <[f64; 4]>::try_from(v.as_slice()).unwrap_or([f64::NAN; 4]);
            let rows: Vec<_> = values.iter().map(four).collect();
            Order::guess(&rows).ok_or_else(|| {
                format!("rows of {width} columns in which time, place and polarity cannot be told; their order is needed, as in --columns txyp")
            })?
        }
    };
    let columns = order.at.iter().max().map_or(4, |m| m + 1);
    if !values.is_empty() && width < columns {
        return Err(format!("rows of {width} columns where {columns} are needed"));
    }
    let column = |i: usize| values.iter().filter_map(move |v| v.get(order.at[i]).copied());
    let (unit, coded) = (order.unit.unwrap_or_else(|| unit_of(column(0))), Polarity::of(column(3)));
    let by = if asked.is_some() { By::Asked } else { [By::Values, By::Names][usize::from(named.is_some())] };
    let guessed = order.unit.is_none() || by == By::Values;
    let separator = parts.unwrap_or_default();
    let is_coarse = is_coarse(unit, column(0));
    Ok((Table { order, unit, columns, skip, named: named.is_some(), guessed, is_coarse, by, coded, separator }, sensor))
}

/// Whether a file that begins so is a text.
pub(super) fn is_text(head: &[u8]) -> bool {
    head.iter().take(4096).all(|b| *b >= 0x20 || matches!(b, b'\n' | b'\r' | b'\t'))
}

fn sniff(head: &[u8], named: bool) -> bool {
    let whole = match head.iter().rposition(|&b| b == b'\n') {
        Some(end) => &head[..end],
        None => head,
    };
    let columns = || table(whole, None).is_ok();
    // By its content alone: rows whose columns can be told. By name: any rows of at least four numbers too.
    let four = || {
        let mut some = rows(whole).filter(|r| !is_comment(r)).skip(1).take(3);
        some.any(|r| fields(r).count() == 4 && fields(r).all(|f| number(f).is_some()))
    };
    is_text(head) && (columns() || named && four())
}

/// A decimal number times 10^`digits`, rounded to an integer, and whether that was exact.
fn fixed(field: &[u8], digits: i32) -> Option<(i64, bool)> {
    let (negative, rest) = match field {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits < 0 {
        return slowly(field, digits);
    }
    let mut used = 0;
    let (mut v, mut left, mut point, mut seen) = (0i64, digits, false, false);
    let (mut up, mut exact) = (false, true);
    for &b in rest {
        match b {
            b'0'..=b'9' if !point || left > 0 => {
                // Leading zeros are of no weight.
                used += i32::from(v > 0 || b > b'0');
                if used > 18 {
                    return slowly(field, digits);
                }
                v = v * 10 + i64::from(b - b'0');
                left -= i32::from(point);
            }
            b'0'..=b'9' => {
                // The first digit that is cut off rounds.
                if left == 0 {
                    up = b >= b'5';
                    left = -1;
                }
                exact &= b == b'0';
            }
            b'.' if !point => {
                point = true;
                continue;
            }
            _ => return slowly(field, digits),
        }
        seen = true;
    }
    for _ in 0..left {
        v = v.checked_mul(10)?;
    }
    v += i64::from(up);
    seen.then_some((if negative { -v } else { v }, exact))
}

fn slowly(field: &[u8], digits: i32) -> Option<(i64, bool)> {
    let text = std::str::from_utf8(field).ok()?;
    if digits <= 0
        && let Ok(v) = text.parse::<i64>()
    {
        let k = 10i64.pow(digits.unsigned_abs());
        let up = i64::from(v.rem_euclid(k) * 2 >= k && k > 1);
        return Some((v.div_euclid(k) + up, v % k == 0));
    }
    let v = text.parse::<f64>().ok()? * 10f64.powi(digits);
    (v.abs() < 9e18).then(|| (v.round() as i64, v.fract() == 0.0))
}

fn coordinate(field: &[u8]) -> Option<u16> {
    if let 1..=4 = field.len()
        && field.iter().all(u8::is_ascii_digit)
    {
        return Some(field.iter().fold(0, |v, b| v * 10 + u16::from(b - b'0')));
    }
    let v = number(field)?;
    (v.fract() == 0.0 && (0.0..65536.0).contains(&v)).then_some(v as u16)
}

fn polarity(field: &[u8], coded: Polarity) -> Option<bool> {
    match (field, coded) {
        ([b'1'], Polarity::FromZero) => Some(true),
        ([b'0'], Polarity::FromZero) => Some(false),
        _ => number(field).and_then(|v| coded.on(v)),
    }
}

impl TextDecoder {
    fn event(&mut self, table: &Table, row: &[u8]) -> Result<Event, String> {
        let mut found: [&[u8]; 4] = [&[]; 4];
        let mut n = 0;
        for (i, field) in parted(row, table.separator).enumerate() {
            for (slot, _) in table.order.at.iter().enumerate().filter(|a| *a.1 == i) {
                found[slot] = field;
            }
            n = i + 1;
        }
        if n < table.columns {
            return Err(format!("{n} columns where {} are needed", table.columns));
        }
        let [t, x, y, p] = found;
        let show = |f: &[u8]| String::from_utf8_lossy(&f[..f.len().min(40)]).into_owned();
        let Some((t, exact)) = fixed(t, table.unit.digits()) else {
            return Err(format!("`{}` is no time", show(t)));
        };
        self.rounded += u64::from(!exact);
        place(t, x, y, p, table.coded)
            .ok_or_else(|| format!("`{}`, `{}`, `{}` are no x, y and polarity", show(x), show(y), show(p)))
    }

    fn consume(&mut self, bytes: &[u8], offset: u64, last: bool, out: &mut Vec<Event>) -> Result<usize, DecodeError> {
        let error = |at: usize, what: String| DecodeError::new(offset + at as u64, what);
        let table = match self.table {
            Some(t) => t,
            None if bytes.len() < SAMPLE && !last => return Ok(0),
            None => {
                let sample = &bytes[..bytes.len().min(SAMPLE)];
                let end = sample.iter().rposition(|&b| b == b'\n');
                let sample = match end {
                    Some(end) if !last || bytes.len() > SAMPLE => &sample[..end],
                    _ => sample,
                };
                let (table, sensor) = table(sample, self.asked).map_err(|e| error(0, e))?;
                self.sensor = sensor;
                *self.table.insert(table)
            }
        };
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let (row, n) = match rest.iter().position(|&b| b == b'\n') {
                Some(end) => (&rest[..end], end + 1),
                None if last => (rest, rest.len()),
                None if rest.len() > LONGEST_ROW => {
                    return Err(error(done, "a row without an end".into()));
                }
                None => break,
            };
            let row = trimmed(row);
            if self.row >= table.skip && !is_comment(row) {
                match self.event(&table, row) {
                    Ok(e) if table.may_end_with_terminator() => self.hold(e, out),
                    Ok(e) => out.push(e),
                    Err(what) => {
                        self.bad += 1;
                        let row = self.row + 1;
                        self.first_bad.get_or_insert_with(|| error(done, format!("row {row}: {what}")));
                    }
                }
            }
            self.row += 1;
            done += n;
        }
        if last && let Some(e) = self.held.take() {
            match self.origin {
                1 => self.terminator = Some(e.t),
                _ => out.push(e),
            }
        }
        Ok(done)
    }

    /// Keeps an event that may be the terminator until the next row.
    fn hold(&mut self, e: Event, out: &mut Vec<Event>) {
        out.extend(self.held.take());
        if (e.x, e.y, e.p) == (0, 0, false) {
            self.origin += 1;
            self.held = Some(e);
        } else {
            out.push(e);
        }
    }

    fn feed(&mut self, bytes: &[u8], last: bool, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let before = out.len();
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, at| self.consume(bytes, at, last, out));
        self.carry = carry;
        if result.is_err() {
            out.extend(self.held.take());
        }
        if self.table.is_some_and(|t| t.guessed) {
            let (from, to, n) = self.span.unwrap_or((i64::MAX, i64::MIN, 0));
            let new = &out[before.min(out.len())..];
            let (from, to) = new.iter().fold((from, to), |(a, b), e| (a.min(e.t), b.max(e.t)));
            self.span = Some((from, to, n + new.len()));
        }
        result
    }

    /// What is said of a recording that is too long to be true if its times are of the unit that was guessed.
    fn doubt(&self) -> Option<String> {
        let ((from, to, n), table) = (self.span?, self.table?);
        columns::doubt(table.unit, [from, to], n, table.is_coarse, &table.order.letters())
    }
}

fn place(t: i64, x: &[u8], y: &[u8], p: &[u8], coded: Polarity) -> Option<Event> {
    Some(Event { t, x: coordinate(x)?, y: coordinate(y)?, p: polarity(p, coded)? })
}

impl Decoder for TextDecoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.feed(bytes, false, out)
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.feed(&[], true, out)
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn columns(&mut self, order: Order) -> bool {
        self.asked = Some(order);
        true
    }

    fn skipped(&self) -> Option<DecodeError> {
        let first = self.first_bad.as_ref()?;
        Some(DecodeError::new(first.offset, left_out(&first.message, self.bad)))
    }

    fn read_as(&self) -> Option<String> {
        self.table.map(|t| t.order.read_as(t.by, t.unit, t.by == By::Asked && t.order.unit.is_some()))
    }

    fn warnings(&self) -> Vec<String> {
        let mut said: Vec<_> = self.table.and_then(|t| t.coded.note()).into_iter().collect();
        said.extend(self.doubt());
        if self.rounded > 0 {
            said.push(format!("{} times are rounded to whole microseconds", self.rounded));
        }
        if let Some(t) = self.terminator {
            said.push(format!("the last row, `0 0 {t} 0`, is a terminator and no event"));
        }
        said
    }
}

/// The file for a recording: a row of names, then `t,x,y,p` in microseconds.
///
/// # Errors
/// None.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    use std::io::Write as _;
    let mut out = Vec::with_capacity(8 + stream.events.len() * 20);
    out.extend(b"t,x,y,p\n");
    for e in &stream.events {
        writeln!(out, "{},{},{},{}", e.t, e.x, e.y, u8::from(e.p)).map_err(|e| e.to_string())?;
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

    #[test]
    fn orders_units_and_separators() {
        let want = [e(10, 3, 4, true), e(20, 1, 2, false), e(30, 5, 1, true)];
        for text in [
            "t,x,y,p\n10,3,4,1\n20,1,2,0\n30,5,1,1\n",
            "10 3 4 1\n20 1 2 0\n30 5 1 1",
            "# note\n3;4;10;1\r\n1;2;20;-1\r\n5;1;30;1\r\n",
            "3\t4\t1\t10\n1\t2\t0\t20\n5\t1\t1\t30\n",
            "0.00001 3 4 1\n\n0.00002 1 2 0\n3e-5 5 1 1\n",
            ",t,x,y,p\n0,10,3,4,1\n1,20,1,2,0\n2,30,5,1,1\n",
            "\tt\tx\ty\tp\n0\t10\t3\t4\t1\n1\t20\t1\t2\t0\n2\t30\t5\t1\t1\n",
            "t;x;;y;p;\n10;3;;4;1;\n20;1;;2;0;\n30;5;;1;1;\n",
            "x, y, pol, timestamp_ns, other\n3,4,True,10000,9\n1,2,False,20000,9\n5,1,True,30000,9\n",
        ] {
            for piece in [1, 7, 9999] {
                let got = in_pieces(&FORMAT, text.as_bytes(), piece);
                assert_eq!(got, (want.to_vec(), Ok(())), "{text}");
            }
            assert!(sniff(text.as_bytes(), false), "{text}");
        }
        let mut d = (FORMAT.decoder)();
        assert!(d.columns(Order::parse("tyxp").unwrap()));
        let mut out = Vec::new();
        d.push(b"640 480\n0.000001499 4 3 1\n", &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert_eq!((out, d.sensor()), (vec![e(1, 3, 4, true)], Some(Sensor::new(640, 480))));
        assert!(d.warnings()[0].contains("rounded"));
        assert_eq!(d.read_as().unwrap(), "columns t y x p as asked for; times in seconds, for they have fractions");
        let mut d = (FORMAT.decoder)();
        d.push(b"x,y,p,t_ms\n3,4,2,10\n1,2,1,20\n5,1,0,30\n", &mut Vec::new()).unwrap();
        let mut out = Vec::new();
        d.finish(&mut out).unwrap();
        assert_eq!(out, [e(20_000, 1, 2, true), e(30_000, 5, 1, false)], "2 is no polarity beside 0");
    }

    /// Milliseconds with fractions look like seconds; of a recording that would last for hours that is said.
    #[test]
    fn seconds_are_doubted() {
        let said = |rows: &str, order: Option<&str>| {
            let mut d = (FORMAT.decoder)();
            assert!(order.is_none_or(|o| d.columns(Order::parse(o).unwrap())));
            let mut out = Vec::new();
            rows.as_bytes().chunks(5000).for_each(|c| d.push(c, &mut out).unwrap());
            d.finish(&mut out).unwrap();
            (out.last().unwrap().t, d.warnings().into_iter().filter(|w| w.contains(":ms")).collect::<Vec<_>>())
        };
        let rows = |n: usize, step: f64| -> String {
            (0..n).map(|i| format!("{} {} {:.6} {}\n", i % 30, i % 20, i as f64 * step + 0.1254, i % 2)).collect()
        };
        // 1.2 s at 4100 events/s, and an hour of 0.5 events/s that is so.
        let (t, words) = said(&rows(5000, 0.245), None);
        assert_eq!((t, words.len()), (1_224_880_400, 1));
        assert!(
            words[0].contains("1225 s long, with 4.1 events/s;") && words[0].ends_with("--columns xytp:ms says so"),
            "{words:?}"
        );
        assert_eq!(said(&rows(5000, 0.245), Some("xytp:ms")), (1_224_880, vec![]));
        assert_eq!(said(&rows(5000, 0.245), Some("xytp:s")), (1_224_880_400, vec![]));
        assert_eq!(said(&format!("x y t_s p\n{}", rows(5000, 0.245)), None), (1_224_880_400, vec![]));
        assert_eq!(said(&format!("x y t p\n{}", rows(5000, 0.245)), None).1.len(), 1);
        // More events than ten a second, or not so long; but a day is too much of any.
        assert_eq!(said(&rows(9000, 0.09), None).1.len(), 0);
        assert_eq!(said(&rows(50, 10.0), None).1.len(), 0);
        assert_eq!(said(&rows(2, 90_000.0), None).1.len(), 1);
        // Thousandths of seconds at less than a camera says: likely microseconds behind the point.
        let coarse =
            |n: usize, step: f64| -> String { (0..n).map(|i| format!("3 4 {:.3} 1\n", i as f64 * step + 0.125)).collect() };
        assert_eq!(said(&coarse(50, 0.1), None).1.len(), 1);
        assert_eq!(said(&coarse(50, 0.01), None).1.len(), 0, "half a second");
        assert_eq!(said(&coarse(50, 0.1), Some("xytp:s")).1.len(), 0);
    }

    /// Nanoseconds look like microseconds; where that is said, and that it is said of no recording in microseconds.
    #[test]
    fn microseconds_are_doubted() {
        let said = |n: usize, time: &dyn Fn(usize) -> u64, order: Option<&str>| {
            let mut d = (FORMAT.decoder)();
            assert!(order.is_none_or(|o| d.columns(Order::parse(o).unwrap())));
            let rows: String = (0..n).map(|i| format!("{} {} {} {}\n", i % 30, i % 20, time(i), i % 2)).collect();
            let mut out = Vec::new();
            d.push(rows.as_bytes(), &mut out).unwrap();
            d.finish(&mut out).unwrap();
            (out.last().unwrap().t, d.warnings().into_iter().filter(|w| w.contains(":ns")).collect::<Vec<_>>())
        };
        // A tenth of a second of a clock of microseconds: coarse. Of another clock: too few events. Since 1970: of another age.
        let clock = |i: usize| i as u64 * 21_000;
        let (t, words) = said(5000, &clock, None);
        assert_eq!((t, words.len()), (104_979_000, 1));
        assert!(
            words[0].contains("is 105 s long, with 47.6 events/s; if they are nanoseconds, --columns xytp:ns says so"),
            "{words:?}"
        );
        assert_eq!(said(5000, &clock, Some("xytp:ns")), (104_979, vec![]));
        assert_eq!(said(5000, &clock, Some("xytp:us")), (104_979_000, vec![]));
        assert_eq!(said(5000, &|i| i as u64 * 210_001, None).1.len(), 1);
        let words = said(5000, &|i| 1_700_000_000_000_000_123 + i as u64 * 21_001, None).1;
        assert!(words[0].contains("then the recording begins in the year 55840; "), "{words:?}");
        // An hour, a second of since 1970, frames milliseconds apart, and few events.
        let hour = |i: usize| i as u64 * 20_003;
        assert_eq!(said(180_000, &hour, None), (3_600_519_997, vec![]));
        assert_eq!(said(5000, &|i| 1_700_000_000_000_001 + i as u64 * 210, None).1.len(), 0);
        assert_eq!(said(5000, &|i| (i / 5) as u64 * 2000, None).1.len(), 0);
        assert_eq!(said(19, &|i| i as u64 * 100_000, None).1.len(), 0);
        // None at all.
        let mut d = (FORMAT.decoder)();
        d.push(b"t,x,y,p\n", &mut Vec::new()).unwrap();
        d.finish(&mut Vec::new()).unwrap();
        assert_eq!(d.warnings(), Vec::<String>::new());
    }

    /// `numpy.savetxt` puts the names behind a mark.
    #[test]
    fn names_in_a_comment() {
        let read = |text: &str| {
            let mut d = (FORMAT.decoder)();
            let mut out = Vec::new();
            d.push(text.as_bytes(), &mut out).unwrap();
            d.finish(&mut out).unwrap();
            (out, d.read_as().unwrap())
        };
        let (out, how) = read("# made by hand\n# y, x, t[ms], p\n1,2,0.25,1\n3,4,7.5,0\n");
        let e = |t, x, y, p| Event { t, x, y, p };
        assert_eq!(out, [e(250, 2, 1, true), e(7500, 4, 3, false)]);
        assert_eq!(how, "columns y x t p by their names; times in milliseconds, as the name says");
        // Names of other columns than there are say nothing.
        let (out, how) = read("# x y t p on\n10 1 2 1\n20 3 4 0\n");
        assert_eq!(out, [e(10, 1, 2, true), e(20, 3, 4, false)]);
        assert!(how.contains("by their values"), "{how}");
    }

    #[test]
    fn polarities_from_one() {
        let mut d = (FORMAT.decoder)();
        let mut out = Vec::new();
        d.push(b"x,y,p,t_ms\n3,4,2,10\n1,2,1,20\n", &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert_eq!(out, [e(10_000, 3, 4, true), e(20_000, 1, 2, false)]);
        assert!(d.warnings()[0].contains("1 is taken for off, 2 for on"));
        assert_eq!(d.read_as().unwrap(), "columns x y p t by their names; times in milliseconds, as the name says");
    }

    #[test]
    fn peculiar_rows() {
        let rows = |from: usize| -> String { (from..from + 40).map(|i| format!("0.0{i},54,{i},{}\n", i % 2)).collect() };
        for (text, offset, said) in [
            (
                format!("0.011,54,54.1,0\n{}", rows(20)),
                0,
                "row 1: `54`, `54.1`, `0` are no x, y and polarity; this row is left out",
            ),
            (
                format!("{}oh\n1,2,3\n{}", rows(20), rows(59)),
                560,
                "row 41: 1 columns where 4 are needed; 2 such rows are left out",
            ),
        ] {
            assert!(sniff(text.as_bytes(), false));
            let mut d = (FORMAT.decoder)();
            let mut out = Vec::new();
            text.as_bytes().chunks(7).for_each(|c| d.push(c, &mut out).unwrap());
            d.finish(&mut out).unwrap();
            assert!(out.len() % 40 == 0 && out.starts_with(&[e(20_000, 54, 20, false), e(21_000, 54, 21, true)]), "{out:?}");
            assert_eq!(d.skipped(), Some(DecodeError::new(offset, said)));
        }
        let rows = "9 4 10 0\n3 4 15 0\n1 2 20 1\n0 0 200010 0\n";
        assert_eq!(decode(&FORMAT, rows.as_bytes()).unwrap().len(), 3);
        let rows = "9 4 10 0\n0 0 15 0\n1 2 20 1\n0 0 200010 0\n";
        assert_eq!(decode(&FORMAT, rows.as_bytes()).unwrap().len(), 4);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |t: &str| decode(&FORMAT, t.as_bytes()).unwrap_err().message;
        assert!(said("a,b,c\n1,2,3\n").contains("named t, x, y and p"));
        assert!(said("1 2 3\n2 3 4\n").contains("--columns"));
        assert!(said("t x y p\n1 2\n").contains("2 columns"));
        assert!(said("t,x,y,p\n1,10,3,4,1\n").contains("4 names for rows of 5 columns"));
        assert!(said("t,x,y,p\r1,2,3,0\r").contains("carriage returns"));
        assert!(said("[{\"t\":1,\"x\":2,\"y\":3,\"p\":1}]").contains("JSON"));
        // A decimal comma parts no columns.
        let mut d = (FORMAT.decoder)();
        let mut out = Vec::new();
        d.push(b"t;x;y;p\n0,5;1;2;1\n", &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert!(out.is_empty() && d.skipped().unwrap().message.contains("row 2: `0,5` is no time"));
        // A last row that is cut off does not hide what the columns are.
        assert_eq!(decode(&FORMAT, b"1 2 3 1\n2 3 4 0\n3 4").unwrap_err().offset, 16);
        for text in ["some words", "a b c d\n1 2 3 4\n", ""] {
            assert!(!sniff(text.as_bytes(), false), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(fixed(b"0.000779999", 6), Some((780, false)));
        assert_eq!(fixed(b"-1.5", 6), Some((-1_500_000, true)));
        assert_eq!(fixed(b"1468940293.922985", 6), Some((1_468_940_293_922_985, true)));
        assert_eq!(fixed(b"1499", -3), Some((1, false)));
        assert_eq!(fixed(b"1e-05", 6), Some((10, true)));
        for bad in ["", ".", "1.2.3", "x", "1e400", "99999999999999999999"] {
            assert_eq!(fixed(bad.as_bytes(), 6), None, "{bad}");
        }
    }
}
