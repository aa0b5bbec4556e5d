//! NumPy arrays (`.npy`) of events.
//!
//! Structured arrays with fields named like t, x, y and p, in any order and of any number type; or arrays of N rows and 4
//! columns (or 4 rows and N columns), whose order the values tell as in [`super::text`], or [`Decoder::columns`]. Whole
//! numbers are microseconds; times with fractions are seconds.

use super::columns::{By, Order};
use super::numbers::{self, Column, Kind, Numbers, Told};
use super::{DecodeError, Decoder, Event, Format};
use npyz::{DType, TypeChar};

/// The format.
pub static FORMAT: Format = Format {
    name: "npy",
    about: "NumPy array of events (structured, or N x 4)",
    extensions: &["npy"],
    sniff: |head, _| head.starts_with(b"\x93NUMPY"),
    decoder: || Box::<NpyDecoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

/// Rows looked at to tell the order of columns.
const LOOKED_AT: usize = 2000;

/// Decoder of arrays of events.
#[derive(Debug, Default)]
pub struct NpyDecoder {
    bytes: Vec<u8>,
    order: Option<Order>,
    table: Table,
}

/// Events of an array.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Where in the file its data begin.
    at: u64,
    pub told: Told,
}

/// The header of an array: its element type, shape, order in memory, and where its data begin.
pub(super) struct Header {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub fortran: bool,
    pub data: usize,
}

/// Reads the header, refusing those that could not be one before they are parsed.
pub(super) fn header(array: &[u8]) -> Result<Header, String> {
    let data = plausible(array)?;
    // Its errors show the whole header, line by line.
    let bad =
        |e: std::io::Error| format!("a NumPy header that cannot be read: {}", e.to_string().lines().next().unwrap_or_default());
    let header = npyz::NpyHeader::from_reader(array).map_err(bad)?;
    let shape = header.shape().iter().map(|&n| usize::try_from(n).ok());
    Ok(Header {
        dtype: header.dtype(),
        shape: shape.collect::<Option<_>>().ok_or("an array too large")?,
        fortran: header.order() == npyz::Order::Fortran,
        data,
    })
}

/// Refuses headers on which a parser of Python literals would run wild: deep nesting, more text than there is, or
/// sizes beyond 64 bits. Returns where the data begin.
fn plausible(array: &[u8]) -> Result<usize, String> {
    let bad = || Err("not a NumPy array".to_owned());
    let Some(head) = array.first_chunk::<12>() else {
        return bad();
    };
    if !head.starts_with(b"\x93NUMPY") {
        return bad();
    }
    let (start, len) = match head[6] {
        1 => (10, u32::from(u16::from_le_bytes([head[8], head[9]]))),
        _ => (12, u32::from_le_bytes([head[8], head[9], head[10], head[11]])),
    };
    let Some(text) = array.get(start..start + len as usize) else {
        return bad();
    };
    let (mut depth, mut deepest, mut digits, mut quoted) = (0i32, 0, 0, false);
    let (mut run, mut longest) = (0, 0);
    for &b in text {
        run = if b.is_ascii_digit() && !quoted { run + 1 } else { 0 };
        longest = longest.max(run);
        match b {
            b'\'' | b'"' => quoted = !quoted,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'0'..=b'9' if !quoted => digits += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > 8 || digits > 64 || longest > 19 || len > 1 << 16 {
        return bad();
    }
    Ok(start + len as usize)
}

/// The kind of a plain element.
pub(super) fn kind(dtype: &DType) -> Option<Kind> {
    let DType::Plain(t) = dtype else { return None };
    let size = t.num_bytes()?;
    let (float, signed) = match t.type_char() {
        TypeChar::Bool | TypeChar::Uint => (false, false),
        TypeChar::Int => (false, true),
        TypeChar::Float => (true, true),
        _ => return None,
    };
    let known = if float { [2, 4, 8].contains(&size) } else { [1, 2, 4, 8].contains(&size) };
    let big = t.endianness() == npyz::Endianness::Big;
    known.then_some(Kind { float, signed, size, big })
}

/// All numbers of an array of any shape in order of memory, as far as they go, with its header.
pub fn numbers(array: &[u8]) -> Result<(Vec<usize>, Numbers), String> {
    let h = header(array)?;
    let kind = kind(&h.dtype).ok_or_else(|| format!("elements of type {}", h.dtype.descr()))?;
    if h.fortran && h.shape.len() > 1 {
        return Err("an array in Fortran order".into());
    }
    let n = h.shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let n = n.ok_or("an array too large")?;
    let data = kind.read(array, h.data, kind.size, n);
    match data.len() == n {
        true => Ok((h.shape, data)),
        false => Err(format!("{} of {n} elements", data.len())),
    }
}

/// An array of one axis, as far as it goes, and what is wrong with it.
pub(super) fn column(array: &[u8]) -> (Column<'_>, Result<(), String>) {
    let read = || {
        let h = header(array)?;
        let [n] = h.shape[..] else {
            return Err(format!("an array of shape {:?} where one axis was expected", h.shape));
        };
        let kind = kind(&h.dtype).ok_or_else(|| format!("elements of type {}", h.dtype.descr()))?;
        let bytes = array.get(h.data..).unwrap_or_default();
        Ok((Column { kind, bytes, len: n.min(bytes.len() / kind.size) }, n))
    };
    match read() {
        Ok((column, n)) if column.len == n => (column, Ok(())),
        Ok((column, n)) => (column, Err(format!("the array ends after {} of {n} elements", column.len))),
        Err(e) => (Column::default(), Err(e)),
    }
}

/// Columns t, x, y and p, how they were told, and the bytes of a row.
type Columns = ([Numbers; 4], Order, By, usize);

/// The columns of a structured array.
fn fields(array: &[u8], h: &Header, fields: &[npyz::Field]) -> Result<Columns, String> {
    let order = Order::named(fields.iter().map(|f| f.name.as_str()));
    let order = order.ok_or_else(|| {
        let names: Vec<_> = fields.iter().map(|f| f.name.as_str()).collect();
        format!("fields {} where t, x, y and p are needed", names.join(", "))
    })?;
    let [n] = h.shape[..] else {
        return Err(format!("a structured array of shape {:?}", h.shape));
    };
    let size = |f: &npyz::Field| f.dtype.num_bytes().ok_or("fields without a size");
    let sizes = fields.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let stride = sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    let stride = stride.filter(|&s| s > 0).ok_or("fields without a size")?;
    let mut columns = <[Numbers; 4]>::default();
    for (column, &at) in columns.iter_mut().zip(&order.at) {
        let kind = kind(&fields[at].dtype);
        let kind = kind.ok_or_else(|| format!("field `{}` holds no numbers", fields[at].name))?;
        let offset = h.data + sizes[..at].iter().sum::<usize>();
        *column = kind.read(array, offset, stride, n);
    }
    Ok((columns, order, By::Names, stride))
}

/// The columns of an array of N x 4 or 4 x N numbers.
fn matrix(array: &[u8], h: &Header, order: Option<Order>) -> Result<Columns, String> {
    let kind = kind(&h.dtype).ok_or_else(|| format!("elements of type {}", h.dtype.descr()))?;
    let (n, columns_first) = match h.shape[..] {
        [n, 4] => (n, h.fortran),
        [4, n] => (n, !h.fortran),
        _ => {
            return Err(format!("an array of shape {:?} where N x 4 is needed", h.shape));
        }
    };
    let column = |c: usize| match columns_first {
        true => {
            let offset = n.checked_mul(c * kind.size).and_then(|o| o.checked_add(h.data));
            kind.read(array, offset.unwrap_or(usize::MAX), kind.size, n)
        }
        false => kind.read(array, h.data + c * kind.size, 4 * kind.size, n),
    };
    let mut columns = [0, 1, 2, 3].map(column);
    let (order, by) = match order {
        Some(o) if o.is_of_four() => (o, By::Asked),
        Some(_) => return Err("an order of more than 4 columns".into()),
        None if n == 0 => (Order { at: [0, 1, 2, 3], unit: None }, By::Values),
        None => (guess(&columns).ok_or(UNTOLD)?, By::Values),
    };
    let sorted = order.at.map(|i| std::mem::take(&mut columns[i]));
    Ok((sorted, order, by, 4 * kind.size))
}

/// What to say of four columns of which nothing tells what they are.
pub(super) const UNTOLD: &str =
    "columns in which time, place and polarity cannot be told; their order is needed, as in --columns txyp";

impl Table {
    /// The events of an array in a file.
    ///
    /// # Errors
    /// What it is if not events; where it ends, if it is cut off.
    pub fn read(&mut self, array: &[u8], asked: Option<Order>, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let h = header(array).map_err(|e| DecodeError::new(0, e))?;
        self.at = h.data as u64;
        let columns = match &h.dtype {
            DType::Record(f) => fields(array, &h, f),
            _ => matrix(array, &h, asked),
        };
        let ([t, x, y, p], order, by, stride) = columns.map_err(|e| DecodeError::new(self.at, e))?;
        let all = h.shape.iter().fold(1usize, |a, &b| a.saturating_mul(b));
        let rows = if matches!(h.dtype, DType::Record(_)) { all } else { all / 4 };
        let there = [t.len(), x.len(), y.len(), p.len()].into_iter().min().unwrap_or(0);
        let end = numbers::events([&t, &x, &y, &p], (&order, by), asked, out, &mut self.told);
        // What is padding is missed too where a file is cut off.
        if array.len() < rows.saturating_mul(stride).saturating_add(h.data) {
            let what = format!("the file ends after {there} of {rows} events");
            return Err(DecodeError::new(array.len() as u64, what));
        }
        end.map_err(|e| DecodeError::new(self.at, e))
    }
    /// As [`Decoder::skipped`].
    pub fn skipped(&self) -> Option<DecodeError> {
        self.told.skipped(self.at)
    }
}

/// The order that the values of four columns tell.
pub(super) fn guess(columns: &[Numbers; 4]) -> Option<Order> {
    let row = |i: usize| -> Option<[f64; 4]> {
        let [a, b, c, d] = columns;
        Some([a.get(i)?, b.get(i)?, c.get(i)?, d.get(i)?])
    };
    let rows: Vec<[f64; 4]> = (0..LOOKED_AT).map_while(row).collect();
    Order::guess(&rows)
}

impl Decoder for NpyDecoder {
    fn columns(&mut self, order: Order) -> bool {
        self.order = Some(order);
        true
    }

    fn push(&mut self, bytes: &[u8], _: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let array = std::mem::take(&mut self.bytes);
        self.table.read(&array, self.order, out)
    }

    fn skipped(&self) -> Option<DecodeError> {
        self.table.skipped()
    }

    fn read_as(&self) -> Option<String> {
        self.table.told.read_as.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.table.told.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn array(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((text.len() as u16).to_le_bytes());
        out.extend(text.bytes());
        out.extend(data);
        out
    }

    #[test]
    fn fields_and_matrices() {
        let e = |t, x, y, p| Event { t, x, y, p };
        let want = vec![e(100, 7, 9, true), e(200, 8, 300, false)];
        let descr = "[('x', '<u2'), ('y', '>i2'), ('p', '|b1'), ('', '|V1'), ('timestamp', '<i4')]";
        let rows = [7, 0, 0, 9, 1, 0, 100, 0, 0, 0, 8, 0, 1, 44, 0, 0, 200, 0, 0, 0];
        let bytes = array(descr, "False", "(2,)", &rows);
        assert_eq!(in_pieces(&FORMAT, &bytes, 5), (want.clone(), Ok(())));
        let (events, end) = in_pieces(&FORMAT, &bytes[..bytes.len() - 1], 5);
        assert!(events.len() == 1 && end.is_err());
        let row: Vec<u8> = [7f64, 9., 1e-4, 1., 8., 300., 2e-4, 0.].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(decode(&FORMAT, &array("'<f8'", "False", "(2, 4)", &row)).unwrap(), want);
        let column: Vec<u8> = [100i16, 200, 7, 8, 9, 300, 1, 0].iter().flat_map(|v| v.to_be_bytes()).collect();
        for (order, shape) in [("True", "(2, 4)"), ("False", "(4, 2)")] {
            assert_eq!(decode(&FORMAT, &array("'>i2'", order, shape, &column)).unwrap(), want);
        }
        let mut d = (FORMAT.decoder)();
        assert!(d.columns(Order::parse("pxyt").unwrap()));
        let mut out = Vec::new();
        d.push(&array("'|u1'", "False", "(1, 4)", &[1, 7, 9, 100]), &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert_eq!(out, want[..1]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |d: &str, s: &str| decode(&FORMAT, &array(d, "False", s, &[0; 64])).unwrap_err().message;
        assert!(said("'<i4'", "(3, 3)").contains("N x 4"));
        assert!(said("[('a', '<i4'), ('b', '<i4')]", "(3,)").contains("a, b"));
        assert!(said("'<c8'", "(2, 4)").contains("type"));
        assert!(said("'<i8'", "(99999999999999, 4)").contains("ends after"));
    }
}
