//! N-MNIST, in the layout it is published in: `Train/<digit>/<id>.bin`, `Test/<digit>/<id>.bin`.

use super::files::{labelled, subfolder};
use super::{Dataset, DatasetSpec, Entry, Files, Manifest, Split, class_folders};
use crate::events::Sensor;
use crate::{Error, Result};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "nmnist", manifest: include_str!("../../datasets/nmnist.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, split: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let Some(part) = subfolder(&dir, split.name()) else {
        let expected = format!("no folder for the {} samples in it; expected {}", split.name(), manifest.tree);
        return Err(Error::config(dir.display().to_string(), expected));
    };
    let [width, height] = manifest.sensor.unwrap_or_default();
    Ok(Box::new(Files {
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        sensor: Sensor::new(width, height),
        files: labelled(&part, class_folders(&part)?, &manifest.classes, "event files")?,
        strict: spec.strict,
        turn: None,
    }))
}
