//! The synthetic gestures: recordings of [`super::simulator`], computed when they are needed.
//!
//! Sample `i` of a split is a pure function of the seed, the split and `i`; its class is `i` modulo the number of classes,
//! so classes are balanced. [`write_to_disk`] writes them as files, a folder per class, which [`super::folder`] reads back.

use super::simulator::{Camera, Motion, record};
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Split};
use crate::events::{EventStream, Format, Sensor, save};
use crate::rng::Rng;
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The registry's entry.
pub static ENTRY: Entry = Entry {
    name: "gestures",
    manifest: include_str!("../../datasets/gestures.toml"),
    open: |spec, manifest, split| Ok(Box::new(Gestures::open(spec, manifest, split)?)),
};

/// `[data.gestures]` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GestureSpec {
    /// The motions that are the classes, in order of their labels.
    pub classes: Vec<Motion>,
    /// The camera.
    pub camera: Camera,
    /// The seed of the recordings; independent of the run's seed, so that runs compare.
    pub seed: u64,
}

impl Default for GestureSpec {
    fn default() -> Self {
        GestureSpec {
            classes: Motion::ALL[..8].to_vec(),
            camera: Camera::default(),
            seed: 0,
        }
    }
}

/// Synthetic recordings of one split.
pub struct Gestures {
    spec: GestureSpec,
    names: Vec<String>,
    split: Split,
    len: usize,
}

impl Gestures {
    /// `len` recordings of a split.
    ///
    /// # Errors
    /// Fewer than two classes, one named twice, or an impossible camera.
    pub fn new(spec: GestureSpec, split: Split, len: usize) -> Result<Self> {
        if let Some(fault) = spec.camera.fault() {
            return Err(Error::config("data.gestures.camera", fault));
        }
        let twice = (1..spec.classes.len()).any(|i| spec.classes[..i].contains(&spec.classes[i]));
        if spec.classes.len() < 2 || twice {
            return Err(Error::config(
                "data.gestures.classes",
                "two or more different motions are needed",
            ));
        }
        Ok(Gestures {
            names: spec.classes.iter().map(|m| m.name().to_owned()).collect(),
            spec,
            split,
            len,
        })
    }

    fn open(spec: &DatasetSpec, manifest: &Manifest, split: Split) -> Result<Self> {
        let published = manifest.counts.map_or((0, 0), |c| (c.train, c.test));
        let len = match split {
            Split::Train => spec.train_samples.unwrap_or(published.0),
            Split::Test => spec.test_samples.unwrap_or(published.1),
        };
        Gestures::new(spec.gestures.clone(), split, len)
    }

    /// Recording `i`.
    pub fn recording(&self, i: usize) -> EventStream {
        let rng = Rng::new(self.spec.seed)
            .stream("gestures")
            .stream(self.split.name())
            .stream(i);
        record(
            &self.spec.camera,
            self.spec.classes[i % self.spec.classes.len()],
            &rng,
        )
    }
}

impl Dataset for Gestures {
    fn name(&self) -> &str {
        ENTRY.name
    }
    fn classes(&self) -> &[String] {
        &self.names
    }
    fn sensor(&self) -> Sensor {
        self.spec.camera.sensor()
    }
    fn len(&self) -> usize {
        self.len
    }
    fn label(&self, i: usize) -> u32 {
        (i % self.names.len()) as u32
    }
    fn load(&self, i: usize) -> Result<Recording> {
        Ok(Recording::Events(self.recording(i)))
    }
    fn describe(&self, i: usize) -> String {
        format!("{} gesture {i}", self.split.name())
    }
    fn mirrors(&self) -> bool {
        false
    }
}

/// Writes recordings as files, `dir/<split>/<class>/<number>.<extension>`, on all threads.
///
/// # Errors
/// A format without a writer or one that cannot hold the recordings, or files that cannot be written.
pub fn write_to_disk(gestures: &Gestures, dir: impl AsRef<Path>, format: &Format) -> Result<()> {
    let dir = dir.as_ref().join(gestures.split.name());
    let folders: Vec<_> = gestures.names.iter().map(|class| dir.join(class)).collect();
    for folder in &folders {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    (0..gestures.len).into_par_iter().try_for_each(|i| {
        let file = format!("{i:06}.{}", format.extensions[0]);
        save(
            folders[gestures.label(i) as usize].join(file),
            &gestures.recording(i),
            format,
        )
    })
}
