//! DVS sign language: `train/<class>/*.csv` and `test/<class>/*.csv`, rows of seconds, x, y, p.

use super::files::{parted, subfolder};
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::Result;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "dvs_sign", manifest: include_str!("../../datasets/dvs_sign.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    // As the archive unpacks.
    let dir = subfolder(&dir, "dvs_sign").unwrap_or(dir);
    let parts = [subfolder(&dir, "train"), subfolder(&dir, "test")];
    parted(spec, manifest, parts, part, None)
}
