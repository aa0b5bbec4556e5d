//! Own recordings: a folder per class, with files of any event format.
//!
//! `DIR/train/<class>/*` and `DIR/test/<class>/*`, or `DIR/<class>/*` alone, of which `test_fraction` of each class becomes
//! the test set. All recordings share one sensor. Formats that do not say it (ATIS) need `sensor = [width, height]`.

use super::files::{layout, named_like_events};
use super::{Dataset, DatasetSpec, Entry, Files, Manifest, Split};
use crate::events::{self, Sensor};
use crate::{Error, Result};
use std::path::Path;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "folder", manifest: include_str!("../../datasets/folder.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let found = layout(spec, &spec.folder(manifest)?, part, named_like_events, "event files")?;
    Ok(Box::new(Files {
        name: manifest.name.clone(),
        sensor: sensor(spec, &found.first)?,
        classes: found.classes,
        files: found.files,
        strict: spec.strict,
        turn: None,
    }))
}

/// The recipe's sensor, else the one the first recording declares.
fn sensor(spec: &DatasetSpec, path: &Path) -> Result<Sensor> {
    if let Some([width, height]) = spec.sensor {
        return Ok(Sensor::new(width, height));
    }
    let first = events::open(path, spec.strict)?;
    if first.sensor_declared {
        return Ok(first.sensor);
    }
    let what = format!(
        "{} does not say its sensor's size (its events reach {}); set it, as [width, height]",
        path.display(),
        first.sensor
    );
    Err(Error::config("data.sensor", what))
}

#[cfg(test)]
mod tests {
    use super::super::{Recording, open};
    use super::*;
    use crate::events::{Event, EventStream, FORMATS, format, save};

    fn recording(n: i64) -> EventStream {
        let events = (0..50).map(|i| Event { t: i * 100 + n, x: (i % 7) as u16, y: 2, p: i % 2 == 0 });
        EventStream::new(events.collect(), Sensor::new(8, 4))
    }

    fn tree(root: &Path, format_name: &str, parts: &[&str]) -> DatasetSpec {
        let f = format(format_name).unwrap();
        for part in parts {
            for class in ["b", "a"] {
                let dir = root.join(part).join(class);
                std::fs::create_dir_all(&dir).unwrap();
                (0..10).for_each(|n| save(dir.join(format!("{n}.{}", f.extensions[0])), &recording(n), f).unwrap());
                std::fs::write(dir.join("notes.txt"), "no recording").unwrap();
            }
        }
        DatasetSpec { dir: Some(root.into()), ..DatasetSpec::new("folder") }
    }

    #[test]
    fn both_layouts() {
        for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
            let dir = tempfile::tempdir().unwrap();
            let mut spec = tree(dir.path(), f.name, &["Train", "test"]);
            if !f.keeps_sensor {
                let said = open(&spec, Split::Train).err().unwrap().to_string();
                assert!(said.starts_with("data.sensor: ") && said.contains("reach 7x3"), "{said}");
                spec.sensor = Some([8, 4]);
            }
            let train = open(&spec, Split::Train).unwrap();
            assert_eq!(
                (train.len(), train.classes(), train.sensor()),
                (20, &["a".to_owned(), "b".to_owned()][..], Sensor::new(8, 4))
            );
            assert_eq!((train.label(0), train.label(19)), (0, 1));
            let Recording::Events(e) = train.load(3).unwrap() else { panic!() };
            assert_eq!(e.events, recording(3).events);
            assert_eq!(open(&spec, Split::Test).unwrap().len(), 20);
        }
        let dir = tempfile::tempdir().unwrap();
        let spec = tree(dir.path(), "npz", &["."]);
        let (train, test) = (open(&spec, Split::Train).unwrap(), open(&spec, Split::Test).unwrap());
        assert_eq!((train.len(), test.len()), (16, 4));
        assert!((0..4).all(|i| (0..16).all(|k| train.describe(k) != test.describe(i))));
    }

    #[test]
    fn mistakes_are_said_in_one_sentence() {
        let said = |spec: &DatasetSpec| open(spec, Split::Test).err().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let spec = DatasetSpec { dir: Some(dir.path().join("none")), ..DatasetSpec::new("folder") };
        assert!(said(&spec).contains("there is no folder"), "{}", said(&spec));
        let spec = DatasetSpec { dir: Some(dir.path().into()), ..spec };
        assert!(said(&spec).contains("no event files"), "{}", said(&spec));
        let spec = tree(dir.path(), "npz", &["train", "test"]);
        // Folders without recordings are of no matter, nor what macOS leaves in archives.
        for other in ["test/zebra", "test/notes", "__MACOSX"] {
            std::fs::create_dir(dir.path().join(other)).unwrap();
        }
        assert_eq!(open(&spec, Split::Test).unwrap().len(), 20);
        std::fs::copy(dir.path().join("test/a/0.npz"), dir.path().join("test/zebra/0.npz")).unwrap();
        assert!(said(&spec).contains("`zebra` is none of the classes a, b"), "{}", said(&spec));
        let nmnist = DatasetSpec { dir: Some("/no/such".into()), ..DatasetSpec::new("nmnist") };
        assert!(said(&nmnist).contains("download Train.zip"), "{}", said(&nmnist));
        assert!(said(&DatasetSpec::new("nmnist")).contains("data.dir"));
    }

    #[test]
    fn stray_files_of_another_sensor_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let spec = DatasetSpec { sensor: Some([4, 4]), ..tree(dir.path(), "npz", &["."]) };
        let train = open(&spec, Split::Train).unwrap();
        let Recording::Events(e) = train.load(0).unwrap() else { panic!() };
        assert!(e.warnings[0].contains("of 50 events lie outside"), "{:?}", e.warnings);
        let strict = DatasetSpec { strict: true, ..spec };
        assert!(open(&strict, Split::Train).unwrap().load(0).is_err());
    }
}
