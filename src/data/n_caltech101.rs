//! N-Caltech101: `Caltech101/<class>/image_<n>.bin`, ATIS 40-bit, without an official split.

use super::files::{subfolder, whole};
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::Result;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "n_caltech101", manifest: include_str!("../../datasets/n_caltech101.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    // The archive's own folder, or the classes themselves.
    let dir = subfolder(&dir, "Caltech101").unwrap_or(dir);
    whole(spec, manifest, &dir, part, None)
}
