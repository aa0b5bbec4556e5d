//! Whether a folder holds what its dataset's manifest says.

use super::{Dataset, DatasetSpec, Recording, Split, entry, open_with_faults};
use crate::error::ErrorKind as Wrong;
use crate::events::DecodeError;
use crate::{Error, Result};
use md5::{Digest, Md5};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct CheckReport {
    /// The dataset.
    pub dataset: String,
    /// Its parts.
    pub parts: Vec<PartReport>,
    /// Files whose published MD5 sums they have; those that are not there are not looked for.
    pub checksums: Vec<String>,
    /// The recordings that were read and are cut off or damaged, with the byte; `problems` counts them.
    pub damaged: Vec<String>,
    /// What is missing or wrong, a sentence each; empty where all is as the manifest says.
    pub problems: Vec<String>,
    /// How to get the dataset, where nothing of it is there.
    pub get: Option<String>,
    /// What was left out or rounded in files that were read.
    pub warnings: Vec<String>,
    /// What the manifest says is known to differ.
    pub disagreements: Vec<String>,
}

/// One part of a dataset.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct PartReport {
    /// `train` or `test`.
    pub part: &'static str,
    /// Samples found.
    pub samples: usize,
    /// Samples the manifest says.
    pub expected: Option<usize>,
    /// Samples of each class, in order of the labels.
    pub classes: Vec<(String, usize)>,
    /// Whether `classes` counts steps instead, as each has a class of its own.
    pub by_step: bool,
    /// Samples that were read: the first of each class, or all.
    pub read: usize,
    /// How many of those that were looked at are cut off or damaged.
    pub damaged: usize,
    /// The fewest and the most events of those that were read; none where samples are no events.
    pub events: Option<[usize; 2]>,
}

/// Compares the folder `dir` with the manifest of dataset `name`: counts what is there by part and class, compares the MD5
/// sums of the published files that are there, and reads the first sample of each class, or with `all` every sample. `sensor` is
/// `[width, height]` for recordings that do not say it.
///
/// # Errors
/// An unknown name. What is wrong with the folder is in the report.
pub fn check(name: &str, dir: &Path, sensor: Option<[u32; 2]>, all: bool) -> Result<CheckReport> {
    let manifest = entry(name)?.manifest()?;
    let mut report =
        CheckReport { dataset: manifest.name.clone(), disagreements: manifest.disagreements.clone(), ..CheckReport::default() };
    for (file, published) in &manifest.md5 {
        match md5(dir, file) {
            Ok(None) => {}
            Ok(Some(found)) if found == *published => report.checksums.push(file.clone()),
            Ok(Some(found)) => {
                report.problems.push(format!("{}: MD5 {found} where {published} is published", dir.join(file).display()));
            }
            Err(e) => report.problems.push(e.to_string()),
        }
    }
    let spec = DatasetSpec { dir: Some(dir.into()), sensor, ..DatasetSpec::new(name) };
    for part in [Split::Train, Split::Test] {
        match open_with_faults(&spec, part) {
            Ok(dataset) => {
                let expected = manifest.counts.map(|c| if part == Split::Train { c.train } else { c.test });
                let found = checked(dataset.as_ref(), part, expected, all, &mut report);
                report.parts.push(found);
                let faults = dataset.faults().into_iter().map(|[place, what]| format!("{place}: {what}"));
                report.problems.extend(faults);
            }
            Err(e) => report.problems.push(e.to_string()),
        }
    }
    // What is wrong with both parts, or with a recording and therefore with the whole, is said once.
    let mut said = BTreeSet::new();
    report.problems.retain(|p| said.insert(p.clone()));
    let get = manifest.get.replace("{dir}", &dir.display().to_string());
    // Some errors say it themselves.
    report.get = (report.parts.is_empty() && !report.problems.iter().any(|p| p.contains(&get))).then_some(get);
    Ok(report)
}

fn checked(dataset: &dyn Dataset, part: Split, expected: Option<usize>, all: bool, report: &mut CheckReport) -> PartReport {
    let labels = dataset.labels();
    let steps: Vec<u32> = (0..dataset.len()).filter_map(|i| dataset.step_labels(i)).flatten().collect();
    let (by_step, what) = if steps.is_empty() { (false, "samples") } else { (true, "steps") };
    let of = |class: usize| (if by_step { &steps } else { &labels }).iter().filter(|l| **l as usize == class).count();
    let classes = dataset.classes().iter().enumerate();
    let classes: Vec<(String, usize)> = classes.map(|(i, name)| (name.clone(), of(i))).collect();
    let (part, samples) = (part.name(), dataset.len());
    if let Some(expected) = expected.filter(|e| *e != samples) {
        report.problems.push(format!("{samples} {part} samples where {expected} are published"));
    }
    let empty = classes.iter().filter(|c| c.1 == 0);
    report.problems.extend(empty.map(|(class, _)| format!("no {part} {what} of class {class}")));
    report.warnings.extend(dataset.warnings());
    let mut probed = BTreeSet::new();
    let chosen: Vec<usize> = (0..samples).filter(|&i| probed.insert(labels[i]) || all).collect();
    let read: Vec<_> = chosen.par_iter().map(|&i| (i, dataset.load(i).map(counted))).collect();
    let mut events: Option<[usize; 2]> = None;
    // Samples cut out of one recording share its damage.
    let mut damaged = BTreeSet::new();
    for (i, result) in &read {
        match result {
            Ok(Some(found)) => {
                let n = found.events;
                let damage = found.damage.as_ref().map(|e| {
                    let file = dataset.source(*i).and_then(|s| s.file).map(|f| f.display().to_string());
                    damaged.insert(format!("{}: {e}", file.unwrap_or_else(|| dataset.describe(*i))));
                    e.to_string()
                });
                let said = found.warnings.iter().filter(|w| damage.as_ref().is_none_or(|d| !w.starts_with(d)));
                report.warnings.extend(said.map(|w| format!("{}: {w}", dataset.describe(*i))));
                match n {
                    0 if damage.is_none() => report.problems.push(format!("{}: no events", dataset.describe(*i))),
                    _ => events = Some(events.map_or([n; 2], |[least, most]| [least.min(n), most.max(n)])),
                }
            }
            Ok(None) => {}
            Err(e) if matches!(e.kind(), Wrong::Format { .. }) => {
                damaged.insert(e.to_string());
            }
            Err(e) => report.problems.push(e.to_string()),
        }
    }
    let (read, n) = (read.iter().filter(|r| r.1.is_ok()).count(), damaged.len());
    if n > 0 {
        let are = if n == 1 { "recording is" } else { "recordings are" };
        report.problems.push(format!("{n} {part} {are} cut off or damaged"));
    }
    report.damaged.extend(damaged);
    PartReport { part, samples, expected, classes, by_step, read, damaged: n, events }
}

/// What is asked of a recording of events.
struct Found {
    events: usize,
    warnings: Vec<String>,
    damage: Option<DecodeError>,
}

/// None of a recording that is no events.
fn counted(recording: Recording) -> Option<Found> {
    match recording {
        Recording::Events(s) => Some(Found { events: s.events.len(), warnings: s.warnings, damage: s.damage }),
        Recording::Array(_) => None,
    }
}

/// The MD5 sum of a file in `dir`, in hexadecimal digits; of `<file>.gz`, unpacked, where only that is there. None of a file that is not there,
/// nor of a damaged `.gz`: whoever reads that for its samples says at which byte.
fn md5(dir: &Path, file: &str) -> Result<Option<String>> {
    let plain = dir.join(file);
    let path = if plain.is_file() { plain } else { dir.join(format!("{file}.gz")) };
    if !path.is_file() {
        return Ok(None);
    }
    let io = |e| Error::io(&path, e);
    let mut bytes: Box<dyn Read> = Box::new(File::open(&path).map_err(io)?);
    let packed = !path.ends_with(file);
    if packed {
        bytes = Box::new(flate2::read::MultiGzDecoder::new(bytes));
    }
    let (mut sum, mut piece) = (Md5::new(), vec![0; 1 << 20]);
    loop {
        match bytes.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => sum.update(&piece[..n]),
            Err(e)
                if packed && matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput | ErrorKind::InvalidData) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(io(e)),
        }
    }
    Ok(Some(sum.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, EventStream, Sensor, atis};

    #[test]
    fn what_is_missing_is_said_once() {
        let r = check("nmnist", Path::new("/no/such/folder"), None, false).unwrap();
        assert!(r.parts.is_empty() && r.problems.len() == 1, "{r:?}");
        assert!(r.problems[0].contains("download Train.zip"));
        assert!(check("nnmist", Path::new("/"), None, false).unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn damaged_recordings_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let event = |i: i64| Event { t: i * 10, x: i as u16 % 30, y: 3, p: i % 2 == 0 };
        let stream = EventStream::new((0..100).map(event).collect(), Sensor::new(34, 34));
        let bytes = atis::FORMAT.encode.unwrap()(&stream).unwrap();
        for (part, n) in [("Train", 3), ("Test", 1)] {
            for class in 0..10 {
                let folder = dir.path().join(part).join(class.to_string());
                std::fs::create_dir_all(&folder).unwrap();
                (0..n).for_each(|i| std::fs::write(folder.join(format!("{i}.bin")), &bytes).unwrap());
            }
        }
        let at = |file: &str| dir.path().join(file);
        let seen = |all| check("nmnist", dir.path(), None, all).unwrap();
        assert!(seen(true).damaged.is_empty() && seen(true).problems.iter().all(|p| p.contains("are published")));
        std::fs::write(at("Train/4/1.bin"), &bytes[..252]).unwrap();
        std::fs::write(at("Test/7/0.bin"), b"").unwrap();
        std::fs::write(at("Test/8/0.bin"), &bytes[..252]).unwrap();
        let said = |file: &str, what: &str| format!("{}: byte {what}", at(file).display());
        let cut = "250: the file ends after 2 of an event's 5 bytes";
        let test = [said("Test/7/0.bin", "0: the file is empty"), said("Test/8/0.bin", cut)];
        let r = seen(true);
        assert_eq!(r.damaged, [&[said("Train/4/1.bin", cut)][..], &test].concat());
        assert_eq!(r.parts.iter().map(|p| (p.read, p.damaged)).collect::<Vec<_>>(), [(30, 1), (9, 2)]);
        for words in ["1 train recording is cut off or damaged", "2 test recordings are cut off or damaged"] {
            assert!(r.problems.iter().any(|p| p == words), "{r:?}");
        }
        assert!(r.warnings.is_empty(), "{r:?}");
        // The first of each class alone.
        assert_eq!(seen(false).damaged, test);
    }

    #[test]
    fn sums_are_of_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let sum = || md5(dir.path(), "a").unwrap();
        assert_eq!(sum(), None);
        let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut z, b"abc").unwrap();
        std::fs::write(dir.path().join("a.gz"), z.finish().unwrap()).unwrap();
        // RFC 1321, A.5.
        assert_eq!(sum().unwrap(), "900150983cd24fb0d6963f7d28e17f72");
        let whole = std::fs::read(dir.path().join("a.gz")).unwrap();
        std::fs::write(dir.path().join("a.gz"), &whole[..whole.len() / 2]).unwrap();
        assert_eq!(sum(), None);
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        assert_eq!(sum().unwrap(), "0cc175b9c0f1b6a831c399e269772661");
        // A folder that holds something else under a published name.
        std::fs::write(dir.path().join("Train.zip"), b"a").unwrap();
        let r = check("nmnist", dir.path(), None, false).unwrap();
        assert!(r.problems[0].contains("Train.zip: MD5 0cc175b9c0f1b6a831c399e269772661 where "), "{r:?}");
    }
}
