//! EvTouch objects: `Ev-Objects.zip` of `{train,test}/sample_<n>_label_<class>.npy`, arrays `[39 taxels, 2, 250 steps]` of 0
//! and 1. Units are taxel * 2 + polarity.

use super::trains::Trains;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::events::npy;
use crate::{Error, Result};
use std::io::{Cursor, Read};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "evtouch", manifest: include_str!("../../datasets/evtouch.toml"), open };

const ARCHIVE: &str = "Ev-Objects.zip";
const TAXELS: usize = 39;
const STEPS: usize = 250;

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let path = spec.file(manifest, ARCHIVE)?;
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let error = |what: String| Error::format(&path, 0, what);
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).map_err(|e| error(e.to_string()))?;
    let mut samples = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| error(e.to_string()))?;
        let name = entry.name().map_err(|e| error(e.to_string()))?.into_owned();
        let Some((number, label)) = parse(&name, part) else {
            continue;
        };
        let bad = |what: String| error(format!("{name}: {what}"));
        let mut array = Vec::new();
        let limit = entry.compressed_size().saturating_mul(1032);
        entry.by_ref().take(limit).read_to_end(&mut array).map_err(|e| bad(e.to_string()))?;
        let (shape, values) = npy::numbers(&array).map_err(bad)?;
        if shape != [TAXELS, 2, STEPS] {
            return Err(bad(format!("an array of {shape:?}")));
        }
        if label as usize >= manifest.classes.len() {
            return Err(bad(format!("label {label}")));
        }
        let spike = |i: usize| {
            let fired = values.get(i).is_some_and(|v| v > 0.0);
            fired.then_some(((i % STEPS) as f32, (i / STEPS) as u16))
        };
        let spikes = (0..values.len()).filter_map(spike).collect();
        samples.push((number, label, spikes));
    }
    samples.sort_by_key(|s| s.0);
    let mut out = Trains {
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        units: TAXELS * 2,
        length: STEPS as f64,
        frames: spec.frames,
        slices: spec.slices,
        ..Trains::default()
    };
    for (_, label, spikes) in samples {
        out.labels.push(label);
        out.spikes.push(spikes);
    }
    Ok(Box::new(out))
}

/// Number and label of a sample of that part, by the name of its file.
fn parse(name: &str, part: Split) -> Option<(u32, u32)> {
    let (folder, file) = name.rsplit_once('/')?;
    if folder.rsplit('/').next() != Some(part.name()) {
        return None;
    }
    let rest = file.strip_prefix("sample_")?.strip_suffix(".npy")?;
    let (number, label) = rest.split_once("_label_")?;
    Some((number.parse().ok()?, label.parse().ok()?))
}
