//! ASL-DVS: `<letter>/<letter>_<n>.mat`, MATLAB vectors ts, x, y, pol, without an official split.

use super::files::whole;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::Result;
use crate::events::EventStream;

/// Rows are counted from below in the files.
fn upright(stream: &mut EventStream) {
    stream.events.iter_mut().for_each(|e| e.y = 179u16.saturating_sub(e.y));
}

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "asl_dvs", manifest: include_str!("../../datasets/asl_dvs.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    whole(spec, manifest, &dir, part, Some(upright))
}
