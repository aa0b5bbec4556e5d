//! N-MNIST, in the layout it is published in: `Train/<digit>/<id>.bin`, `Test/<digit>/<id>.bin`.

use super::files::{labelled, of, subfolder};
use super::{Dataset, DatasetSpec, Entry, Manifest, Split, class_folders};
use crate::{Error, Result};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "nmnist", manifest: include_str!("../../datasets/nmnist.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, split: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let Some(part) = subfolder(&dir, split.name()) else {
        let expected = format!("no folder for the {} samples in it; expected {}", split.name(), manifest.tree);
        return Err(Error::config(dir.display().to_string(), expected));
    };
    let labelled = labelled(&part, class_folders(&part)?, &manifest.classes, "event files")?;
    Ok(Box::new(of(spec, manifest, manifest.classes.clone(), labelled, None)))
}
