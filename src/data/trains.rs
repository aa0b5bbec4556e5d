//! Spike trains as datasets: samples that are times and units, binned into `data.frames` equal steps of `data.slices` slices;
//! `[T, 1, 1, slices * units]`.

use super::{Dataset, Recording};
use crate::Result;
use crate::encode::Encoding;
use crate::events::Sensor;

/// Labelled spike trains in memory.
#[derive(Clone, Debug)]
pub struct Trains {
    /// The dataset's name.
    pub name: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// How many units there are.
    pub units: usize,
    /// The length of all samples, in the unit of the times.
    pub length: f64,
    /// T.
    pub frames: usize,
    /// Slices of a step, whose counts are channels side by side.
    pub slices: usize,
    /// Of each sample the spikes, time and unit.
    pub spikes: Vec<Vec<(f32, u16)>>,
    /// The samples' classes.
    pub labels: Vec<u32>,
    /// What to call a sample.
    pub what: &'static str,
    /// What was wrong with their file.
    pub warnings: Vec<String>,
}

impl Default for Trains {
    fn default() -> Self {
        Trains {
            name: String::new(),
            classes: Vec::new(),
            units: 0,
            length: 0.0,
            frames: 0,
            slices: 1,
            spikes: Vec::new(),
            labels: Vec::new(),
            what: "sample",
            warnings: Vec::new(),
        }
    }
}

impl Trains {
    /// Sample `i` as counts `[frames, slices * units]`; spikes later than the length count in the last slice, those of no unit not.
    pub fn counts(&self, i: usize) -> Vec<f32> {
        let slices = self.frames * self.slices;
        let mut out = vec![0.0; slices * self.units];
        let step = slices as f64 / self.length.max(f64::MIN_POSITIVE);
        for &(t, unit) in &self.spikes[i] {
            let at = (f64::from(t) * step).max(0.0) as usize;
            let at = at.min(slices.saturating_sub(1)) * self.units;
            if let Some(v) = out.get_mut(at..).and_then(|o| o[..self.units].get_mut(usize::from(unit))) {
                *v += 1.0;
            }
        }
        out
    }
}

impl Dataset for Trains {
    fn name(&self) -> &str {
        &self.name
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    /// There is none; one place with a channel for each unit.
    fn sensor(&self) -> Sensor {
        Sensor::new(1, 1)
    }
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
    fn load(&self, i: usize) -> Result<Recording> {
        Ok(Recording::Array(self.counts(i)))
    }
    fn is_events(&self) -> bool {
        false
    }
    fn describe(&self, i: usize) -> String {
        format!("{} {i}", self.what)
    }
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
    fn shape(&self, _: &Encoding) -> [usize; 4] {
        [self.frames, 1, 1, self.slices * self.units]
    }
    fn slices(&self) -> usize {
        self.slices
    }
    fn mirrors(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Augment, Samples};
    use crate::encode::Compress;
    use std::sync::Arc;

    #[test]
    fn spikes_are_counted() {
        let t = Trains {
            units: 3,
            length: 1.0,
            frames: 2,
            spikes: vec![vec![(0.0, 0), (0.49, 2), (0.5, 1), (7.0, 1), (0.1, 9)]],
            labels: vec![4],
            ..Trains::default()
        };
        assert_eq!(t.counts(0), [1., 0., 1., 0., 2., 0.]);
        assert_eq!(t.shape(&Encoding::default()), [2, 1, 1, 3]);
        let sliced = Trains { frames: 1, slices: 2, ..t.clone() };
        assert_eq!((sliced.counts(0), sliced.shape(&Encoding::default())), (t.counts(0), [1, 1, 1, 6]));
        let roots = Encoding { compress: Compress::Sqrt, ..Encoding::default() };
        let samples = Samples::new(Arc::new(t), roots, Augment::default(), 0, 0);
        assert_eq!(samples.sample(0, 0).unwrap().x, [1., 0., 1., 0., 2f32.sqrt(), 0.]);
    }
}
