//! CIFAR10-DVS: `<class>/cifar10_<class>_<n>.aedat`, AEDAT 2.0, without an official split.
//!
//! The camera's axes are not those of the pictures; recordings are turned upright as other libraries do.

use super::files::whole;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::Result;
use crate::events::EventStream;

/// From the camera's axes to the picture's.
fn upright(stream: &mut EventStream) {
    for e in &mut stream.events {
        (e.x, e.y) = (127u16.saturating_sub(e.y), e.x);
    }
}

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "cifar10_dvs", manifest: include_str!("../../datasets/cifar10_dvs.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    whole(spec, manifest, &dir, part, Some(upright))
}
