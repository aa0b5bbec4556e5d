//! Samples: a dataset with its encoding and augmentation, kept in memory after the first use.

use super::cache::{Compact, Packed};
use super::{Augment, Dataset, DatasetSpec, Recording, Sample, Split, Subset, open, split};
use crate::encode::Encoding;
use crate::events::Event;
use crate::rng::Rng;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Encoded samples `[T, H, W, C]` of a dataset.
///
/// What is decoded once is kept, up to a limit of memory: encoded arrays where nothing random happens to them, else events.
pub struct Samples {
    dataset: Arc<dyn Dataset>,
    encoding: Encoding,
    augment: Augment,
    rng: Rng,
    shape: [usize; 4],
    kept: Vec<OnceLock<Kept>>,
    room: AtomicUsize,
    warnings: Mutex<BTreeSet<String>>,
}

enum Kept {
    Array(Compact),
    Events(Packed),
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Kept::Array(a) => a.bytes(),
            Kept::Events(e) => e.bytes(),
        }
    }
}

impl Samples {
    /// Samples of `dataset`; `seed` is that of the augmentation, `cache` the memory for keeping samples in bytes.
    pub fn new(dataset: Arc<dyn Dataset>, encoding: Encoding, augment: Augment, seed: u64, cache: usize) -> Self {
        Samples {
            shape: dataset.shape(&encoding),
            kept: (0..dataset.len()).map(|_| OnceLock::new()).collect(),
            dataset,
            encoding,
            augment,
            rng: Rng::new(seed).stream("augment"),
            room: AtomicUsize::new(cache),
            warnings: Mutex::default(),
        }
    }
    /// At most `n` of them, of each class alike; `seed` chooses.
    pub fn limited(&self, n: usize, seed: u64) -> Samples {
        let some = split::limited(&self.dataset.labels(), n, &Rng::new(seed).stream("limited"));
        let dataset = Arc::new(Subset::new(self.dataset.clone(), some));
        let kept = (0..dataset.len()).map(|_| OnceLock::new()).collect();
        let room = AtomicUsize::new(self.room.load(Ordering::Relaxed));
        let (encoding, augment, rng) = (self.encoding.clone(), self.augment.clone(), self.rng.clone());
        Samples { dataset, encoding, augment, rng, shape: self.shape, kept, room, warnings: Mutex::default() }
    }
    /// The dataset.
    pub fn dataset(&self) -> &dyn Dataset {
        self.dataset.as_ref()
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.kept.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
    /// `[T, H, W, C]` of a sample.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
    /// What was wrong with the files read so far: a sentence each with the path, sorted.
    pub fn warnings(&self) -> Vec<String> {
        let said = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().cloned().collect()
    }
    /// Sample `i` as it is in `epoch`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sample(&self, i: usize, epoch: u64) -> Result<Sample> {
        let mut x = vec![0.0; self.shape.iter().product()];
        self.scatter(i, epoch, &mut x, 0, 1)?;
        Ok(Sample { x, label: self.dataset.label(i) })
    }
    /// Writes sample `i` to place `b` of `x`, a batch `[T, batch, H, W, C]`; all of that place is overwritten.
    ///
    /// # Errors
    /// A file that cannot be read.
    ///
    /// # Panics
    /// If `x` is not of that shape.
    pub fn scatter(&self, i: usize, epoch: u64, x: &mut [f32], b: usize, batch: usize) -> Result<()> {
        let frame: usize = self.shape[1..].iter().product();
        let places = x.chunks_exact_mut(frame * batch).map(|step| &mut step[b * frame..][..frame]);
        let from_array = |a: &[f32], places: &mut dyn Iterator<Item = &mut [f32]>| {
            places.zip(a.chunks_exact(frame)).for_each(|(out, a)| out.copy_from_slice(a));
        };
        let mut places = places;
        match self.kept[i].get() {
            Some(Kept::Array(a)) if self.augment.is_off() => places.enumerate().for_each(|(t, out)| a.read(t * frame, out)),
            Some(Kept::Array(a)) => {
                let mut array = vec![0.0; frame * self.shape[0]];
                a.read(0, &mut array);
                self.augment.array(&mut array, self.shape, &self.stream(i, epoch));
                from_array(&array, &mut places);
            }
            Some(Kept::Events(e)) => from_array(&self.encode(i, epoch, e.events()), &mut places),
            None => {
                let array = match self.load(i)? {
                    Recording::Array(mut a) => {
                        self.keep(i, Some(Kept::Array(Compact::of(a.clone()))));
                        self.augment.array(&mut a, self.shape, &self.stream(i, epoch));
                        a
                    }
                    Recording::Events(stream) => {
                        if !self.augment.is_off() {
                            self.keep(i, Packed::of(&stream.events).map(Kept::Events));
                        }
                        self.encode(i, epoch, stream.events)
                    }
                };
                from_array(&array, &mut places);
                if self.augment.is_off() {
                    self.keep(i, Some(Kept::Array(Compact::of(array))));
                }
            }
        }
        Ok(())
    }
    /// Reads all samples once on all threads, so that the first epoch finds them in memory.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fill(&self) -> Result<()> {
        let missing = |i: &usize| self.kept[*i].get().is_none();
        (0..self.len()).into_par_iter().filter(missing).try_for_each(|i| self.sample(i, 0).map(|_| ()))
    }

    fn load(&self, i: usize) -> Result<Recording> {
        let mut recording = self.dataset.load(i)?;
        match &mut recording {
            Recording::Events(stream) => {
                stream.sort();
                self.encoding.filter.begin(self.dataset.sensor()).retain(&mut stream.events);
                if !stream.warnings.is_empty() {
                    let mut said = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                    let path = self.dataset.describe(i);
                    said.extend(stream.warnings.drain(..).map(|w| format!("{path}: {w}")));
                }
            }
            Recording::Array(a) if a.len() != self.shape.iter().product::<usize>() => {
                let what = format!("{}: {} values for a sample of {:?}", self.dataset.describe(i), a.len(), self.shape);
                return Err(Error::shape(self.dataset.name(), what));
            }
            Recording::Array(_) => {}
        }
        Ok(recording)
    }

    /// The random numbers of sample `i` in `epoch`.
    fn stream(&self, i: usize, epoch: u64) -> Rng {
        self.rng.stream(epoch).stream(i)
    }
    fn encode(&self, i: usize, epoch: u64, mut events: Vec<Event>) -> Vec<f32> {
        let sensor = self.dataset.sensor();
        if !self.augment.is_off() {
            self.augment.events(&mut events, sensor, &self.stream(i, epoch));
        }
        self.encoding.encode(&events, sensor)
    }

    /// Keeps it if there is room.
    fn keep(&self, i: usize, kept: Option<Kept>) {
        let Some(kept) = kept else { return };
        let take = |room: usize| room.checked_sub(kept.bytes());
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            // Another thread may have been as quick; then its copy stays, and this one's room is lost, which is harmless.
            let _ = self.kept[i].set(kept);
        }
    }
}

/// Training, validation and test samples of a recipe's `[data]`.
pub struct Splits {
    /// What is trained on; the only samples that are augmented.
    pub train: Arc<Samples>,
    /// What the epoch is chosen by; taken from the training set.
    pub validation: Arc<Samples>,
    /// What is tested on, once.
    pub test: Arc<Samples>,
}

impl Splits {
    /// Opens a dataset; `seed` is the run's, for augmentation only.
    ///
    /// # Errors
    /// As [`open`], and a validation share that leaves nothing to train on or to choose by.
    pub fn open(spec: &DatasetSpec, seed: u64) -> Result<Self> {
        for (name, v) in [("validation", spec.validation), ("test_fraction", spec.test_fraction)] {
            if !(v > 0.0 && v < 1.0) {
                return Err(Error::config(format!("data.{name}"), format!("{v} is not between 0 and 1")));
            }
        }
        let rng = Rng::new(spec.split_seed);
        let part = |which: Split, limit: Option<usize>| -> Result<Arc<dyn Dataset>> {
            let all: Arc<dyn Dataset> = open(spec, which)?.into();
            Ok(match limit {
                Some(n) if n < all.len() => {
                    let some = split::limited(&all.labels(), n, &rng.stream("limit").stream(which.name()));
                    Arc::new(Subset::new(all, some))
                }
                _ => all,
            })
        };
        let train = part(Split::Train, spec.train_samples)?;
        let test = part(Split::Test, spec.test_samples)?;
        let (stay, taken) = split::stratified(&train.labels(), spec.validation, &rng.stream("validation"));
        if stay.is_empty() || taken.is_empty() || test.is_empty() {
            let what = format!(
                "{} training, {} validation and {} test samples are too few; more data or another data.validation is needed",
                stay.len(),
                taken.len(),
                test.len()
            );
            return Err(Error::config("data", what));
        }
        // The budget is shared by what each part holds.
        let total = (train.len() + test.len()) as f64;
        let cache = |n: usize| ((spec.cache_mib as f64) * 1_048_576.0 * n as f64 / total) as usize;
        let samples = |d: Arc<dyn Dataset>, augment: Augment| {
            let cache = cache(d.len());
            Arc::new(Samples::new(d, spec.encoding(), augment, seed, cache))
        };
        Ok(Splits {
            train: samples(Arc::new(Subset::new(train.clone(), stay)), spec.augment.clone()),
            validation: samples(Arc::new(Subset::new(train, taken)), Augment::default()),
            test: samples(test, Augment::default()),
        })
    }
    /// What was wrong with the files read so far.
    pub fn warnings(&self) -> Vec<String> {
        [&self.train, &self.validation, &self.test].iter().flat_map(|s| s.warnings()).collect()
    }
}
