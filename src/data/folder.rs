//! Own recordings: a folder per class, with files of any event format.
//!
//! `DIR/train/<class>/*` and `DIR/test/<class>/*`, or `DIR/<class>/*` alone, of which `test_fraction` of each class becomes
//! the test set. All recordings share one sensor. Formats that do not say it (ATIS) need `sensor = [width, height]`.

use super::files::{layout, named_like_events};
use super::{Dataset, DatasetSpec, Entry, Files, Manifest, Split};
use crate::Result;
use crate::events::{self, Sensor};
use std::path::PathBuf;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "folder", manifest: include_str!("../../datasets/folder.toml"), open };

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let mut found = layout(spec, &spec.folder(manifest)?, part, named_like_events, "event files")?;
    let (sensor, fault) = sensor(spec, &found.training);
    found.faults.extend(fault);
    Ok(Box::new(Files {
        name: manifest.name.clone(),
        sensor,
        classes: found.classes,
        files: found.files,
        strict: spec.strict,
        turn: None,
        faults: found.faults,
    }))
}

/// How many other recordings are asked for their sensor where the first does not say it.
const ASKED: usize = 20;

/// The recipe's sensor, else the one the first recording declares. Where it does not, that is a [fault](Dataset::faults), and the sensor is
/// the one that others declare, or the largest that events reach.
fn sensor(spec: &DatasetSpec, files: &[PathBuf]) -> (Sensor, Option<[String; 2]>) {
    if let Some([width, height]) = spec.sensor {
        return (Sensor::new(width, height), None);
    }
    let seen = |path: &PathBuf| events::open(path, spec.strict).map(|s| (s.sensor_declared, s.sensor));
    let first = seen(&files[0]);
    let why = match &first {
        Ok((true, sensor)) => return (*sensor, None),
        Ok((false, sensor)) => {
            format!("{} does not say its sensor's size (its events reach {sensor})", files[0].display())
        }
        Err(e) => e.to_string(),
    };
    let mut found: Vec<(bool, Sensor)> =
        files.iter().skip(1).take(ASKED).filter_map(|path| seen(path).ok()).chain(first).collect();
    let declared = found.iter().any(|f| f.0);
    found.retain(|f| f.0 == declared);
    let largest = found.iter().fold(Sensor::new(1, 1), |a, (_, b)| Sensor::new(a.width.max(b.width), a.height.max(b.height)));
    let mut sizes: Vec<String> = found.iter().map(|f| f.1.to_string()).collect();
    sizes.sort();
    sizes.dedup();
    let others = if declared { format!("; others say {}", sizes.join(", ")) } else { String::new() };
    // Of nothing that can be read there is no size to propose.
    let size = if found.is_empty() { String::new() } else { format!(" {largest}") };
    let what = format!("{why}{others}; set it, as [width, height], or for a check with --sensor{size}");
    (largest, Some(["data.sensor".into(), what]))
}

#[cfg(test)]
mod tests {
    use super::super::{Recording, open};
    use super::*;
    use crate::data::check;
    use crate::events::{Event, EventStream, FORMATS, format, save};
    use std::path::Path;

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

    /// What refuses a folder for training does not keep a check from counting the rest of it.
    #[test]
    fn faults_are_named_and_the_rest_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let spec = tree(dir.path(), "aedat4", &["train", "test"]);
        let (first, stray) = (dir.path().join("train/a/0.aedat4"), dir.path().join("test/zebra"));
        std::fs::create_dir(&stray).unwrap();
        std::fs::copy(&first, stray.join("0.aedat4")).unwrap();
        std::fs::write(&first, &std::fs::read(&first).unwrap()[..40]).unwrap();
        let counts = |sensor| {
            let r = check("folder", dir.path(), sensor, false).unwrap();
            (r.parts.iter().map(|p| (p.samples, p.read)).collect::<Vec<_>>(), r.problems, r.damaged)
        };
        let zebra = format!("{}: folder `zebra` is none of the classes a, b", dir.path().join("test").display());
        let broken = format!("{}: byte 14: the file ends within its header", first.display());
        let hint = format!("data.sensor: {broken}; others say 8x4; set it, as [width, height], or for a check with --sensor 8x4");
        let damaged = "1 train recording is cut off or damaged".to_string();
        let found = counts(None);
        assert_eq!(found, (vec![(20, 1), (20, 2)], vec![damaged.clone(), hint.clone(), zebra.clone()], vec![broken.clone()]));
        assert_eq!(counts(Some([8, 4])), (found.0, vec![damaged, zebra], vec![broken]));
        assert_eq!(open(&spec, Split::Train).err().unwrap().to_string(), hint);
        // Where nobody says it, as far as events reach.
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), "atis", &["."]);
        std::fs::write(dir.path().join("a/0.bin"), b"").unwrap();
        let r = check("folder", dir.path(), None, true).unwrap();
        assert_eq!(r.parts.iter().map(|p| p.samples).collect::<Vec<_>>(), [16, 4]);
        assert!(r.problems.iter().any(|p| p.ends_with("set it, as [width, height], or for a check with --sensor 7x3")), "{r:?}");
        // Nor where nothing can be read.
        for (class, n) in ["a", "b"].into_iter().flat_map(|class| (0..10).map(move |n| (class, n))) {
            std::fs::write(dir.path().join(class).join(format!("{n}.bin")), b"").unwrap();
        }
        let r = check("folder", dir.path(), None, true).unwrap();
        assert_eq!((r.parts.iter().map(|p| p.samples).collect::<Vec<_>>(), r.damaged.len()), (vec![16, 4], 20));
        assert!(
            r.problems.iter().any(
                |p| p.ends_with("0.bin: byte 0: the file is empty; set it, as [width, height], or for a check with --sensor")
            ),
            "{r:?}"
        );
    }
}
