//! Samples: a dataset with its encoding and augmentation, kept in memory after the first use, and on disk where a recipe says so.

use super::cache::{Compact, Kept, Packed};
use super::disk::{Disk, Key};
use super::{Augment, Dataset, DatasetSpec, Recording, Sample, Source, Split, Subset, open, split};
use crate::encode::Encoding;
use crate::events::Event;
use crate::rng::Rng;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Encoded samples `[T, H, W, C]` of a dataset; where steps have a fixed duration, each has its own T.
///
/// What is decoded once is kept, up to a limit of memory: encoded arrays where nothing random happens to them, else events. The same
/// goes to a cache on disk, where there is one, for samples that say what they are made from ([`Dataset::source`]).
pub struct Samples {
    dataset: Arc<dyn Dataset>,
    encoding: Encoding,
    augment: Augment,
    rng: Rng,
    shape: [usize; 4],
    kept: Vec<OnceLock<Kept>>,
    room: AtomicUsize,
    disk: Option<Arc<Disk>>,
    warnings: Mutex<BTreeSet<String>>,
}

/// A sample ready to be copied into a batch.
pub(super) enum Ready<'a> {
    Kept(&'a Compact),
    Made(Compact),
}

impl std::ops::Deref for Ready<'_> {
    type Target = Compact;
    fn deref(&self) -> &Compact {
        match self {
            Ready::Kept(c) => c,
            Ready::Made(c) => c,
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
            disk: None,
            warnings: Mutex::default(),
        }
    }
    /// With a cache on disk.
    pub(super) fn with_disk(self, disk: Option<Arc<Disk>>) -> Self {
        Samples { disk, ..self }
    }
    /// At most `n` of them, of each class alike; `seed` chooses.
    pub fn limited(&self, n: usize, seed: u64) -> Samples {
        self.some(split::limited(&self.dataset.labels(), n, &Rng::new(seed).stream("limited")))
    }
    /// Sample `i` alone.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn only(&self, i: usize) -> Samples {
        self.some(vec![i])
    }
    fn some(&self, indices: Vec<usize>) -> Samples {
        let dataset = Arc::new(Subset::new(self.dataset.clone(), indices));
        let kept = (0..dataset.len()).map(|_| OnceLock::new()).collect();
        let room = AtomicUsize::new(self.room.load(Ordering::Relaxed));
        let (encoding, augment, rng, disk) = (self.encoding.clone(), self.augment.clone(), self.rng.clone(), self.disk.clone());
        Samples { dataset, encoding, augment, rng, shape: self.shape, kept, room, disk, warnings: Mutex::default() }
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
    /// `[T, H, W, C]` of a sample; where steps have a fixed duration, T is the most there can be.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
    /// Whether samples are zeros and ones, to be taken as spikes.
    pub fn is_binary(&self) -> bool {
        self.encoding.is_binary()
    }
    /// What was wrong with the files read so far: a sentence each with the path, sorted.
    pub fn warnings(&self) -> Vec<String> {
        let said = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.into_iter().chain(self.dataset.warnings()).collect::<BTreeSet<_>>().into_iter().collect()
    }
    /// Sample `i` as it is in `epoch`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sample(&self, i: usize, epoch: u64) -> Result<Sample> {
        let ready = self.ready(i, epoch)?;
        let mut x = vec![0.0; ready.len()];
        ready.read(0, &mut x);
        Ok(Sample { x, label: self.dataset.label(i) })
    }
    /// Sample `i` as it is in `epoch`, `[T, H, W, C]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn ready(&self, i: usize, epoch: u64) -> Result<Ready<'_>> {
        let made = |x: Vec<f32>| Ok(Ready::Made(Compact::F32(x.into())));
        let kept = match self.kept[i].get() {
            Some(kept) => Ok(kept),
            None => match self.fetch(i)? {
                Fetched::Kept(kept) => self.keep(i, kept),
                Fetched::Loose(events) => return made(self.encode(i, epoch, events)),
            },
        };
        match kept {
            Ok(Kept::Array(a)) if self.augment.is_off() => Ok(Ready::Kept(a)),
            Err(Kept::Array(a)) if self.augment.is_off() => Ok(Ready::Made(a)),
            Ok(Kept::Array(a)) => made(self.moved(i, epoch, a)),
            Err(Kept::Array(a)) => made(self.moved(i, epoch, &a)),
            Ok(Kept::Events(e)) => made(self.encode(i, epoch, e.events())),
            Err(Kept::Events(e)) => made(self.encode(i, epoch, e.events())),
        }
    }
    /// Reads all samples once on all threads, so that the first epoch finds them in memory.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fill(&self) -> Result<()> {
        let missing = |i: &usize| self.kept[*i].get().is_none();
        (0..self.len()).into_par_iter().filter(missing).try_for_each(|i| self.ready(i, 0).map(|_| ()))
    }

    /// What is to be kept of sample `i`: from the cache on disk, else made.
    fn fetch(&self, i: usize) -> Result<Fetched> {
        let entry = self.disk.as_ref().and_then(|disk| Some((disk, self.key(i, disk)?)));
        let path = self.dataset.describe(i);
        // Without the path, which is another where the same file is found again.
        let said = |warnings: Vec<String>| self.warn(warnings.into_iter().map(|w| format!("{path}: {w}")));
        if let Some((disk, key)) = &entry {
            let (found, trouble) = disk.read(key);
            self.warn(trouble);
            if let Some((kept, warnings)) = found {
                said(warnings);
                return Ok(Fetched::Kept(kept));
            }
        }
        let mut warnings = Vec::new();
        let kept = match self.dataset.load(i)? {
            Recording::Array(a) if a.len() != self.shape.iter().product::<usize>() => {
                let what = format!("{path}: {} values for a sample of {:?}", a.len(), self.shape);
                return Err(Error::shape(self.dataset.name(), what));
            }
            Recording::Array(mut a) => {
                self.encoding.compress.apply(&mut a);
                Kept::Array(Compact::of(a))
            }
            Recording::Events(mut stream) => {
                stream.sort();
                warnings.append(&mut stream.warnings);
                self.encoding.filter.begin(self.dataset.sensor()).retain(&mut stream.events);
                if self.augment.is_off() {
                    warnings.extend(self.cut(&stream.events));
                    Kept::Array(Compact::of(self.encoding.encode(&stream.events, self.dataset.sensor())))
                } else {
                    match Packed::of(&stream.events) {
                        Some(packed) => Kept::Events(packed),
                        None => {
                            said(warnings);
                            return Ok(Fetched::Loose(stream.events));
                        }
                    }
                }
            }
        };
        if let Some((disk, key)) = &entry {
            self.warn(disk.write(key, &kept, &warnings));
        }
        said(warnings);
        Ok(Fetched::Kept(kept))
    }

    /// Names sample `i` as it is kept. None where the dataset does not say what it is made from.
    fn key(&self, i: usize, disk: &Disk) -> Option<Key> {
        let Source { file, settings } = self.dataset.source(i)?;
        // Arrays are kept as they come, and events where they are yet to be augmented.
        let encoded = self.augment.is_off() && self.dataset.is_events();
        let encoding = encoded.then_some(&self.encoding);
        let sensor = self.dataset.sensor();
        let sensor = [sensor.width, sensor.height];
        let settings = serde_json::to_string(&(self.dataset.name(), settings, sensor, self.encoding.filter, encoding)).ok()?;
        disk.key(file, &settings)
    }

    /// What to say where steps are left out.
    fn cut(&self, events: &[Event]) -> Option<String> {
        let (n, most) = (self.encoding.length(events), self.shape[0]);
        (n > most).then(|| format!("{n} steps; those behind the first {most} (data.max_steps) are left out"))
    }

    fn warn(&self, what: impl IntoIterator<Item = String>) {
        let mut what = what.into_iter().peekable();
        if what.peek().is_some() {
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(what);
        }
    }

    /// The random numbers of sample `i` in `epoch`.
    fn stream(&self, i: usize, epoch: u64) -> Rng {
        self.rng.stream(epoch).stream(i)
    }
    /// The array `[T, H, W, C]` with its pixels moved as the augmentation says.
    fn moved(&self, i: usize, epoch: u64, array: &Compact) -> Vec<f32> {
        let mut x = vec![0.0; array.len()];
        array.read(0, &mut x);
        self.augment.array(&mut x, self.shape, &self.stream(i, epoch));
        x
    }
    fn encode(&self, i: usize, epoch: u64, mut events: Vec<Event>) -> Vec<f32> {
        let sensor = self.dataset.sensor();
        if !self.augment.is_off() {
            self.augment.events(&mut events, sensor, &self.stream(i, epoch));
        }
        self.warn(self.cut(&events).map(|w| format!("{}: {w}", self.dataset.describe(i))));
        self.encoding.encode(&events, sensor)
    }

    /// Keeps it if there is room, else hands it back.
    fn keep(&self, i: usize, kept: Kept) -> Result<&Kept, Kept> {
        let take = |room: usize| room.checked_sub(kept.bytes());
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(kept);
        }
        // Another thread may have been as quick; then its copy stays, and this one's room is lost, which is harmless.
        Ok(self.kept[i].get_or_init(|| kept))
    }
}

/// What [`Samples::fetch`] found.
enum Fetched {
    Kept(Kept),
    /// Events too far apart to be packed.
    Loose(Vec<Event>),
}

/// Training, validation and test samples of a recipe's `[data]`.
pub struct Splits {
    /// What is trained on; the only samples that are augmented.
    pub train: Arc<Samples>,
    /// What the epoch is chosen by; taken from the training set, and empty where `data.validation` is 0.
    pub validation: Arc<Samples>,
    /// What is tested on, once.
    pub test: Arc<Samples>,
    pub(super) disk: Option<Arc<Disk>>,
}

impl Splits {
    /// Opens a dataset; `seed` is the run's, for augmentation only.
    ///
    /// # Errors
    /// As [`open`], and a validation share that leaves nothing to train on or to choose by.
    pub fn open(spec: &DatasetSpec, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&spec.validation) {
            let what =
                format!("{} is no share of the training set: 0 (the last epoch is taken) or more, and below 1", spec.validation);
            return Err(Error::config("data.validation", what));
        }
        if !(spec.test_fraction > 0.0 && spec.test_fraction < 1.0) {
            return Err(Error::config("data.test_fraction", format!("{} is not between 0 and 1", spec.test_fraction)));
        }
        if spec.cache.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(Error::config(
                "data.cache",
                "\"\" names no folder; name one, or leave the key out to keep nothing on disk",
            ));
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
        if stay.is_empty() || taken.is_empty() && spec.validation > 0.0 || test.is_empty() {
            let what = format!(
                "{} training, {} validation and {} test samples are too few; more data or another data.validation is needed",
                stay.len(),
                taken.len(),
                test.len()
            );
            return Err(Error::config("data", what));
        }
        let disk = spec.cache.clone().map(|dir| Arc::new(Disk::new(dir)));
        // The budget is shared by what each part holds.
        let total = (train.len() + test.len()) as f64;
        let cache = |n: usize| ((spec.cache_mib as f64) * 1_048_576.0 * n as f64 / total) as usize;
        let samples = |d: Arc<dyn Dataset>, augment: Augment| {
            let cache = cache(d.len());
            Arc::new(Samples::new(d, spec.encoding(), augment, seed, cache).with_disk(disk.clone()))
        };
        Ok(Splits {
            train: samples(Arc::new(Subset::new(train.clone(), stay)), spec.augment.clone()),
            validation: samples(Arc::new(Subset::new(train, taken)), Augment::default()),
            test: samples(test, Augment::default()),
            disk,
        })
    }
    /// What the cache on disk did so far and how large it is; none without one.
    pub fn cache(&self) -> Option<String> {
        self.disk.as_ref().map(|d| d.report())
    }
    /// What was wrong with the files read so far.
    pub fn warnings(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for w in [&self.train, &self.validation, &self.test].iter().flat_map(|s| s.warnings()) {
            // Training and validation samples may come of one file.
            if !all.contains(&w) {
                all.push(w);
            }
        }
        all
    }
}
