//! NumPy archives of event columns, as SpikingJelly stores its datasets: arrays `t`, `x`, `y`, `p` of one length.
//!
//! Any integer or boolean type is read, and floats that hold whole numbers; `p` is on where it is above 0. `t` is in
//! microseconds. The writer adds an array `sensor` of width and height, which other readers do not look at.
//!
//! An archive's index stands at its end, so the decoder keeps the bytes and decodes at [`Decoder::finish`]. In a file that
//! was cut off the columns are found one after another; events are made as far as the shortest of them reaches.

use super::{DecodeError, Decoder, Event, EventStream, Format, Sensor};
use npyz::WriterBuilder as _;
use std::io::{Cursor, Read, Write};

/// The format.
pub static FORMAT: Format = Format {
    name: "npz",
    about: "NumPy archive of event columns t, x, y, p (SpikingJelly)",
    extensions: &["npz"],
    sniff,
    decoder: || Box::<NpzDecoder>::default(),
    encode: Some(encode),
    keeps_sensor: true,
};

const COLUMNS: [&str; 4] = ["t", "x", "y", "p"];
const SENSOR: &str = "sensor";

/// Decoder of archives of event columns.
#[derive(Debug, Default)]
pub struct NpzDecoder {
    bytes: Vec<u8>,
    sensor: Option<Sensor>,
}

/// A zip archive whose first entry is an array.
fn sniff(head: &[u8], _: bool) -> bool {
    let Some(h) = head.first_chunk::<30>() else {
        return false;
    };
    let name = 30..30 + usize::from(u16::from_le_bytes([h[26], h[27]]));
    head.starts_with(b"PK\x03\x04") && head.get(name).is_some_and(|n| n.ends_with(b".npy"))
}

impl Decoder for NpzDecoder {
    fn push(&mut self, bytes: &[u8], _: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let (columns, mut damage) = columns(&bytes);
        self.sensor = columns.sensor();
        let [t, x, y, p] = columns.events.map(Option::unwrap_or_default);
        let n = [t.len(), x.len(), y.len(), p.len()];
        let shortest = n.iter().copied().min().unwrap_or(0);
        if n.iter().any(|&n| n != shortest) {
            damage.get_or_insert_with(|| format!("columns t, x, y, p of unequal lengths {n:?}"));
        }
        out.reserve(shortest);
        for i in 0..shortest {
            let (Ok(x), Ok(y)) = (u16::try_from(x[i]), u16::try_from(y[i])) else {
                damage.get_or_insert_with(|| format!("event {i} at ({}, {}) is on no sensor", x[i], y[i]));
                break;
            };
            out.push(Event { t: t[i], x, y, p: p[i] > 0 });
        }
        damage.map_or(Ok(()), |what| Err(DecodeError::new(bytes.len() as u64, what)))
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }
}

#[derive(Default)]
struct Columns {
    events: [Option<Vec<i64>>; 4],
    sensor: Option<Vec<i64>>,
}

impl Columns {
    fn sensor(&self) -> Option<Sensor> {
        match self.sensor.as_deref() {
            Some(&[w, h]) => Some(Sensor::new(w.try_into().ok()?, h.try_into().ok()?)),
            _ => None,
        }
    }

    fn slot(&mut self, file_name: &str) -> Option<&mut Option<Vec<i64>>> {
        let name = file_name.strip_suffix(".npy")?;
        match COLUMNS.iter().position(|&c| c == name) {
            Some(i) => Some(&mut self.events[i]),
            None => (name == SENSOR).then_some(&mut self.sensor),
        }
    }

    /// Reads one entry, as far as it goes.
    fn take(&mut self, name: &str, entry: &mut impl Read) -> Result<(), String> {
        let Some(slot) = self.slot(name) else {
            return Ok(());
        };
        let mut array = Vec::new();
        let end = entry.read_to_end(&mut array).map_err(|e| format!("{name}: {e}"));
        let (values, whole) = integers(&array);
        *slot = Some(values);
        end?;
        whole.map_err(|e| format!("{name}: {e}"))
    }
}

/// The columns found, and the first thing that is wrong with the archive.
fn columns(bytes: &[u8]) -> (Columns, Option<String>) {
    let (mut columns, mut damage) = (Columns::default(), None);
    match zip::ZipArchive::new(Cursor::new(bytes)) {
        Ok(mut archive) => {
            for i in 0..archive.len() {
                let result = archive.by_index(i).map_err(|e| e.to_string()).and_then(|mut entry| {
                    let name = entry.name().map_err(|e| e.to_string())?.into_owned();
                    columns.take(&name, &mut entry)
                });
                damage = damage.or(result.err());
            }
        }
        Err(e) => {
            let cut = e.to_string();
            let mut rest = bytes;
            while let Ok(Some(mut entry)) = zip::read::read_zipfile_from_stream(&mut rest) {
                let name = entry.name().map_or_else(|_| String::new(), |n| n.into_owned());
                if columns.take(&name, &mut entry).is_err() {
                    break;
                }
            }
            damage = Some(format!("the archive is cut off or damaged ({cut})"));
        }
    }
    for (name, column) in COLUMNS.iter().zip(&columns.events) {
        if column.is_none() {
            damage.get_or_insert_with(|| format!("no array `{name}` in the archive"));
        }
    }
    (columns, damage)
}

/// The elements of a one-dimensional `.npy` array as integers, as far as they go, and whether that was all of them.
fn integers(array: &[u8]) -> (Vec<i64>, Result<(), String>) {
    if let Err(e) = plausible(array) {
        return (Vec::new(), Err(e));
    }
    let mut file = match npyz::NpyFile::new(array) {
        Ok(f) => f,
        Err(e) => return (Vec::new(), Err(e.to_string())),
    };
    if file.shape().len() != 1 {
        return (Vec::new(), Err(format!("an array of shape {:?} where one axis was expected", file.shape())));
    }
    let total = file.len();
    macro_rules! read_as {
        ($($t:ty: $f:expr),*) => {
            $(file = match file.try_data::<$t>() {
                Ok(reader) => return collect(reader.map(|v| v.ok().and_then($f)), total, array.len()),
                Err(file) => file,
            };)*
        };
    }
    let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64);
    read_as!(
        i64: Some, i32: |v| Some(v.into()), i16: |v| Some(v.into()), i8: |v| Some(v.into()),
        u64: |v| v.try_into().ok(), u32: |v| Some(v.into()), u16: |v| Some(v.into()), u8: |v| Some(v.into()),
        bool: |v| Some(v.into()), f64: whole, f32: |v| whole(v.into())
    );
    (Vec::new(), Err(format!("elements of type {} are not whole numbers", file.dtype().descr())))
}

fn collect(values: impl Iterator<Item = Option<i64>>, total: u64, bytes: usize) -> (Vec<i64>, Result<(), String>) {
    let mut out = Vec::with_capacity((bytes as u64).min(total) as usize);
    out.extend(values.map_while(|v| v));
    let end = if out.len() as u64 == total {
        Ok(())
    } else {
        Err(format!("element {} of {total} is missing or not a whole number", out.len()))
    };
    (out, end)
}

/// Refuses headers on which a parser of Python literals would run wild: deep nesting, more text than there is, or
/// sizes beyond 64 bits. Returns where the data begin.
pub(super) fn plausible(array: &[u8]) -> Result<usize, String> {
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

/// The file for a recording.
///
/// # Errors
/// None that a recording could cause.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    let e = &stream.events;
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    column(&mut out, "t", e.iter().map(|e| e.t))?;
    column(&mut out, "x", e.iter().map(|e| e.x))?;
    column(&mut out, "y", e.iter().map(|e| e.y))?;
    column(&mut out, "p", e.iter().map(|e| u8::from(e.p)))?;
    if stream.sensor_declared {
        column(&mut out, SENSOR, [stream.sensor.width, stream.sensor.height].into_iter())?;
    }
    Ok(out.finish().map_err(|e| e.to_string())?.into_inner())
}

fn column<T: npyz::AutoSerialize>(
    out: &mut zip::ZipWriter<Cursor<Vec<u8>>>,
    name: &str,
    values: impl ExactSizeIterator<Item = T>,
) -> Result<(), String> {
    let mut array = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(&[values.len() as u64]);
    let mut writer = options.writer(&mut array).begin_nd().map_err(|e| e.to_string())?;
    writer.extend(values).and_then(|()| writer.finish()).map_err(|e| e.to_string())?;
    let stored = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    out.start_file(format!("{name}.npy"), stored).map_err(|e| e.to_string())?;
    out.write_all(&array).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn archive(parts: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, array) in parts {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            out.start_file(format!("{name}.npy"), options).unwrap();
            out.write_all(array).unwrap();
        }
        out.finish().unwrap().into_inner()
    }

    fn array<T: npyz::AutoSerialize + Clone>(v: &[T]) -> Vec<u8> {
        let mut out = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[v.len() as u64]);
        let mut w = options.writer(&mut out).begin_nd().unwrap();
        w.extend(v.iter().cloned()).unwrap();
        w.finish().unwrap();
        out
    }

    #[test]
    fn any_types_and_compression() {
        let parts = [
            ("p", array(&[true, false])),
            ("t", array(&[5.0f64, 7.0])),
            ("other", b"not an array".to_vec()),
            ("x", array(&[1u8, 2])),
            ("y", array(&[3i32, 4])),
        ];
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let bytes = archive(&parts, method);
            assert!(sniff(&bytes, false));
            let want = [Event { t: 5, x: 1, y: 3, p: true }, Event { t: 7, x: 2, y: 4, p: false }];
            assert_eq!(decode(&FORMAT, &bytes).unwrap(), want);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let ok = || vec![("t", array(&[1i64])), ("x", array(&[1i16])), ("y", array(&[1i16])), ("p", array(&[-1i8]))];
        type Parts = Vec<(&'static str, Vec<u8>)>;
        let said = |change: &dyn Fn(&mut Parts)| {
            let mut parts = ok();
            change(&mut parts);
            let bytes = archive(&parts, zip::CompressionMethod::Stored);
            decode(&FORMAT, &bytes).err().map_or(String::new(), |e| e.message)
        };
        assert_eq!(said(&|_| ()), "");
        assert!(
            said(&|v| {
                v.remove(2);
            })
            .contains("no array `y`")
        );
        assert!(said(&|v| v[0].1 = array(&[0.5f32])).contains("t.npy: element 0"));
        assert!(said(&|v| v[1].1 = array(&[-1i32])).contains("(-1, 1)"));
        assert!(said(&|v| v[1].1 = array(&[1i32, 2])).contains("unequal"));
        assert!(said(&|v| v[3].1 = b"rubbish and more rubbish".to_vec()).contains("not a NumPy array"));
        let deep = [b"\x93NUMPY\x01\x00\xff\xff".to_vec(), vec![b'('; 65535]].concat();
        assert!(said(&|v| v[3].1 = deep.clone()).contains("not a NumPy array"));
    }

    #[test]
    fn a_cut_archive_yields_what_all_columns_reach() {
        let n = 100u16;
        let parts = [
            ("x", array(&(0..n).collect::<Vec<_>>())),
            ("y", array(&(0..n).collect::<Vec<_>>())),
            ("p", array(&vec![true; n.into()])),
            ("t", array(&(0..i64::from(n)).collect::<Vec<_>>())),
        ];
        let bytes = archive(&parts, zip::CompressionMethod::Stored);
        let last = bytes.windows(2).rposition(|w| w == b"\x62\x00").unwrap();
        let (events, end) = in_pieces(&FORMAT, &bytes[..last], 64);
        assert!(events.len() > 90 && events.len() < 100, "{}", events.len());
        assert!(end.unwrap_err().message.contains("cut off"));
    }
}
