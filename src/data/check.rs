//! Whether a folder holds what its dataset's manifest says.

use super::{DatasetSpec, Recording, Split, entry, open};
use crate::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct CheckReport {
    /// The dataset.
    pub dataset: String,
    /// Its parts.
    pub parts: Vec<PartReport>,
    /// What is missing or wrong, a sentence each; empty where all is as the manifest says.
    pub problems: Vec<String>,
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
    /// Samples that were read as a probe: the first of each class.
    pub read: usize,
}

/// Compares the folder `dir` with the manifest of dataset `name`: counts what is there by part and class, and reads the
/// first sample of each class.
///
/// # Errors
/// An unknown name. What is wrong with the folder is in the report.
pub fn check(name: &str, dir: &Path) -> Result<CheckReport> {
    let manifest = entry(name)?.manifest()?;
    let mut report =
        CheckReport { dataset: manifest.name.clone(), disagreements: manifest.disagreements.clone(), ..CheckReport::default() };
    let spec = DatasetSpec { dir: Some(dir.into()), ..DatasetSpec::new(name) };
    for part in [Split::Train, Split::Test] {
        let dataset = match open(&spec, part) {
            Ok(d) => d,
            Err(e) => {
                let what = e.to_string();
                if !report.problems.contains(&what) {
                    report.problems.push(what);
                }
                continue;
            }
        };
        let labels = dataset.labels();
        let of = |class: usize| labels.iter().filter(|l| **l as usize == class).count();
        let classes = dataset.classes().iter().enumerate();
        let mut found = PartReport {
            part: part.name(),
            samples: dataset.len(),
            expected: manifest.counts.map(|c| match part {
                Split::Train => c.train,
                Split::Test => c.test,
            }),
            classes: classes.map(|(i, name)| (name.clone(), of(i))).collect(),
            read: 0,
        };
        if let Some(expected) = found.expected.filter(|e| *e != found.samples) {
            let (part, n) = (part.name(), found.samples);
            report.problems.push(format!("{n} {part} samples where {expected} are published"));
        }
        for (class, _) in found.classes.iter().filter(|c| c.1 == 0) {
            report.problems.push(format!("no {} samples of class {class}", part.name()));
        }
        let mut probed = BTreeSet::new();
        for i in 0..dataset.len() {
            if probed.insert(dataset.label(i)) {
                match dataset.load(i) {
                    Ok(Recording::Events(s)) if s.events.is_empty() => {
                        report.problems.push(format!("{}: no events", dataset.describe(i)));
                    }
                    Ok(Recording::Events(s)) => {
                        report.problems.extend(s.warnings.iter().map(|w| format!("{}: {w}", dataset.describe(i))))
                    }
                    Ok(Recording::Array(_)) => {}
                    Err(e) => report.problems.push(e.to_string()),
                }
                found.read += 1;
            }
        }
        report.parts.push(found);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_once() {
        let r = check("nmnist", Path::new("/no/such/folder")).unwrap();
        assert!(r.parts.is_empty() && r.problems.len() == 1, "{r:?}");
        assert!(r.problems[0].contains("download Train.zip"));
        assert!(check("nnmist", Path::new("/")).unwrap_err().to_string().contains("did you mean"));
    }
}
