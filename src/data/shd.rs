//! Spiking Heidelberg Digits and Spiking Speech Commands: HDF5 of `spikes/times` (seconds), `spikes/units` (700 of a model
//! of the cochlea) and `labels`.

use super::mnist::{read_so_far, unpacked_so_far};
use super::trains::Trains;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::events::{DecodeError, hdf5};
use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The registry's entry of SHD.
pub static SHD: Entry = Entry {
    name: "shd",
    manifest: include_str!("../../datasets/shd.toml"),
    open: |spec, manifest, part| read(spec, manifest, &format!("shd_{}.h5", part.name()), 1.4),
};

/// The registry's entry of SSC.
pub static SSC: Entry = Entry {
    name: "ssc",
    manifest: include_str!("../../datasets/ssc.toml"),
    open: |spec, manifest, part| {
        let official = match (spec.split.as_deref(), part) {
            (Some("valid"), Split::Test) => "valid",
            _ => part.name(),
        };
        read(spec, manifest, &format!("ssc_{official}.h5"), 1.0)
    },
};

const UNITS: usize = 700;

/// Spike trains, and what is wrong with their file behind them.
pub type Found = (hdf5::SpikeTrains, Option<Error>);

/// [`trains`] of what is a set of spike trains, whole or damaged, or an HDF5 file packed by gzip; none of other files.
pub fn trains_if_any(path: &Path) -> Option<Result<Found>> {
    let packed = is_packed(path)?;
    let found = trains(path);
    let damaged = || std::fs::read(path).is_ok_and(hdf5::holds_spike_trains);
    (packed || found.is_ok() || damaged()).then_some(found)
}

/// Of an HDF5 file whether it is packed by gzip; none of another.
fn is_packed(path: &Path) -> Option<bool> {
    let (mut file, mut head) = (BufReader::new(File::open(path).ok()?), Vec::new());
    let packed = file.fill_buf().is_ok_and(|b| b.starts_with(&[0x1f, 0x8b]));
    let bytes: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    // What is there before damage will do.
    let _ = bytes.take(1024).read_to_end(&mut head);
    (hdf5::FORMAT.sniff)(&head, false).then_some(packed)
}

/// The spike trains of any file that is laid out as SHD's, packed by gzip or not.
///
/// # Errors
/// A file that cannot be read, or of which no sample can.
pub fn trains(path: &Path) -> Result<Found> {
    let (bytes, packing) = read_so_far(path)?;
    found(path, bytes, packing)
}

fn found(path: &Path, bytes: Vec<u8>, packing: Option<Error>) -> Result<Found> {
    let error = |e: DecodeError| Error::format(path, e.offset, e.message);
    match (hdf5::spike_trains(bytes), packing) {
        // What is wrong inside comes of what is wrong with the packing.
        (Ok(found), Some(packing)) => Ok((found, Some(packing))),
        (Err(_), Some(packing)) => Err(packing),
        (found, None) => {
            let mut found = found.map_err(error)?;
            let damage = found.damage.take().map(error);
            Ok((found, damage))
        }
    }
}

fn read(spec: &DatasetSpec, manifest: &Manifest, name: &str, length: f64) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let get = manifest.get.replace("{dir}", &dir.display().to_string());
    let (path, bytes, packing) = unpacked_so_far(&dir, name, &get)?;
    let (found, damage) = found(&path, bytes, packing)?;
    let read = found.labels.len();
    let warnings = match damage {
        Some(e) if spec.strict => return Err(e),
        damage => damage.map(|e| format!("{e}; the {read} samples before it are used")).into_iter().collect(),
    };
    let largest = found.labels.iter().max().map_or(0, |&m| m as usize);
    if largest >= manifest.classes.len() {
        let what = format!("label {largest} of {} classes", manifest.classes.len());
        return Err(Error::format(&path, 0, what));
    }
    let spikes = found.trains.into_iter().map(|t| t.times.into_iter().zip(t.units).collect());
    Ok(Box::new(Trains {
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        units: UNITS,
        length,
        frames: spec.frames,
        slices: spec.slices,
        spikes: spikes.collect(),
        labels: found.labels,
        what: "sample",
        warnings,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::open;
    use std::io::Write;

    /// Cut off as it is or packed: the samples before the cut and one warning with the byte, or the sentence where that is asked for.
    #[test]
    fn a_cut_file_gives_its_beginning() {
        let whole = include_bytes!("../../tests/data/cut_trains.h5");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(whole).unwrap();
        let packed = packed.finish().unwrap();
        for (name, bytes, why) in [
            ("shd_train.h5", &whole[..], "the file is cut off here; its superblock"),
            ("shd_train.h5.gz", &packed, "the file is cut off here, within its gzip stream"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let spec = DatasetSpec { dir: Some(dir.path().into()), ..DatasetSpec::new("shd") };
            let strict = DatasetSpec { strict: true, ..spec.clone() };
            let write = |n: usize| std::fs::write(dir.path().join(name), &bytes[..n]).unwrap();
            write(bytes.len());
            let all = open(&strict, Split::Train).unwrap();
            assert_eq!((all.len(), all.warnings()), (40, vec![]));
            let n = bytes.len() * 9 / 10;
            write(n);
            let some = open(&spec, Split::Train).unwrap();
            assert!((10..40).contains(&some.len()), "{name}: {}", some.len());
            assert_eq!(some.labels(), all.labels()[..some.len()]);
            let said = some.warnings();
            let what = format!("{}: byte {n}: {why}", dir.path().join(name).display());
            assert!(said.len() == 1 && said[0].starts_with(&what), "{said:?}");
            assert!(said[0].ends_with(&format!("; the {} samples before it are used", some.len())), "{said:?}");
            let refused = |spec: &DatasetSpec| open(spec, Split::Train).err().unwrap().to_string();
            assert!(refused(&strict).starts_with(&what));
            write(bytes.len() / 20);
            assert!(refused(&spec).contains("the file is cut off here"), "{}", refused(&spec));
        }
    }
}
