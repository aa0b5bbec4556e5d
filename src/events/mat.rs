//! MATLAB files (`.mat`) of version 5, and events in them.
//!
//! A 128-byte header, then elements of a type, a size and data, of which matrices may be deflated. Read are numeric and
//! logical matrices and such fields of a structure (`TD.ts`); cells, arrays of structures and texts are passed over. Events are found as vectors named like t (ts, time), x, y
//! and p (pol), as ASL-DVS is published; as one N x 4 matrix; or as `spiketrain`, ST-MNIST's 101 rows: 100 taxels (row
//! `i` is x = i % 10, y = i / 10; 1 on, -1 off) and the time in seconds. MATLAB's version 7.3 is HDF5, see
//! [`super::hdf5`].
//!
//! The crate `matfile` would do, but a damaged file must not make it panic or allocate; the elements are simple.

use super::columns::{By, Column, Order, Unit, meaning};
use super::npy::{UNTOLD, guess};
use super::numbers::{self, Kind, Numbers, Told};
use super::{DecodeError, Decoder, Event, Format, Sensor};
use std::io::Read;

/// The format.
pub static FORMAT: Format = Format {
    name: "mat",
    about: "MATLAB version 5 (ASL-DVS, ST-MNIST)",
    extensions: &["mat"],
    sniff: |head, _| head.starts_with(b"MATLAB 5.0 MAT-file"),
    decoder: || Box::<MatDecoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

const HEADER: usize = 128;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// The class of a structure.
const STRUCTURE: u32 = 2;
/// Deflate makes at most this of a byte.
const MOST_INFLATED: u64 = 1032;

/// A matrix of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, the first axis fastest (column by column).
    pub data: Numbers,
}

impl Matrix {
    /// How many elements its shape says it has.
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b))
    }
}

/// The matrices of numbers in a file, as far as it is whole, and what is wrong with it: where it is cut off, the last of them has
/// fewer elements than its shape says.
pub fn matrices(file: &[u8]) -> (Vec<Matrix>, Result<(), DecodeError>) {
    let mut out = Vec::new();
    let end = elements(file, &mut out);
    (out, end.map(|_| ()))
}

/// How many elements there are.
fn elements(file: &[u8], out: &mut Vec<Matrix>) -> Result<usize, DecodeError> {
    let big = match file.get(HEADER - 2..HEADER) {
        Some(b"IM") => false,
        Some(b"MI") => true,
        _ => return Err(DecodeError::new(0, "no header of a MATLAB 5 file")),
    };
    let (mut at, mut n) = (HEADER, 0);
    while at < file.len() {
        let error = |what: String| DecodeError::new(at as u64, what);
        let ends = |what: String| DecodeError::new(file.len() as u64, format!("{what}, which begins at byte {at}"));
        let e = element(file, at, big).map_err(ends)?;
        let inner = match e.kind {
            COMPRESSED => deflated(e.data, big, out),
            MATRIX => matrix(e.data, big, out),
            _ => Ok(()),
        };
        // That the file ends here explains what is wrong within.
        e.whole.map_err(ends)?;
        inner.map_err(error)?;
        // Compressed elements are not padded.
        at = if e.kind == COMPRESSED { e.next } else { e.next.next_multiple_of(8) };
        n += 1;
    }
    Ok(n)
}

/// The matrices in a deflated element, as far as it can be inflated.
fn deflated(data: &[u8], big: bool, out: &mut Vec<Matrix>) -> Result<(), String> {
    let mut bytes = Vec::new();
    let limit = (data.len() as u64).saturating_mul(MOST_INFLATED);
    let end = flate2::read::ZlibDecoder::new(data).take(limit).read_to_end(&mut bytes);
    let end = end.map(|_| ()).map_err(|e| e.to_string());
    match element(&bytes, 0, big) {
        Ok(e) if e.kind == MATRIX => {
            let inner = matrix(e.data, big, out);
            end.and(e.whole).and(inner)
        }
        Ok(_) => end,
        Err(e) => end.and(Err(e)),
    }
}

fn number(b: &[u8], at: usize, big: bool) -> Option<u32> {
    let b = b.get(at..at.checked_add(4)?)?;
    let b = [b[0], b[1], b[2], b[3]];
    Some(if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
}

/// A part of a file.
struct Element<'a> {
    kind: u32,
    /// As much of it as there is.
    data: &'a [u8],
    whole: Result<(), String>,
    /// Where it ends.
    next: usize,
}

impl<'a> Element<'a> {
    /// Its data, if all of it is there.
    fn all(self) -> Result<&'a [u8], String> {
        self.whole.map(|()| self.data)
    }
}

/// The element at `at`.
fn element(b: &[u8], at: usize, big: bool) -> Result<Element<'_>, String> {
    let tag = number(b, at, big).ok_or("the file ends within an element")?;
    // Small elements keep their size in the upper half of the type and their data beside it.
    let (kind, size, from) = match tag >> 16 {
        0 => (tag, number(b, at + 4, big).ok_or("the file ends within an element")?, at + 8),
        size => (tag & 0xffff, size, at + 4),
    };
    let rest = b.get(from..).unwrap_or_default();
    let data = &rest[..rest.len().min(size as usize)];
    let whole = match data.len() == size as usize {
        true => Ok(()),
        false => Err(format!("the file ends within an element of {size} bytes")),
    };
    let next = if from == at + 4 { at + 8 } else { from + data.len() };
    Ok(Element { kind, data, whole, next })
}

/// Appends the matrix of numbers that an element holds, as far as it is there, or those in the fields of a structure; nothing where it
/// holds something else.
fn matrix(b: &[u8], big: bool, out: &mut Vec<Matrix>) -> Result<(), String> {
    let mut parts = Parts { b, at: 0, big };
    let flags = parts.next()?.all()?;
    let class = number(flags, 0, big).unwrap_or(0);
    let complex = class & 0x800 != 0;
    let axes = parts.next()?.all()?;
    let axes = axes.chunks_exact(4).map(|a| number(a, 0, big).unwrap_or(0) as usize);
    let shape: Vec<usize> = axes.collect();
    let name = String::from_utf8_lossy(parts.next()?.all()?).into_owned();
    let m = Matrix { name, shape, data: Numbers::default() };
    match class & 0xff {
        STRUCTURE if m.elements() == Some(1) => fields(&m.name, &mut parts, out),
        6..=15 if !complex => {
            let Element { kind, data, .. } = parts.next()?;
            out.push(numeric(m, kind, data, big)?);
            let Some(m) = out.last() else { return Ok(()) };
            match (m.elements(), m.data.len()) {
                (Some(n), there) if n == there => Ok(()),
                (_, there) => Err(format!("matrix `{}` of shape {:?} has {there} elements", m.name, m.shape)),
            }
        }
        _ => Ok(()),
    }
}

/// The parts of a matrix, one after the other.
struct Parts<'a> {
    b: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Parts<'a> {
    fn next(&mut self) -> Result<Element<'a>, String> {
        let e = element(self.b, self.at, self.big)?;
        self.at = e.next.next_multiple_of(8);
        Ok(e)
    }
}

/// The fields of a structure: how long their names are, the names, and a matrix each without a name of its own.
fn fields(structure: &str, parts: &mut Parts<'_>, out: &mut Vec<Matrix>) -> Result<(), String> {
    let length = parts.next()?.all()?;
    let length = number(length, 0, parts.big).filter(|n| (1..=64).contains(n)).ok_or("a structure without lengths of names")?;
    let names = parts.next()?.all()?;
    for name in names.chunks_exact(length as usize) {
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let e = parts.next()?;
        let before = out.len();
        // A structure within one has names of its own fields; there are none of use so deep.
        let plain = e.kind == MATRIX && !e.data.is_empty() && !is_structure(e.data, parts.big);
        let inner = if plain { matrix(e.data, parts.big, out) } else { Ok(()) };
        out[before..].iter_mut().for_each(|m| m.name = format!("{structure}.{name}"));
        e.whole.and(inner)?;
    }
    Ok(())
}

fn is_structure(b: &[u8], big: bool) -> bool {
    element(b, 0, big).is_ok_and(|e| number(e.data, 0, big).is_some_and(|class| class & 0xff == STRUCTURE))
}

/// The numbers of a matrix, as far as they are there.
fn numeric(mut m: Matrix, kind: u32, data: &[u8], big: bool) -> Result<Matrix, String> {
    // The elements may be held in a smaller type than the matrix's.
    let (float, signed, size) = match kind {
        1 => (false, true, 1),
        2 => (false, false, 1),
        3 => (false, true, 2),
        4 => (false, false, 2),
        5 => (false, true, 4),
        6 => (false, false, 4),
        7 => (true, true, 4),
        9 => (true, true, 8),
        12 => (false, true, 8),
        13 => (false, false, 8),
        _ => {
            return Err(format!("matrix `{}` has elements of unknown type {kind}", m.name));
        }
    };
    let kind = Kind { float, signed, size, big };
    m.data = kind.read(data, 0, size, m.elements().unwrap_or(usize::MAX));
    Ok(m)
}

/// Decoder of events in MATLAB files.
#[derive(Debug, Default)]
pub struct MatDecoder {
    bytes: Vec<u8>,
    sensor: Option<Sensor>,
    order: Option<Order>,
    told: Told,
}

/// ST-MNIST's taxels.
const TAXELS: usize = 100;

/// The matrix of ST-MNIST's spikes, if this is one.
pub(super) fn is_spike_train(m: &Matrix) -> bool {
    m.name == "spiketrain" && m.shape.first() == Some(&(TAXELS + 1))
}

/// Its sensor.
pub(super) const TOUCH: Sensor = Sensor::new(10, 10);

/// Appends the events of a matrix of ST-MNIST's spikes.
pub(super) fn spike_train(m: &Matrix, out: &mut Vec<Event>) -> Result<(), String> {
    let rows = TAXELS + 1;
    for column in 0..m.data.len() / rows {
        let at = column * rows;
        let t = m.data.get(at + TAXELS).and_then(|t| Unit::Seconds.microseconds(t));
        let t = t.ok_or_else(|| format!("column {column} has no time"))?;
        for taxel in 0..TAXELS {
            let v = m.data.get(at + taxel).unwrap_or(0.0);
            if v != 0.0 {
                out.push(Event { t, x: (taxel % 10) as u16, y: (taxel / 10) as u16, p: v > 0.0 });
            }
        }
    }
    Ok(())
}

/// The variables named like t, x, y and p, and the unit of the times.
fn columns(variables: &[Matrix]) -> ([Option<&Matrix>; 4], Option<Unit>) {
    let mut columns: [Option<&Matrix>; 4] = [None; 4];
    let mut unit = None;
    for v in variables {
        // A field by its own name.
        if let Some((column, u)) = meaning(v.name.rsplit('.').next().unwrap_or_default()) {
            columns[column as usize].get_or_insert(v);
            if column == Column::T {
                unit = unit.or(u);
            }
        }
    }
    (columns, unit)
}

/// What to say where only some of the columns are there: of a file that is cut off between two elements nothing else tells it.
fn incomplete(variables: &[Matrix], elements: usize) -> Option<String> {
    let (columns, _) = columns(variables);
    let missing: Vec<_> = ["t", "x", "y", "p"].into_iter().zip(columns).filter(|c| c.1.is_none()).map(|c| c.0).collect();
    (1..4).contains(&missing.len()).then(|| {
        let (s, missing) = (if missing.len() == 1 { "" } else { "s" }, missing.join(", "));
        let there = listed(variables);
        format!("the file ends here, after element {elements}, without the column{s} {missing}; there is {there}. Either it is cut off between two elements, or it has no events")
    })
}

/// The events among the variables of a container.
pub(super) fn find(variables: &[Matrix], order: Option<Order>, out: &mut Vec<Event>, told: &mut Told) -> Result<(), String> {
    let (columns, unit) = columns(variables);
    if let [Some(t), Some(x), Some(y), Some(p)] = columns
        && [x, y, p].iter().all(|c| c.elements() == t.elements())
    {
        let found = Order { at: [0, 1, 2, 3], unit };
        return numbers::events([t, x, y, p].map(|m| &m.data), (&found, By::Names), order, out, told);
    }
    let by_four = variables.iter().find_map(|v| match v.shape[..] {
        [n, 4] => Some((v, n)),
        _ => None,
    });
    if let Some((v, n)) = by_four {
        let part = |c: usize| match &v.data {
            Numbers::Ints(d) => Numbers::Ints(d.iter().skip(c * n).take(n).copied().collect()),
            Numbers::Floats(d) => Numbers::Floats(d.iter().skip(c * n).take(n).copied().collect()),
        };
        return four(&[0, 1, 2, 3].map(part), order, out, told).map_err(|e| format!("`{}`: {e}", v.name));
    }
    Err(format!(
        "no events: needs vectors named like t, x, y and p of one length, or an N x 4 matrix; there is {}",
        listed(variables)
    ))
}

/// Appends the events of a table of four columns, in the order asked for or told by the values.
pub(super) fn four(columns: &[Numbers; 4], asked: Option<Order>, out: &mut Vec<Event>, told: &mut Told) -> Result<(), String> {
    let asked = asked.filter(Order::is_of_four);
    let order = asked.or_else(|| guess(columns)).ok_or(UNTOLD)?;
    let columns = order.at.map(|i| &columns[i]);
    let by = if asked.is_some() { By::Asked } else { By::Values };
    numbers::events(columns, (&order, by), asked, out, told)
}

fn listed(variables: &[Matrix]) -> String {
    let names: Vec<_> = variables.iter().map(|v| format!("{} {:?}", v.name, v.shape)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Decoder for MatDecoder {
    fn columns(&mut self, order: Order) -> bool {
        self.order = Some(order);
        true
    }

    fn push(&mut self, bytes: &[u8], _: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let before = out.len();
        let mut variables = Vec::new();
        let end = elements(&bytes, &mut variables);
        let found = match variables.iter().find(|m| is_spike_train(m)) {
            Some(m) => {
                self.sensor = Some(TOUCH);
                spike_train(m, out)
            }
            None => find(&variables, self.order, out, &mut self.told),
        };
        match end {
            // Damage explains what was not found.
            Err(e) if out.len() == before => {
                Err(DecodeError::new(e.offset, format!("{}; before it there is {}", e.message, listed(&variables))))
            }
            Err(e) => Err(e),
            Ok(n) => found.map_err(|e| match incomplete(&variables, n) {
                Some(e) => DecodeError::new(bytes.len() as u64, e),
                None => DecodeError::new(HEADER as u64, e),
            }),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn skipped(&self) -> Option<DecodeError> {
        self.told.skipped(HEADER as u64)
    }

    fn read_as(&self) -> Option<String> {
        self.told.read_as.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.told.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;
    use std::io::Write as _;

    fn tagged(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    fn variable(name: &str, shape: [u32; 2], class: u32, kind: u32, data: &[u8]) -> Vec<u8> {
        let shape = [shape[0].to_le_bytes(), shape[1].to_le_bytes()].concat();
        let mut small = (1 | (name.len() as u32) << 16).to_le_bytes().to_vec();
        small.extend(name.bytes());
        small.resize(8, 0);
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let body = [tagged(6, &flags), tagged(5, &shape), small, tagged(kind, data)].concat();
        tagged(MATRIX, &body)
    }

    fn file(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = b"MATLAB 5.0 MAT-file".to_vec();
        out.resize(HEADER - 2, b' ');
        out.extend(b"IM");
        out.extend(parts.concat());
        out
    }

    fn parts() -> Vec<Vec<u8>> {
        let t: Vec<u8> = [10i32, 20].iter().flat_map(|v| v.to_le_bytes()).collect();
        vec![
            variable("ts", [2, 1], 6, 5, &t),
            variable("x", [2, 1], 6, 2, &[1, 2]),
            variable("y", [2, 1], 6, 2, &[3, 4]),
            variable("pol", [2, 1], 9, 2, &[1, 0]),
        ]
    }

    #[test]
    fn vectors_deflated_or_not() {
        let e = |t, x, y, p| Event { t, x, y, p };
        let want = vec![e(10, 1, 3, true), e(20, 2, 4, false)];
        assert_eq!(in_pieces(&FORMAT, &file(&parts()), 9), (want.clone(), Ok(())));
        let deflated: Vec<Vec<u8>> = parts().iter().map(|p| deflate(p)).collect();
        assert_eq!(decode(&FORMAT, &file(&deflated)).unwrap(), want);
        let table: Vec<u8> = [10, 20, 1, 2, 3, 4, 1, 0].into();
        let table = variable("events", [2, 4], 9, 2, &table);
        assert_eq!(decode(&FORMAT, &file(&[table])).unwrap(), want);
    }

    /// As Prophesee and N-MNIST's authors keep events: `TD.x`, `TD.y`, `TD.p` of 1 and 2, `TD.ts`.
    #[test]
    fn fields_of_a_structure() {
        let t: Vec<u8> = [10i32, 20].iter().flat_map(|v| v.to_le_bytes()).collect();
        let field = |class, kind, data: &[u8]| variable("", [2, 1], class, kind, data);
        let names: Vec<u8> = ["ts", "x", "y", "p", "meta"].iter().flat_map(|n| format!("{n:\0<8}").into_bytes()).collect();
        let length = [&(5u32 | 4 << 16).to_le_bytes()[..], &8u32.to_le_bytes()].concat();
        let flags = [STRUCTURE.to_le_bytes(), [0; 4]].concat();
        let shape = [1u32, 1].map(u32::to_le_bytes).concat();
        let fields =
            [field(6, 5, &t), field(6, 2, &[1, 2]), field(6, 2, &[3, 4]), field(6, 2, &[2, 1]), tagged(MATRIX, &[])].concat();
        let body = [tagged(6, &flags), tagged(5, &shape), tagged(1, b"TD"), length, tagged(1, &names), fields].concat();
        let structure = tagged(MATRIX, &body);
        let want = [Event { t: 10, x: 1, y: 3, p: true }, Event { t: 20, x: 2, y: 4, p: false }];
        for file in [file(std::slice::from_ref(&structure)), file(&[deflate(&structure)])] {
            assert_eq!(decode(&FORMAT, &file).unwrap(), want);
            assert!((0..file.len()).all(|cut| decode(&FORMAT, &file[..cut]).is_err() || file.len() - cut <= 8));
        }
    }

    fn deflate(part: &[u8]) -> Vec<u8> {
        let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        z.write_all(part).unwrap();
        let z = z.finish().unwrap();
        [&COMPRESSED.to_le_bytes(), &(z.len() as u32).to_le_bytes(), &z[..]].concat()
    }

    /// Columns, a table, and both deflated: wherever the file is cut, the events whose last column is there come out.
    #[test]
    fn a_cut_file_yields_its_beginning() {
        let event = |i: u32| Event { t: i64::from(i * 7), x: (i % 90) as u16, y: (i % 70) as u16, p: i.is_multiple_of(3) };
        let events: Vec<Event> = (0..400).map(event).collect();
        let t: Vec<u8> = events.iter().flat_map(|e| (e.t as u32).to_le_bytes()).collect();
        let column = |f: fn(&Event) -> u8| events.iter().map(f).collect::<Vec<u8>>();
        let [x, y, p] = [column(|e| e.x as u8), column(|e| e.y as u8), column(|e| e.p.into())];
        let columns = [
            variable("ts", [400, 1], 13, 6, &t),
            variable("x", [400, 1], 9, 2, &x),
            variable("y", [400, 1], 9, 2, &y),
            variable("pol", [400, 1], 9, 2, &p),
        ];
        let wide = [&x, &y, &p].into_iter().flatten().flat_map(|&v| u32::from(v).to_le_bytes());
        let table = variable("events", [400, 4], 13, 6, &t.iter().copied().chain(wide).collect::<Vec<u8>>());
        let plain = [file(&columns), file(std::slice::from_ref(&table))];
        let deflated = [file(&columns.each_ref().map(|c| deflate(c))), file(&[deflate(&table)])];
        for whole in plain.into_iter().chain(deflated) {
            assert_eq!(decode(&FORMAT, &whole).unwrap(), events);
            let (mut most, mut some) = (0, 0);
            for cut in 0..whole.len() {
                let (found, end) = in_pieces(&FORMAT, &whole[..cut], 1000);
                assert!(found.len() >= most && events.starts_with(&found), "{cut}: {} after {most}", found.len());
                most = found.len();
                some += usize::from(most > 0);
                // Between two elements nothing tells that something is missing but the missing columns.
                assert!(end.is_err() || most == 400, "{cut}");
                assert!(end.err().is_none_or(|e| e.offset <= cut as u64));
            }
            assert!(some > 0 && most >= 390, "{some} {most}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = file(&parts());
        let (events, end) = in_pieces(&FORMAT, &whole[..whole.len() - 8], 100);
        let said = end.unwrap_err().to_string();
        assert_eq!(
            (events.len(), said.as_str()),
            (
                0,
                "byte 376: the file ends within an element of 56 bytes, which begins at byte 320; before it there is ts [2, 1], x [2, 1], y [2, 1], pol [2, 1]"
            )
        );
        // Cut between two elements.
        let said = |n: usize| decode(&FORMAT, &file(&parts()[..n])).unwrap_err().to_string();
        assert_eq!(
            said(3),
            "byte 320: the file ends here, after element 3, without the column p; there is ts [2, 1], x [2, 1], y [2, 1]. \
             Either it is cut off between two elements, or it has no events"
        );
        assert!(
            said(1)
                .starts_with("byte 192: the file ends here, after element 1, without the columns x, y, p; there is ts [2, 1]. "),
            "{}",
            said(1)
        );
        assert!(said(0).contains("no events: "), "{}", said(0));
        assert!(decode(&FORMAT, b"MATLAB 5.0").is_err());
    }
}
