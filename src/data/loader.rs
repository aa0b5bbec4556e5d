//! Batches, shuffled by a seed and made ahead of time on background threads.
//!
//! Thread k of n makes batches k, k + n, k + 2n, ... and hands them over through a queue of bounded length; the reader takes
//! from the queues in turn. So the batches and their order depend on the seed and the epoch alone, never on the threads.

use super::mixup::{Mixed, Mixup};
use super::{NO_CLASS, Samples};
use crate::rng::Rng;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch.
    pub batch: usize,
    /// The seed of the order.
    pub seed: u64,
    /// Whether the order is random, another for each epoch; else that of the dataset.
    pub shuffle: bool,
    /// Whether an incomplete last batch is left out.
    pub drop_last: bool,
    /// Whether every step has its label; see [`super::Dataset::step_labels`].
    pub per_step: bool,
    /// Threads that make batches; with 0 the reader's own does when it asks.
    pub threads: usize,
    /// Batches each thread may be ahead; fewer where all of them together would take more than a GiB.
    pub prefetch: usize,
    /// How batches are mixed, if they are; by the seed.
    pub mixup: Option<Mixup>,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions {
            batch: 16,
            seed: 0,
            shuffle: true,
            drop_last: false,
            per_step: false,
            threads: 2,
            prefetch: 2,
            mixup: None,
        }
    }
}

/// Bytes of batches made ahead, at most, beside the one that each thread makes.
const AHEAD: usize = 1 << 30;

/// Encoded samples side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[T, B, H, W, C]`, in this order of axes; T is that of the longest sample, and what lies behind the others' ends is zero.
    pub x: Vec<f32>,
    /// T, B, H, W, C.
    pub shape: [usize; 5],
    /// T of each of the B samples.
    pub lengths: Vec<usize>,
    /// Whether x holds zeros and ones, to be taken as spikes.
    pub is_binary: bool,
    /// The classes of the B samples; of their steps, `[T, B]`, where [`LoaderOptions::per_step`] asks for them, [`NO_CLASS`] behind their
    /// ends.
    pub labels: Vec<u32>,
    /// What was blended into them, if anything was.
    pub mixed: Option<Mixed>,
    /// Their numbers in [`Samples`].
    pub indices: Vec<usize>,
}

impl Batch {
    /// The probabilities of the classes, `[labels, classes]`: 1 for the label, or the shares of the labels that were mixed; zeros for
    /// [`NO_CLASS`].
    ///
    /// # Errors
    /// A label that is no class.
    pub fn targets(&self, classes: usize) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.labels.len() * classes];
        let share = self.mixed.as_ref().map_or(1.0, |m| m.share);
        let others = self.mixed.iter().flat_map(|m| m.labels.iter().map(|&l| (l, 1.0 - share)).enumerate());
        let own = self.labels.iter().map(|&l| (l, share)).enumerate().filter(|(_, (l, _))| *l != NO_CLASS);
        for (row, (label, share)) in own.chain(others) {
            let place = out[row * classes..][..classes].get_mut(label as usize);
            *place.ok_or_else(|| Error::shape("targets", format!("label {label} is none of the {classes} classes")))? += share;
        }
        Ok(out)
    }
}

/// Makes batches of samples.
#[derive(Clone)]
pub struct Loader {
    samples: Arc<Samples>,
    options: LoaderOptions,
}

impl Loader {
    /// A loader of `samples`.
    ///
    /// # Errors
    /// A batch of no samples, labels of steps where there are none, or mixup of them.
    pub fn new(samples: Arc<Samples>, options: LoaderOptions) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::config("train.batch", "a batch of no samples"));
        }
        if options.per_step && !samples.is_empty() && samples.dataset().step_labels(0).is_none() {
            let what = format!("samples of {} have one class, not one for each step", samples.dataset().name());
            return Err(Error::config("train.loss", what));
        }
        if options.per_step && options.mixup.is_some() {
            return Err(Error::config("data.augment.mixup", "mixes samples of one class, not of one for each step"));
        }
        Ok(Loader { samples, options })
    }
    /// The samples.
    pub fn samples(&self) -> &Arc<Samples> {
        &self.samples
    }
    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        if self.options.drop_last {
            self.samples.len() / self.options.batch
        } else {
            self.samples.len().div_ceil(self.options.batch)
        }
    }
    /// The batches of an epoch from number `first` on (0 for all; a resumed run begins where it stopped).
    pub fn epoch(&self, epoch: u64, first: usize) -> Batches {
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        if self.options.shuffle {
            Rng::new(self.options.seed).stream("shuffle").stream(epoch).shuffle(&mut order);
        }
        let work = Arc::new(Work { samples: self.samples.clone(), order, options: self.options.clone(), epoch });
        let end = self.batches();
        let threads = self.options.threads.min(end.saturating_sub(first));
        let batch = self.samples.shape().into_iter().fold(4 * self.options.batch, usize::saturating_mul);
        let prefetch = self.options.prefetch.min(AHEAD / batch.saturating_mul(threads).max(1));
        let (mut queues, mut workers) = (Vec::new(), Vec::new());
        for k in 0..threads {
            let (work, (send, queue)) = (work.clone(), sync_channel(prefetch));
            let run = move || {
                for number in (first + k..end).step_by(threads) {
                    let batch = work.make(number);
                    let failed = batch.is_err();
                    // The reader is gone once nobody takes it.
                    if send.send(batch).is_err() || failed {
                        break;
                    }
                }
            };
            let builder = std::thread::Builder::new().name(format!("loader-{k}"));
            match builder.spawn(run) {
                Ok(worker) => workers.push(worker),
                // Then the batches are made by whoever asks for them.
                Err(_) => {
                    queues.clear();
                    break;
                }
            }
            queues.push(queue);
        }
        Batches { work, queues, workers, first, next: first, end, waited: Duration::ZERO }
    }
}

struct Work {
    samples: Arc<Samples>,
    order: Vec<usize>,
    options: LoaderOptions,
    epoch: u64,
}

impl Work {
    fn make(&self, number: usize) -> Result<Batch> {
        let from = number * self.options.batch;
        let indices = self.order[from..self.order.len().min(from + self.options.batch)].to_vec();
        let [_, h, w, c] = self.samples.shape();
        let frame = h * w * c;
        let ready = indices.iter().map(|&i| self.samples.ready(i, self.epoch)).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = ready.iter().map(|r| r.len() / frame.max(1)).collect();
        let shape = [lengths.iter().copied().max().unwrap_or(0), indices.len(), h, w, c];
        let mut x = vec![0.0; shape.iter().product()];
        for (place, out) in x.chunks_exact_mut(frame).enumerate() {
            let (t, b) = (place / indices.len(), place % indices.len());
            if t < lengths[b] {
                ready[b].read(t * frame, out);
            }
        }
        let dataset = self.samples.dataset();
        let labels = if self.options.per_step {
            let rows: Vec<_> = indices.iter().map(|&i| dataset.step_labels(i).unwrap_or_default()).collect();
            for ((i, row), n) in indices.iter().zip(&rows).zip(&lengths) {
                if row.len() != *n {
                    let what = format!("{}: {} labels for {n} steps", dataset.describe(*i), row.len());
                    return Err(Error::shape(dataset.name(), what));
                }
            }
            (0..shape[0]).flat_map(|t| rows.iter().map(move |r| r.get(t).copied().unwrap_or(NO_CLASS))).collect()
        } else {
            indices.iter().map(|&i| dataset.label(i)).collect()
        };
        let mut batch = Batch { x, shape, lengths, is_binary: self.samples.is_binary(), labels, mixed: None, indices };
        if let Some(mixup) = self.options.mixup {
            mixup.apply(&mut batch, &Rng::new(self.options.seed), self.epoch, number);
        }
        Ok(batch)
    }
}

/// The batches of an epoch, in order. It ends after an error.
pub struct Batches {
    work: Arc<Work>,
    queues: Vec<Receiver<Result<Batch>>>,
    workers: Vec<JoinHandle<()>>,
    first: usize,
    next: usize,
    end: usize,
    waited: Duration,
}

impl Batches {
    /// The number of the next batch in the epoch.
    pub fn position(&self) -> usize {
        self.next
    }
    /// How long the reader has waited for batches, all in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let asked = Instant::now();
        let batch = if self.queues.is_empty() {
            self.work.make(self.next)
        } else {
            let queue = &self.queues[(self.next - self.first) % self.queues.len()];
            let lost = |_| Err(Error::config("data", "a thread that loads data ended before its time; this is a bug"));
            received(queue).unwrap_or_else(lost)
        };
        self.waited += asked.elapsed();
        self.next = if batch.is_ok() { self.next + 1 } else { self.end };
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next);
        (0, Some(left))
    }
}

/// Waits for a batch. A thread of the pool works for others meanwhile: those that load may have asked for it, and it may be the only one.
fn received<T>(queue: &Receiver<T>) -> std::result::Result<T, RecvTimeoutError> {
    loop {
        match queue.recv_timeout(Duration::from_millis(1)) {
            Err(RecvTimeoutError::Timeout) => while rayon::yield_now() == Some(rayon::Yield::Executed) {},
            end => return end,
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without its queue a thread stops after the batch at hand.
        self.queues.clear();
        for worker in self.workers.drain(..) {
            // As in `received`.
            while !worker.is_finished() {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            // Its panic was reported already, as a batch that did not come.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Augment, Dataset, DatasetSpec, Recording, Splits};
    use super::*;
    use crate::encode::{Encoding, Kind};
    use crate::events::{Event, EventStream, Sensor};

    /// The only thread of a pool waits for what needs that pool.
    #[test]
    fn whoever_waits_works_for_others() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (pool, (begin, begun), (send, queue)) = (&pool, sync_channel(1), sync_channel(1));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                begun.recv().unwrap();
                send.send(pool.install(|| 3)).unwrap();
            });
            let got = pool.install(move || {
                begin.send(()).unwrap();
                received(&queue)
            });
            assert_eq!(got, Ok(3));
        });
    }

    /// Sample i is an array of i's; some fail.
    struct Numbers {
        classes: Vec<String>,
        fails: fn(usize) -> bool,
    }
    impl Dataset for Numbers {
        fn name(&self) -> &str {
            "numbers"
        }
        fn classes(&self) -> &[String] {
            &self.classes
        }
        fn sensor(&self) -> Sensor {
            Sensor::new(1, 1)
        }
        fn len(&self) -> usize {
            23
        }
        fn label(&self, i: usize) -> u32 {
            i as u32
        }
        fn step_labels(&self, i: usize) -> Option<Vec<u32>> {
            Some(vec![i as u32; if i == 22 { 3 } else { 2 }])
        }
        fn load(&self, i: usize) -> Result<Recording> {
            assert!(i != 1000);
            if (self.fails)(i) {
                return Err(Error::usage("broken"));
            }
            Ok(Recording::Array((0..6).map(|t| (10 * i + t / 3) as f32).collect()))
        }
        fn is_events(&self) -> bool {
            false
        }
        fn describe(&self, i: usize) -> String {
            i.to_string()
        }
        fn shape(&self, _: &Encoding) -> [usize; 4] {
            [2, 1, 3, 1]
        }
    }

    /// Sample i is i + 1 events, 10 us apart.
    struct Clips;
    impl Dataset for Clips {
        fn name(&self) -> &str {
            "clips"
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn sensor(&self) -> Sensor {
            Sensor::new(1, 1)
        }
        fn len(&self) -> usize {
            5
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn load(&self, i: usize) -> Result<Recording> {
            let events = (0..=i as i64).flat_map(|k| [Event { t: 10 * k, p: true, ..Event::default() }; 2]).collect();
            Ok(Recording::Events(EventStream::new(events, self.sensor())))
        }
        fn describe(&self, i: usize) -> String {
            format!("clip {i}")
        }
        /// 10 i + t.
        fn step_labels(&self, i: usize) -> Option<Vec<u32>> {
            Some((0..=i.min(3)).map(|t| (10 * i + t) as u32).collect())
        }
    }

    #[test]
    fn padded_steps_have_no_class() {
        let encoding = Encoding { duration_us: Some(10), max_steps: Some(4), ..Encoding::default() };
        let samples = Arc::new(Samples::new(Arc::new(Clips), encoding, Augment::default(), 0, 1 << 20));
        let options = LoaderOptions { batch: 3, shuffle: false, per_step: true, ..LoaderOptions::default() };
        let b = &all(&Loader::new(samples.clone(), options.clone()).unwrap(), 0, 0)[0];
        assert_eq!(b.labels, [0, 10, 20, NO_CLASS, 11, 21, NO_CLASS, NO_CLASS, 22]);
        let targets = b.targets(23).unwrap();
        let hot: Vec<_> = targets.chunks(23).map(|row| row.iter().position(|v| *v == 1.0)).collect();
        assert_eq!(hot, [Some(0), Some(10), Some(20), None, Some(11), Some(21), None, None, Some(22)]);
        assert_eq!(targets.iter().sum::<f32>(), 6.0);
        let mixup = Some(Mixup { alpha: 0.5, chance: 1.0, epochs: None });
        let e = Loader::new(samples, LoaderOptions { mixup, ..options }).err().unwrap().to_string();
        assert!(e.starts_with("data.augment.mixup: mixes samples of one class"), "{e}");
    }

    #[test]
    fn shorter_clips_are_padded_and_longer_ones_cut() {
        let options = LoaderOptions { batch: 3, shuffle: false, ..LoaderOptions::default() };
        for (kind, v) in [(Kind::Frames, 2.0), (Kind::Raster, 1.0)] {
            let encoding = Encoding { kind, duration_us: Some(10), max_steps: Some(4), ..Encoding::default() };
            for augment in [Augment::default(), Augment { drop: 1e-9, ..Augment::default() }] {
                let samples = Arc::new(Samples::new(Arc::new(Clips), encoding.clone(), augment, 0, 1 << 20));
                let l = Loader::new(samples, options.clone()).unwrap();
                let b = all(&l, 0, 0);
                assert_eq!((b[0].shape, &b[0].lengths[..]), ([3, 3, 1, 1, 2], &[1, 2, 3][..]));
                let on: Vec<f32> = b[0].x.iter().skip(1).step_by(2).copied().collect();
                assert_eq!(on, [v, v, v, 0.0, v, v, 0.0, 0.0, v]);
                assert_eq!((b[1].shape[0], &b[1].lengths[..]), (4, &[4, 4][..]));
                assert_eq!(b[0].is_binary, kind == Kind::Raster);
                let said = l.samples().warnings();
                assert_eq!(said, ["clip 4: 5 steps; those behind the first 4 (data.max_steps) are left out"]);
                let mut again = l.epoch(0, 0);
                assert!(again.by_ref().all(|x| x.is_ok()) && again.waited() > Duration::ZERO);
            }
        }
    }

    fn loader(options: LoaderOptions, fails: fn(usize) -> bool) -> Loader {
        let dataset = Arc::new(Numbers { classes: vec![], fails });
        let samples = Samples::new(dataset, Encoding::default(), Augment::default(), 0, 1 << 20);
        Loader::new(Arc::new(samples), options).unwrap()
    }

    fn all(l: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
        l.epoch(epoch, first).map(Result::unwrap).collect()
    }

    #[test]
    fn batches_are_time_first() {
        let l = loader(LoaderOptions { batch: 2, shuffle: false, ..LoaderOptions::default() }, |_| false);
        let b = &all(&l, 0, 0)[1];
        assert_eq!((b.shape, &b.indices[..], &b.labels[..]), ([2, 2, 1, 3, 1], &[2, 3][..], &[2, 3][..]));
        assert_eq!(b.x, [20., 20., 20., 30., 30., 30., 21., 21., 21., 31., 31., 31.]);
        assert_eq!(all(&l, 0, 0).last().unwrap().shape[1], 1);
        let l = loader(LoaderOptions { batch: 2, drop_last: true, ..LoaderOptions::default() }, |_| false);
        assert_eq!((l.batches(), all(&l, 0, 0).len()), (11, 11));
    }

    #[test]
    fn labels_of_steps_are_time_first() {
        let l = loader(LoaderOptions { batch: 3, shuffle: false, per_step: true, ..LoaderOptions::default() }, |_| false);
        let got: Vec<_> = l.epoch(0, 0).collect();
        assert_eq!(got[1].as_ref().unwrap().labels, [3, 4, 5, 3, 4, 5]);
        let e = got.last().unwrap().as_ref().unwrap_err().to_string();
        assert!(e.contains("22: 3 labels for 2 steps"), "{e}");
    }

    #[test]
    fn threads_change_nothing_and_epochs_resume() {
        let make = |threads, prefetch| {
            loader(LoaderOptions { batch: 4, seed: 9, threads, prefetch, ..LoaderOptions::default() }, |_| false)
        };
        let one = all(&make(0, 0), 3, 0);
        for (threads, prefetch) in [(1, 0), (1, 3), (2, 1), (5, 2), (50, 1)] {
            assert_eq!(all(&make(threads, prefetch), 3, 0), one);
            assert_eq!(all(&make(threads, prefetch), 3, 4), one[4..]);
        }
        let l = make(2, 1);
        assert_eq!(all(&l, 3, 0), one, "from memory");
        assert_eq!(all(&l, 3, 0), one);
        assert_ne!(all(&l, 4, 0)[0].indices, one[0].indices);
        assert!(all(&l, 3, 6).is_empty() && all(&l, 3, 60).is_empty());
        let mut seen: Vec<_> = one.iter().flat_map(|b| b.indices.clone()).collect();
        seen.sort();
        assert_eq!(seen, (0..23).collect::<Vec<_>>());
    }

    #[test]
    fn errors_and_panics_reach_the_reader_and_leaving_early_is_fine() {
        for threads in [0, 1, 3] {
            let options = LoaderOptions { batch: 4, shuffle: false, threads, ..LoaderOptions::default() };
            let got: Vec<_> = loader(options.clone(), |i| i == 13).epoch(0, 0).collect();
            assert_eq!(got.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false]);
            let mut early = loader(options.clone(), |_| false).epoch(0, 0);
            early.next();
            drop(early);
            if threads > 0 {
                let got: Vec<_> = loader(options, |i| i == 13 && panic!("on purpose")).epoch(0, 0).collect();
                assert!(got.last().unwrap().is_err() && got.len() == 4);
            }
        }
        let none = LoaderOptions { batch: 0, ..LoaderOptions::default() };
        let dataset = Arc::new(Numbers { classes: vec![], fails: |_| false });
        let samples = Samples::new(dataset, Encoding::default(), Augment::default(), 0, 0);
        assert!(Loader::new(Arc::new(samples), none).is_err());
    }

    #[test]
    fn augmentation_is_seeded_per_epoch_and_for_training_only() {
        let mut spec = DatasetSpec::new("gestures");
        (spec.train_samples, spec.test_samples, spec.frames) = (Some(20), Some(8), 4);
        spec.gestures.camera.sensor = [16, 16];
        spec.gestures.camera.seconds = 0.1;
        spec.augment.translate = 3;
        let (a, b) = (Splits::open(&spec, 1).unwrap(), Splits::open(&spec, 1).unwrap());
        assert_eq!((a.train.len(), a.validation.len(), a.test.len()), (12, 8, 8));
        // Once from the simulator and once from memory.
        let first = a.train.sample(3, 5).unwrap();
        assert_eq!(first, a.train.sample(3, 5).unwrap());
        b.train.fill().unwrap();
        assert_eq!(first, b.train.sample(3, 5).unwrap());
        assert_ne!(first.x, a.train.sample(3, 6).unwrap().x);
        assert_ne!(first.x, Splits::open(&spec, 2).unwrap().train.sample(3, 5).unwrap().x);
        assert_eq!(a.test.sample(3, 5).unwrap(), a.test.sample(3, 6).unwrap());
        spec.cache_mib = 0;
        assert_eq!(first, Splits::open(&spec, 1).unwrap().train.sample(3, 5).unwrap());
    }
}
