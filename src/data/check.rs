//! Whether a folder holds what its dataset's manifest says.

use super::{Dataset, DatasetSpec, Recording, Split, entry, open};
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
    /// What is missing or wrong, a sentence each; empty where all is as the manifest says.
    pub problems: Vec<String>,
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
        match open(&spec, part) {
            Ok(dataset) => {
                let expected = manifest.counts.map(|c| if part == Split::Train { c.train } else { c.test });
                let found = checked(dataset.as_ref(), part, expected, all, &mut report);
                report.parts.push(found);
            }
            Err(e) => {
                let what = e.to_string();
                if !report.problems.contains(&what) {
                    report.problems.push(what);
                }
            }
        }
    }
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
    for (i, result) in &read {
        match result {
            Ok(Some((0, _))) => report.problems.push(format!("{}: no events", dataset.describe(*i))),
            Ok(Some((n, warnings))) => {
                events = Some(events.map_or([*n; 2], |[least, most]| [least.min(*n), most.max(*n)]));
                report.warnings.extend(warnings.iter().map(|w| format!("{}: {w}", dataset.describe(*i))));
            }
            Ok(None) => {}
            Err(e) => report.problems.push(e.to_string()),
        }
    }
    let read = read.iter().filter(|r| r.1.is_ok()).count();
    PartReport { part, samples, expected, classes, by_step, read, events }
}

/// The number of events and the warnings of a recording; none where it is no events.
fn counted(recording: Recording) -> Option<(usize, Vec<String>)> {
    match recording {
        Recording::Events(s) => Some((s.events.len(), s.warnings)),
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

    #[test]
    fn what_is_missing_is_said_once() {
        let r = check("nmnist", Path::new("/no/such/folder"), None, false).unwrap();
        assert!(r.parts.is_empty() && r.problems.len() == 1, "{r:?}");
        assert!(r.problems[0].contains("download Train.zip"));
        assert!(check("nnmist", Path::new("/"), None, false).unwrap_err().to_string().contains("did you mean"));
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
