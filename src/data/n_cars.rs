//! N-CARS: `n-cars_train/{cars,background}/*.dat` and `n-cars_test/...`.

use super::files::{parted, subfolder};
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::Result;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "n_cars", manifest: include_str!("../../datasets/n_cars.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let part_of = |name: &str| subfolder(&dir, &format!("n-cars_{name}")).or_else(|| subfolder(&dir, name));
    parted(spec, manifest, [part_of("train"), part_of("test")], part, None)
}
