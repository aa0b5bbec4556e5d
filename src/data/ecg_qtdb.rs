//! ECG of the QT database, level-crossing coded: `QTDB_train.mat` and `QTDB_test.mat` with x `[sequences, 1301 steps, 4]` of
//! -1, 0 and 1, and y `[sequences, steps, 6]`, one class per step.
//!
//! About a tenth of the steps have no class ([`NO_CLASS`]) and count for nothing. Published figures take these for class 0, as an
//! arg-max does; so does `data.split = "published"`.
//!
//! The classes are those of steps, for `train.loss = "ce_per_step"`. A sequence has none of its own: [`Dataset::label`] gives the
//! commonest of its steps. Samples are `[1301, 1, 1, 4]`; `data.frames` is not used.

use super::{Dataset, DatasetSpec, Entry, Manifest, NO_CLASS, Recording, Split};
use crate::encode::Encoding;
use crate::events::{Sensor, mat};
use crate::{Error, Result};
use std::path::Path;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "ecg_qtdb", manifest: include_str!("../../datasets/ecg_qtdb.toml"), open };

/// Sequences with a class for each step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequences {
    /// Steps of a sequence.
    pub steps: usize,
    /// Channels of the signal.
    pub channels: usize,
    /// How many classes.
    pub classes: usize,
    /// `[sequences, steps, channels]`.
    pub x: Vec<f32>,
    /// `[sequences, steps]`: classes, or [`NO_CLASS`].
    pub y: Vec<u32>,
}

/// Reads one of the two files.
///
/// # Errors
/// A file that is damaged or holds no x and y that fit together.
pub fn read(path: &Path) -> Result<Sequences> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let (variables, end) = mat::matrices(&bytes);
    end.map_err(|e| Error::format(path, e.offset, e.message))?;
    let find = |name: &str| variables.iter().find(|m| m.name == name);
    let bad = || Error::format(path, 0, "no x and y of [sequences, steps, channels and classes]");
    let (x, y) = (find("x").ok_or_else(bad)?, find("y").ok_or_else(bad)?);
    let (&[n, steps, channels], &[m, steps_y, classes]) = (&x.shape[..], &y.shape[..]) else {
        return Err(bad());
    };
    if (n, steps) != (m, steps_y) {
        return Err(bad());
    }
    // The first axis is the fastest in the file.
    let at = |s: usize, t: usize, c: usize| s + n * (t + steps * c);
    let mut out = Sequences { steps, channels, classes, ..Sequences::default() };
    for s in 0..n {
        for t in 0..steps {
            let v = |c| x.data.get(at(s, t, c)).unwrap_or(0.0) as f32;
            out.x.extend((0..channels).map(v));
            let hot = (0..classes).find(|&c| y.data.get(at(s, t, c)).unwrap_or(0.0) > 0.0);
            out.y.push(hot.map_or(NO_CLASS, |c| c as u32));
        }
    }
    Ok(out)
}

struct Ecg {
    name: String,
    classes: Vec<String>,
    data: Sequences,
}

impl Ecg {
    /// The classes of the steps of sequence `i`.
    fn steps(&self, i: usize) -> &[u32] {
        &self.data.y[i * self.data.steps..][..self.data.steps]
    }
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let path = spec.file(manifest, &format!("QTDB_{}.mat", part.name()))?;
    let mut data = read(&path)?;
    if data.classes != manifest.classes.len() {
        return Err(Error::format(&path, 0, format!("{} classes for {}", data.classes, manifest.classes.len())));
    }
    if spec.split.as_deref() == Some("published") {
        data.y.iter_mut().filter(|c| **c == NO_CLASS).for_each(|c| *c = 0);
    }
    Ok(Box::new(Ecg { name: manifest.name.clone(), classes: manifest.classes.clone(), data }))
}

impl Dataset for Ecg {
    fn name(&self) -> &str {
        &self.name
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sensor(&self) -> Sensor {
        Sensor::new(1, 1)
    }
    fn len(&self) -> usize {
        self.data.y.len() / self.data.steps.max(1)
    }
    fn label(&self, i: usize) -> u32 {
        let mut n = vec![0; self.data.classes];
        self.steps(i).iter().filter(|c| **c != NO_CLASS).for_each(|&c| n[c as usize] += 1);
        (0..n.len()).rev().max_by_key(|&c| n[c]).unwrap_or(0) as u32
    }
    fn step_labels(&self, i: usize) -> Option<Vec<u32>> {
        Some(self.steps(i).to_vec())
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let n = self.data.steps * self.data.channels;
        Ok(Recording::Array(self.data.x[i * n..][..n].to_vec()))
    }
    fn is_events(&self) -> bool {
        false
    }
    fn describe(&self, i: usize) -> String {
        format!("sequence {i}")
    }
    fn shape(&self, _: &Encoding) -> [usize; 4] {
        [self.data.steps, 1, 1, self.data.channels]
    }
    fn mirrors(&self) -> bool {
        false
    }
}
