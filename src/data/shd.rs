//! Spiking Heidelberg Digits and Spiking Speech Commands: HDF5 of `spikes/times` (seconds), `spikes/units` (700 of a model
//! of the cochlea) and `labels`.

use super::mnist::unpacked;
use super::trains::Trains;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::events::{DecodeError, hdf5};
use crate::{Error, Result};

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

fn read(spec: &DatasetSpec, manifest: &Manifest, name: &str, length: f64) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let get = manifest.get.replace("{dir}", &dir.display().to_string());
    let (path, bytes) = unpacked(&dir, name, &get)?;
    let error = |e: DecodeError| Error::format(&path, e.offset, e.message);
    let found = hdf5::spike_trains(bytes).map_err(error)?;
    let read = found.labels.len();
    let warnings = match found.damage {
        Some(e) if spec.strict => return Err(error(e)),
        damage => damage.map(|e| format!("{}; the {read} samples before it are used", error(e))).into_iter().collect(),
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
