//! The synthetic gestures: recordings of [`super::simulator`], computed when they are needed.
//!
//! Sample `i` of a split is a pure function of the seed, the split and `i`; its class is `i` modulo the number of classes,
//! so classes are balanced. [`write_to_disk`] writes them as files, a folder per class, which [`super::folder`] reads back.

use super::simulator::{Camera, Motion, record};
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Source, Split};
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
        GestureSpec { classes: Motion::ALL[..8].to_vec(), camera: Camera::default(), seed: 0 }
    }
}

/// The largest number of recordings in a split.
const MOST: usize = 1 << 24;

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
    /// Fewer than two classes, one named twice, an impossible camera, or more recordings than anyone could wait for.
    pub fn new(spec: GestureSpec, split: Split, len: usize) -> Result<Self> {
        if let Some(fault) = spec.camera.fault() {
            return Err(Error::config("data.gestures.camera", fault));
        }
        if len > MOST {
            let what = format!("{len} recordings; up to {MOST} are made");
            return Err(Error::config("data.train_samples and data.test_samples", what));
        }
        let twice = (1..spec.classes.len()).any(|i| spec.classes[..i].contains(&spec.classes[i]));
        if spec.classes.len() < 2 || twice {
            return Err(Error::config("data.gestures.classes", "two or more different motions are needed"));
        }
        Ok(Gestures { names: spec.classes.iter().map(|m| m.name().to_owned()).collect(), spec, split, len })
    }

    fn open(spec: &DatasetSpec, manifest: &Manifest, split: Split) -> Result<Self> {
        if spec.dir.is_some() {
            return Err(Error::config(
                "data.dir",
                "recordings of gestures are made as they are asked for; there is no folder of them",
            ));
        }
        let published = manifest.counts.map_or((0, 0), |c| (c.train, c.test));
        let len = match split {
            Split::Train => spec.train_samples.unwrap_or(published.0),
            Split::Test => spec.test_samples.unwrap_or(published.1),
        };
        Gestures::new(spec.gestures.clone(), split, len)
    }

    /// Recording `i`.
    pub fn recording(&self, i: usize) -> EventStream {
        let rng = Rng::new(self.spec.seed).stream("gestures").stream(self.split.name()).stream(i);
        record(&self.spec.camera, self.spec.classes[i % self.spec.classes.len()], &rng)
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
    fn source(&self, i: usize) -> Option<Source> {
        let spec = serde_json::to_string(&self.spec).ok()?;
        Some(Source { file: None, settings: format!("{} {i} of {spec}", self.split.name()) })
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
        crate::files::make_folder(folder)?;
    }
    (0..gestures.len).into_par_iter().try_for_each(|i| {
        let file = format!("{i:06}.{}", format.extensions[0]);
        save(folders[gestures.label(i) as usize].join(file), &gestures.recording(i), format)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Encoding, SplitBy};
    use crate::events::FORMATS;

    /// Test accuracy of a linear softmax classifier on rows of features, standardised; trained by gradient descent.
    fn linear(train: &[Vec<f32>], test: &[Vec<f32>], classes: usize) -> f64 {
        let d = train[0].len();
        let n = train.len() as f32;
        let mean: Vec<f32> = (0..d).map(|j| train.iter().map(|r| r[j]).sum::<f32>() / n).collect();
        let spread = |j: usize| {
            let v = train.iter().map(|r| (r[j] - mean[j]).powi(2)).sum::<f32>() / n;
            v.sqrt().max(1e-3)
        };
        let scale: Vec<f32> = (0..d).map(|j| spread(j).recip() / (d as f32).sqrt()).collect();
        let ready = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
            rows.iter().map(|r| (0..d).map(|j| (r[j] - mean[j]) * scale[j]).collect()).collect()
        };
        let (train, test) = (ready(train), ready(test));
        let mut w = vec![0.0f32; classes * d];
        let scores =
            |w: &[f32], r: &[f32]| -> Vec<f32> { w.chunks(d).map(|w| w.iter().zip(r).map(|(a, b)| a * b).sum()).collect() };
        for _ in 0..150 {
            let mut g = vec![0.0f32; classes * d];
            for (i, r) in train.iter().enumerate() {
                let s = scores(&w, r);
                let top = s.iter().copied().fold(f32::MIN, f32::max);
                let e: Vec<f32> = s.iter().map(|v| (v - top).exp()).collect();
                let sum: f32 = e.iter().sum();
                for (c, e) in e.iter().enumerate() {
                    let error = e / sum - f32::from(u8::from(c == i % classes));
                    g[c * d..][..d].iter_mut().zip(r).for_each(|(g, r)| *g += error * r);
                }
            }
            w.iter_mut().zip(&g).for_each(|(w, g)| *w -= 4.0 * (g / n + 0.001 * *w));
        }
        let right = |(i, r): &(usize, &Vec<f32>)| {
            let s = scores(&w, r);
            (0..classes).max_by(|&a, &b| s[a].total_cmp(&s[b])) == Some(i % classes)
        };
        test.iter().enumerate().filter(right).count() as f64 / test.len() as f64
    }

    /// How much things move along each axis, in each cell of a 4 by 4 grid: correlations between a place and its neighbour a
    /// frame later. Twice `side * side` frames of counts in, 32 numbers out.
    fn motion(x: &[f32], side: usize) -> Vec<f32> {
        let frames: Vec<Vec<f32>> =
            x.chunks(side * side * 2).map(|f| f.chunks(2).map(|p| (p[0] + p[1]).sqrt()).collect()).collect();
        let mut out = vec![0.0; 32];
        for f in frames.windows(2) {
            for y in 0..side - 1 {
                for x in 0..side - 1 {
                    let (i, cell) = (y * side + x, y * 4 / side * 4 + x * 4 / side);
                    for (axis, j) in [(0, i + 1), (1, i + side)] {
                        out[axis * 16 + cell] += f[0][i] * f[1][j] - f[0][j] * f[1][i];
                    }
                }
            }
        }
        out
    }

    /// Classes are told apart by motion and by nothing else a linear classifier could find.
    #[test]
    fn only_motion_tells_the_classes_apart() {
        let (n, m, classes, side) = (800, 400, 8, 16);
        let encoding = Encoding { frames: 16, size: Some([side, side]), split_by: SplitBy::Time, ..Encoding::default() };
        let encoded = |split, n| -> Vec<Vec<f32>> {
            let g = Gestures::new(GestureSpec::default(), split, n).unwrap();
            (0..n).into_par_iter().map(|i| encoding.encode(&g.recording(i).events, g.sensor())).collect()
        };
        let (train, test) = (encoded(Split::Train, n), encoded(Split::Test, m));
        let accuracy = |features: &(dyn Fn(&Vec<f32>) -> Vec<f32> + Sync)| {
            let of = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> { rows.par_iter().map(features).collect() };
            linear(&of(&train), &of(&test), classes)
        };
        let frame = side * side * 2;
        let summed = accuracy(&|x| (0..frame).map(|i| x.iter().skip(i).step_by(frame).sum()).collect());
        let single = [0, 7, 15].map(|t| accuracy(&|x| x[t * frame..][..frame].to_vec()));
        let count = accuracy(&|x| x.chunks(frame).map(|f| f.iter().sum()).collect());
        let moving = accuracy(&|x| motion(x, side));
        let events = |c: usize| {
            let all: f32 = train.iter().skip(c).step_by(classes).flatten().sum();
            all as usize / (n / classes)
        };
        println!("events {:?}", (0..classes).map(events).collect::<Vec<_>>());
        println!("summed {summed:.3}, single frames {single:.3?}, counts over time {count:.3}, motion {moving:.3}");
        assert!(summed < 0.35, "frames summed over time: {summed}");
        assert!(single.iter().all(|&a| a < 0.35), "single frames: {single:?}");
        assert!(count < 0.3, "events over time: {count}");
        assert!(moving > 0.85, "motion: {moving}");
    }

    #[test]
    fn classes_are_balanced_and_splits_differ() {
        let open = |split| Gestures::new(GestureSpec::default(), split, 80).unwrap();
        let (train, test) = (open(Split::Train), open(Split::Test));
        assert!((0..8).all(|c| train.labels().iter().filter(|&&l| l == c).count() == 10));
        assert_eq!(train.classes()[5], "counter_clockwise");
        assert_eq!(train.recording(3), open(Split::Train).recording(3));
        assert_ne!(train.recording(3), test.recording(3));
        let manifest = ENTRY.manifest().unwrap();
        assert_eq!(manifest.classes, train.classes());
        assert_eq!(manifest.sensor, Some(GestureSpec::default().camera.sensor));
    }

    #[test]
    fn recordings_on_disk_are_read_back() {
        let spec = GestureSpec::default();
        for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
            let dir = tempfile::tempdir().unwrap();
            for split in [Split::Train, Split::Test] {
                write_to_disk(&Gestures::new(spec.clone(), split, 10).unwrap(), dir.path(), f).unwrap();
            }
            let folder =
                DatasetSpec { dir: Some(dir.path().into()), sensor: Some([64, 64]), strict: true, ..DatasetSpec::new("folder") };
            let read = super::super::open(&folder, Split::Test).unwrap();
            let made = Gestures::new(spec.clone(), Split::Test, 10).unwrap();
            assert_eq!(read.len(), 10);
            for i in 0..10 {
                let Recording::Events(stream) = read.load(i).unwrap() else { panic!() };
                let class = &read.classes()[read.label(i) as usize];
                let same = |k: &usize| made.recording(*k).events == stream.events;
                let k = (0..10).find(same).unwrap();
                assert_eq!(class, &made.classes()[made.label(k) as usize]);
            }
        }
    }

    #[test]
    fn impossible_settings_are_refused() {
        let said = |spec: GestureSpec| Gestures::new(spec, Split::Train, 1).err().unwrap().to_string();
        let twice = GestureSpec { classes: vec![Motion::Up, Motion::Up], ..GestureSpec::default() };
        assert!(said(twice).starts_with("data.gestures.classes"));
        let camera = Camera { sensor: [0, 64], ..Camera::default() };
        assert!(said(GestureSpec { camera, ..GestureSpec::default() }).contains("sensor = [0, 64]"));
    }
}
