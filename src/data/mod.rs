//! Datasets, and their way from files to batches.
//!
//! ```text
//! DatasetSpec -> open -> Dataset (recordings, labels) -> Samples (augment, encode, keep) -> Loader (shuffle, pad, threads) -> Batch
//! ```
//! [`Splits::open`] does all but the last: training, validation (taken from the training set, stratified and seeded) and
//! test samples of what a recipe's `[data]` names.
//!
//! # How to add a dataset
//! 1. Write `datasets/<name>.toml`, its [`Manifest`]: sensor, classes, file tree, counts, splits, citation, licence, and
//!    the one sentence that tells how to get it.
//! 2. Write `src/data/<name>.rs` with `pub static ENTRY: Entry`. Where samples are files, [`Files`] does the work
//!    (see [`nmnist`], [`folder`]); anything else implements [`Dataset`], and what is no recording of events comes as
//!    [`Recording::Array`].
//! 3. Name the entry in [`DATASETS`], and its file among the modules below.
//!
//! A dataset whose classes differ by left and right says so by `mirrors()`, or augmentation may flip them; one whose samples are to be
//! kept in the disk cache names their files by `source()`. Tests hold the manifest against the entry; what the files hold `spikemix
//! datasets check` counts.
//!
//! Own recordings need none of this: a folder per class of any event files is read as `folder` (see [`folder`]).

pub mod asl_dvs;
pub mod auditory_cortex;
pub mod augment;
mod cache;
mod check;
pub mod cifar;
pub mod cifar10_dvs;
mod disk;
pub mod dvs128_gesture;
pub mod dvs128_objects;
pub mod dvs_lip;
pub mod dvs_sign;
pub mod ecg_qtdb;
pub mod evtouch;
mod files;
pub mod folder;
pub mod frames_folder;
pub mod gestures;
pub mod image_folder;
pub mod images;
mod loader;
mod manifest;
mod mixup;
pub mod mnist;
pub mod n_caltech101;
pub mod n_cars;
pub mod nmnist;
mod samples;
pub mod shd;
pub mod simulator;
mod spec;
pub mod split;
pub mod trains;

pub use augment::{Augment, Change};
pub use check::{CheckReport, check};
pub use files::{Files, class_folders};
pub use loader::{Batch, Batches, Loader, LoaderOptions};
pub use manifest::Manifest;
pub use mixup::{Mixed, Mixup};
pub use samples::{Samples, Splits};
pub use spec::{DatasetSpec, StillInput};
pub use split::Subset;

use crate::encode::{Crop, Encoding, Kind};
use crate::events::{EventStream, Sensor};
use crate::{Error, Result};
use std::path::PathBuf;

/// The datasets known.
pub static DATASETS: &[&Entry] = &[
    &gestures::ENTRY,
    &nmnist::ENTRY,
    &n_caltech101::ENTRY,
    &cifar10_dvs::ENTRY,
    &dvs128_gesture::ENTRY,
    &n_cars::ENTRY,
    &asl_dvs::ENTRY,
    &dvs_lip::ENTRY,
    &dvs_sign::ENTRY,
    &dvs128_objects::ENTRY,
    &shd::SHD,
    &shd::SSC,
    &auditory_cortex::ENTRY,
    &evtouch::ENTRY,
    &ecg_qtdb::ENTRY,
    &mnist::MNIST,
    &mnist::FASHION,
    &cifar::CIFAR10,
    &cifar::CIFAR100,
    &folder::ENTRY,
    &frames_folder::ENTRY,
    &image_folder::ENTRY,
];

/// A dataset as the registry holds it.
pub struct Entry {
    /// The name a recipe says.
    pub name: &'static str,
    /// The text of its manifest, `datasets/<name>.toml`.
    pub manifest: &'static str,
    /// Opens one split of it.
    pub open: fn(&DatasetSpec, &Manifest, Split) -> Result<Box<dyn Dataset>>,
}

impl Entry {
    /// Its manifest.
    ///
    /// # Errors
    /// A mistake in the manifest; a test reads them all.
    pub fn manifest(&self) -> Result<Manifest> {
        toml::from_str(self.manifest).map_err(|e| Error::config(format!("datasets/{}.toml", self.name), e.message()))
    }
}

/// The label of a step that has no class; see [`Dataset::step_labels`].
pub const NO_CLASS: u32 = u32::MAX;

/// The parts a dataset is published in; validation samples are taken from the training set by [`split::stratified`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training and for choosing the epoch.
    Train,
    /// For the one test at the end.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

/// What a dataset holds for a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Recording {
    /// Events, to be augmented and encoded.
    Events(EventStream),
    /// Something that is an array already, `[T, H, W, C]` of [`Dataset::shape`].
    Array(Vec<f32>),
}

/// All that a sample is made from besides this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file it is read from, which counts by its content and extension, wherever it lies; none where it is computed.
    pub file: Option<PathBuf>,
    /// What else there is, as a text that changes when any of it does.
    pub settings: String,
}

/// Labelled recordings.
pub trait Dataset: Send + Sync {
    /// The dataset's name.
    fn name(&self) -> &str;
    /// The names of the classes; labels are indices into them.
    fn classes(&self) -> &[String];
    /// The sensor all recordings share.
    fn sensor(&self) -> Sensor;
    /// How many samples.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The class of sample `i`.
    fn label(&self, i: usize) -> u32;
    /// The classes of the T steps of sample `i`, [`NO_CLASS`] for a step without one, where the dataset has a class for each step.
    fn step_labels(&self, _i: usize) -> Option<Vec<u32>> {
        None
    }
    /// Sample `i`. Always the same; augmentation comes later.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn load(&self, i: usize) -> Result<Recording>;
    /// What to call sample `i` in a message: a path, or a number.
    fn describe(&self, i: usize) -> String;
    /// What was wrong with the file that holds all samples, where there is one: sentences with the path.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// Why it cannot be used as it is although its samples can be counted: place (folder, or key of the recipe) and sentence. [`open`]
    /// refuses it, [`check`] goes on.
    fn faults(&self) -> Vec<[String; 2]> {
        Vec::new()
    }
    /// What sample `i` is made from; a cache on disk finds the sample by it. None where the sample is not worth keeping there.
    fn source(&self, _i: usize) -> Option<Source> {
        None
    }
    /// The shape `[T, H, W, C]` of its samples, encoded; where steps have a fixed duration, T is the most there can be.
    fn shape(&self, encoding: &Encoding) -> [usize; 4] {
        encoding.shape(self.sensor())
    }
    /// Whether its samples are recordings of events; where they are arrays already, nothing can be said of their encoding.
    fn is_events(&self) -> bool {
        true
    }
    /// Slices of a step that are channels side by side: `data.slices`, of spike trains; else 1.
    fn slices(&self) -> usize {
        1
    }
    /// Whether a mirrored sample is still of its class; where not, [`Augment::flip`] is refused.
    fn mirrors(&self) -> bool {
        true
    }
    /// All labels.
    fn labels(&self) -> Vec<u32> {
        (0..self.len()).map(|i| self.label(i)).collect()
    }
}

/// An encoded sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `[T, H, W, C]`.
    pub x: Vec<f32>,
    /// The class.
    pub label: u32,
}

/// The registry's entry of that name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn entry(name: &str) -> Result<&'static Entry> {
    DATASETS.iter().copied().find(|e| e.name == name).ok_or_else(|| {
        let hint = match nearest(name, DATASETS.iter().map(|e| e.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", DATASETS.iter().map(|e| e.name).collect::<Vec<_>>().join(", ")),
        };
        Error::config("data.name", format!("no dataset is called `{name}`; {hint}"))
    })
}

/// Opens one split of a dataset.
///
/// # Errors
/// An unknown dataset, an impossible setting, or a folder that is missing or not laid out as the manifest says.
pub fn open(spec: &DatasetSpec, split: Split) -> Result<Box<dyn Dataset>> {
    let dataset = open_with_faults(spec, split)?;
    match dataset.faults().into_iter().next() {
        Some([place, what]) => Err(Error::config(place, what)),
        None => Ok(dataset),
    }
}

/// [`open`], whatever the dataset's [faults](Dataset::faults).
fn open_with_faults(spec: &DatasetSpec, split: Split) -> Result<Box<dyn Dataset>> {
    let entry = entry(&spec.name)?;
    let manifest = entry.manifest()?;
    if let Some(asked) = &spec.split
        && !manifest.splits.contains_key(asked)
    {
        let known: Vec<_> = manifest.splits.keys().map(String::as_str).collect();
        let what = match known.is_empty() {
            true => format!("{} has no splits by name", spec.name),
            false => format!("no split `{asked}`; there are {}", known.join(", ")),
        };
        return Err(Error::config("data.split", what));
    }
    if spec.slices == 0 {
        return Err(Error::config("data.slices", "0 must be at least 1"));
    }
    let dataset = (entry.open)(spec, &manifest, split)?;
    if dataset.slices() != spec.slices {
        let what = format!("cuts steps of spike trains; samples of {} are none", dataset.name());
        return Err(Error::config("data.slices", what));
    }
    let encoding = spec.encoding();
    if !dataset.is_events() {
        let [_, h, w, _] = dataset.shape(&encoding);
        let refuse = |key: &str, why: String| Err(Error::config(format!("data.{key}"), why));
        if encoding.kind != Kind::default() || encoding.duration_us.is_some() {
            let key = if encoding.duration_us.is_some() { "duration_us" } else { "encoding" };
            return refuse(key, format!("samples of {} are arrays, not events; data.frames says T", dataset.name()));
        }
        for (key, other) in
            [("crop", spec.crop.is_some_and(|c| c != Crop::Centre([h, w]))), ("size", spec.size.is_some_and(|s| s != [h, w]))]
        {
            if other {
                let what = format!("samples of {} are arrays of {h} x {w}, which are taken as they are", dataset.name());
                return refuse(key, what);
            }
        }
        if !spec.filter.is_off() {
            return refuse("filter", format!("works on events; samples of {} are arrays", dataset.name()));
        }
    }
    encoding.check(dataset.sensor())?;
    spec.augment.check(dataset.as_ref())?;
    Ok(dataset)
}

/// The candidate most like `word`, if any is alike enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_sound() {
        for e in DATASETS {
            let m = e.manifest().unwrap();
            assert_eq!(m.name, e.name);
            assert!(!m.title.is_empty() && !m.get.is_empty() && !m.tree.is_empty());
            // What others published is looked up, or said not to be.
            assert!(m.url.is_none() || m.sources.is_some() || !m.unverified.is_empty(), "{}", m.name);
            let hex = |s: &String| s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(m.md5.values().all(hex), "{}", m.name);
            let keys = serde_json::to_value(&m).unwrap();
            assert!(m.unverified.iter().all(|k| keys.get(k).is_some_and(|v| !v.is_null())), "{}", m.name);
            let file = format!("{}/datasets/{}.toml", env!("CARGO_MANIFEST_DIR"), e.name);
            assert_eq!(std::fs::read_to_string(file).unwrap(), e.manifest);
        }
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let said = |name| entry(name).err().unwrap().to_string();
        assert!(said("n-mnist").contains("did you mean `nmnist`?"), "{}", said("n-mnist"));
        assert!(said("gesture").contains("`gestures`"));
        assert!(said("zzz").contains("known are gestures"));
    }
}
