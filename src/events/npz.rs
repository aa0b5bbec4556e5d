//! NumPy archives of event columns, as SpikingJelly stores its datasets: arrays `t`, `x`, `y`, `p` of one length, or named like them;
//! or an archive of one table, as [`super::npy`] reads it.
//!
//! Any integer, boolean or floating type is read; times with fractions are seconds, others microseconds. The writer adds an array
//! `sensor` of width and height, which other readers do not look at.
//!
//! An archive's index stands at its end, so the decoder keeps the bytes and decodes at [`Decoder::finish`]. In a file that
//! was cut off the arrays are found one after another; events are made as far as the shortest of them reaches.

use super::columns::{By, Order, meaning};
use super::npy::{self, Table};
use super::numbers::{self, Told};
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
    marked: true,
};

const SENSOR: &str = "sensor";
/// Deflate makes at most this of a byte.
const MOST_INFLATED: u64 = 1032;

/// Decoder of archives of event columns.
#[derive(Debug, Default)]
pub struct NpzDecoder {
    bytes: Vec<u8>,
    asked: Option<Order>,
    sensor: Option<Sensor>,
    told: Told,
    /// Where the archive holds one instead of columns.
    table: Table,
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
    fn columns(&mut self, order: Order) -> bool {
        self.asked = Some(order);
        true
    }

    fn push(&mut self, bytes: &[u8], _: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let (arrays, damage) = arrays(&bytes);
        let n = bytes.len() as u64;
        drop(bytes);
        let found = self.events(&arrays, out);
        // What is wrong with the archive explains what is wrong within.
        let what = match (damage, found) {
            (Some(damage), Err(e)) if out.is_empty() => format!("{damage}; {e}"),
            (Some(what), _) | (None, Err(what)) => what,
            (None, Ok(())) => return Ok(()),
        };
        Err(DecodeError::new(n, what))
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn skipped(&self) -> Option<DecodeError> {
        self.told.skipped(0).or_else(|| self.table.skipped())
    }

    fn read_as(&self) -> Option<String> {
        self.told.read_as.clone().or_else(|| self.table.told.read_as.clone())
    }

    fn warnings(&self) -> Vec<String> {
        self.told.notes.iter().chain(&self.table.told.notes).cloned().collect()
    }
}

impl NpzDecoder {
    fn events(&mut self, arrays: &[Array], out: &mut Vec<Event>) -> Result<(), String> {
        if let Some(a) = arrays.iter().find(|a| a.name == SENSOR)
            && let (sizes, Ok(())) = npy::column(&a.bytes)
            && let sizes = sizes.read(0..sizes.len.min(3))
            && let (2, Some(w), Some(h)) = (sizes.len(), sizes.whole(0), sizes.whole(1))
        {
            self.sensor = w.try_into().ok().zip(h.try_into().ok()).map(|(w, h)| Sensor::new(w, h));
        }
        let named = arrays.iter().map(|a| a.name.as_str());
        let Some(order) = Order::named(named.clone()) else {
            let found = |c: &&str| !named.clone().filter_map(meaning).any(|m| ["t", "x", "y", "p"][m.0 as usize] == *c);
            let missing: Vec<_> = ["t", "x", "y", "p"].into_iter().filter(found).collect();
            // One table in place of columns.
            if let ([_, _, _, _], Some(a)) = (&missing[..], arrays.iter().find(|a| a.name != SENSOR)) {
                return self.table.read(&a.bytes, self.asked, out).map_err(|e| format!("{}.npy: {}", a.name, e.message));
            }
            return Err(format!("no array `{}` in the archive", missing.first().unwrap_or(&"t")));
        };
        let mut damage = None;
        let columns = order.at.map(|i| {
            let (column, end) = match &arrays[i].end {
                Some(e) => (npy::column(&arrays[i].bytes).0, Err(e.clone())),
                None => npy::column(&arrays[i].bytes),
            };
            if let Err(e) = end {
                damage.get_or_insert(format!("{}.npy: {e}", arrays[i].name));
            }
            column
        });
        let end = numbers::events_in_blocks(columns, (&order, By::Names), self.asked, out, &mut self.told);
        damage.map_or(end, Err)
    }
}

/// An entry of an archive.
struct Array {
    /// Its name, without `.npy`.
    name: String,
    /// As much of it as could be unpacked.
    bytes: Vec<u8>,
    /// Why that is not all.
    end: Option<String>,
}

/// Of each column one, the sensor, and where no column came before it one array of another name: an archive may list one entry many times.
fn wanted(arrays: &[Array], name: &str) -> bool {
    let column = |name: &str| meaning(name).map(|m| m.0);
    match column(name) {
        Some(c) => arrays.iter().all(|a| column(&a.name) != Some(c)),
        None if name == SENSOR => arrays.iter().all(|a| a.name != SENSOR),
        None => arrays.iter().all(|a| a.name == SENSOR),
    }
}

/// The arrays of an archive, and what is wrong with it.
fn arrays(bytes: &[u8]) -> (Vec<Array>, Option<String>) {
    let mut out = Vec::new();
    let mut archive = match zip::ZipArchive::new(Cursor::new(bytes)) {
        Ok(archive) => archive,
        Err(_) => {
            walk(bytes, &mut out);
            return (out, Some("the archive is cut off or damaged: its directory, which stands at the end, is not there".into()));
        }
    };
    let mut damage = None;
    for i in 0..archive.len() {
        let read = archive.by_index(i).map_err(|e| e.to_string()).and_then(|mut entry| {
            let name = entry.name().map_err(|e| e.to_string())?.into_owned();
            if let Some(name) = name.strip_suffix(".npy").filter(|name| wanted(&out, name)) {
                let limit = entry.compressed_size().saturating_mul(MOST_INFLATED);
                let mut bytes = Vec::new();
                let end = entry.by_ref().take(limit).read_to_end(&mut bytes).err().map(|e| e.to_string());
                out.push(Array { name: name.into(), bytes, end });
            }
            Ok(())
        });
        damage = damage.or(read.err());
    }
    (out, damage)
}

/// The entries that follow each other from the beginning on: all there are where the directory is lost.
fn walk(bytes: &[u8], out: &mut Vec<Array>) {
    let mut rest = bytes;
    while let Some(Entry { name, method, data, next }) = entry(rest) {
        let name = String::from_utf8_lossy(name);
        if let Some(name) = name.strip_suffix(".npy").filter(|name| wanted(out, name)) {
            let mut bytes = Vec::new();
            let limit = (data.len() as u64).saturating_mul(MOST_INFLATED);
            let end = match method {
                0 => data.take(limit).read_to_end(&mut bytes),
                _ => flate2::read::DeflateDecoder::new(data).take(limit).read_to_end(&mut bytes),
            };
            out.push(Array { name: name.into(), bytes, end: end.err().map(|e| e.to_string()) });
        }
        rest = next;
    }
}

/// An entry of a zip archive, stored or deflated.
struct Entry<'a> {
    name: &'a [u8],
    method: u16,
    /// As far as they go.
    data: &'a [u8],
    /// What follows it.
    next: &'a [u8],
}

/// The entry at the beginning of these bytes.
fn entry(b: &[u8]) -> Option<Entry<'_>> {
    let h = b.first_chunk::<30>().filter(|h| h.starts_with(b"PK\x03\x04"))?;
    let short = |at: usize| u16::from_le_bytes([h[at], h[at + 1]]);
    let (flags, method, name, extra) = (short(6), short(8), usize::from(short(26)), usize::from(short(28)));
    let (name, extra, data) = (b.get(30..30 + name)?, b.get(30 + name..30 + name + extra)?, &b[30 + name + extra..]);
    let mut size = u64::from(u32::from_le_bytes([h[18], h[19], h[20], h[21]]));
    if size == u64::from(u32::MAX) {
        // NumPy keeps room for sizes of 64 bits, the unpacked one first.
        let mut fields = extra;
        while let Some((&[a, b, c, d], rest)) = fields.split_first_chunk::<4>() {
            let field = rest.get(..usize::from(u16::from_le_bytes([c, d])))?;
            if [a, b] == [1, 0] {
                size = u64::from_le_bytes(field.get(8..16)?.try_into().ok()?);
            }
            fields = &rest[field.len()..];
        }
    }
    // Where sizes follow the data this entry's end is not known, nor is what it would be to other methods.
    if flags & 8 != 0 || ![0, 8].contains(&method) {
        return None;
    }
    let (data, next) = data.split_at(data.len().min(usize::try_from(size).unwrap_or(usize::MAX)));
    Some(Entry { name, method, data, next })
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
        assert!(said(&|v| v[3].1 = array(&[7u8])).contains("event 0 has the polarity 7"));
        assert!(said(&|v| v.clear()).contains("no array `t`"));
        assert!(said(&|v| v[1].1 = array(&[-1i32])).contains("(-1, 1)"));
        assert!(said(&|v| v[1].1 = array(&[1i32, 2])).contains("unequal"));
        assert!(said(&|v| v[3].1 = b"rubbish and more rubbish".to_vec()).contains("not a NumPy array"));
        let deep = [b"\x93NUMPY\x01\x00\xff\xff".to_vec(), vec![b'('; 65535]].concat();
        assert!(said(&|v| v[3].1 = deep.clone()).contains("not a NumPy array"));
    }

    #[test]
    fn other_names_units_codings_and_tables() {
        let want = [Event { t: 500_000, x: 1, y: 3, p: true }, Event { t: 750_000, x: 2, y: 4, p: false }];
        let parts =
            [("pol", array(&[2u8, 1])), ("ts", array(&[0.5f64, 0.75])), ("xs", array(&[1.0f32, 2.0])), ("y", array(&[3u64, 4]))];
        let mut d = (FORMAT.decoder)();
        let mut out = Vec::new();
        d.push(&archive(&parts, zip::CompressionMethod::Stored), &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert_eq!(out, want);
        assert!(d.warnings()[0].contains("2 for on") && d.read_as().unwrap().contains("in seconds"));
        let mut table = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 4]);
        let mut w = options.writer(&mut table).begin_nd().unwrap();
        w.extend([1.0f64, 3.0, 0.5, 1.0, 2.0, 4.0, 0.75, 0.0]).unwrap();
        w.finish().unwrap();
        let bytes = archive(&[("arr_0", table)], zip::CompressionMethod::Deflated);
        assert_eq!(decode(&FORMAT, &bytes).unwrap(), want);
        // Without its directory.
        let end = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let (events, result) = in_pieces(&FORMAT, &bytes[..end], 64);
        assert!(events == want && result.unwrap_err().message.contains("its directory"));
        // One bad row costs that row.
        let parts = [
            ("t", array(&[1i64, 2, 3])),
            ("x", array(&[1i32, -1, 3])),
            ("y", array(&[1i16, 2, 3])),
            ("p", array(&[true, true, false])),
        ];
        let mut d = (FORMAT.decoder)();
        let mut out = Vec::new();
        d.push(&archive(&parts, zip::CompressionMethod::Stored), &mut out).unwrap();
        d.finish(&mut out).unwrap();
        assert_eq!(out.iter().map(|e| e.t).collect::<Vec<_>>(), [1, 3]);
        assert!(d.skipped().unwrap().message.contains("event 1 at time 2, (-1, 2) is on no sensor; this row is left out"));
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
