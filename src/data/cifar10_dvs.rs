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

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;
    use crate::events::{Event, Sensor, aedat4, save};

    #[test]
    fn splits_by_number_and_upright() {
        let dir = tempfile::tempdir().unwrap();
        let event = Event { t: 1, x: 3, y: 100, p: true };
        let stream = EventStream::new(vec![event], Sensor::new(128, 128));
        for class in ["cat", "dog"] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            for i in 0..20 {
                save(dir.path().join(format!("{class}/cifar10_{class}_{i}.aedat4")), &stream, &aedat4::FORMAT).unwrap();
            }
        }
        for (split, tested) in [("first90", [18, 19]), ("last90", [0, 1])] {
            let spec = DatasetSpec { dir: Some(dir.path().into()), split: Some(split.into()), ..DatasetSpec::new("cifar10_dvs") };
            let test = open(&spec, Split::Test).unwrap();
            assert_eq!((test.labels(), open(&spec, Split::Train).unwrap().len()), (vec![3, 3, 5, 5], 36));
            for (i, n) in tested.iter().enumerate() {
                assert!(test.describe(i).ends_with(&format!("cifar10_cat_{n}.aedat4")), "{}", test.describe(i));
            }
            let super::super::Recording::Events(s) = test.load(0).unwrap() else { panic!() };
            assert_eq!((s.events[0].x, s.events[0].y), (27, 3));
        }
    }
}
