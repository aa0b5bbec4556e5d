//! Splits of labelled samples: stratified (each class keeps its share) and seeded.

use super::{Dataset, Recording, Source};
use crate::Result;
use crate::encode::Encoding;
use crate::events::Sensor;
use crate::rng::Rng;
use std::sync::Arc;

/// For each class in order of its label, its samples in random order.
fn shuffled(labels: &[u32], rng: &Rng) -> Vec<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |&m| m as usize + 1);
    let mut by_class = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        by_class[label as usize].push(i);
    }
    for (class, samples) in by_class.iter_mut().enumerate() {
        rng.stream(class).shuffle(samples);
    }
    by_class
}

/// Splits samples in two: those that stay and those taken out, `fraction` of each class (rounded; of a class of two and more
/// at least one goes and one stays). Both in ascending order.
pub fn stratified(labels: &[u32], fraction: f64, rng: &Rng) -> (Vec<usize>, Vec<usize>) {
    let (mut stay, mut taken) = (Vec::new(), Vec::new());
    for samples in shuffled(labels, rng) {
        let n = samples.len();
        let mut k = (n as f64 * fraction).round() as usize;
        if n > 1 && fraction > 0.0 {
            k = k.clamp(1, n - 1);
        }
        let (a, b) = samples.split_at(k.min(n));
        taken.extend(a);
        stay.extend(b);
    }
    stay.sort_unstable();
    taken.sort_unstable();
    (stay, taken)
}

/// At most `n` samples, as evenly over the classes as they allow, in ascending order.
pub fn limited(labels: &[u32], n: usize, rng: &Rng) -> Vec<usize> {
    let by_class = shuffled(labels, rng);
    let longest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    let rounds = (0..longest).flat_map(|k| by_class.iter().filter_map(move |c| c.get(k)));
    let mut chosen: Vec<usize> = rounds.take(n).copied().collect();
    chosen.sort_unstable();
    chosen
}

/// Some samples of a dataset.
pub struct Subset {
    inner: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples of `inner` with these indices.
    ///
    /// # Panics
    /// If an index is beyond them.
    pub fn new(inner: Arc<dyn Dataset>, indices: Vec<usize>) -> Self {
        assert!(indices.iter().all(|&i| i < inner.len()), "subset of samples that do not exist");
        Subset { inner, indices }
    }
    /// Their indices in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }
    fn sensor(&self) -> Sensor {
        self.inner.sensor()
    }
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.inner.label(self.indices[i])
    }
    fn step_labels(&self, i: usize) -> Option<Vec<u32>> {
        self.inner.step_labels(self.indices[i])
    }
    fn load(&self, i: usize) -> Result<Recording> {
        self.inner.load(self.indices[i])
    }
    fn describe(&self, i: usize) -> String {
        self.inner.describe(self.indices[i])
    }
    fn source(&self, i: usize) -> Option<Source> {
        self.inner.source(self.indices[i])
    }
    fn shape(&self, encoding: &Encoding) -> [usize; 4] {
        self.inner.shape(encoding)
    }
    fn is_events(&self) -> bool {
        self.inner.is_events()
    }
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }
    fn faults(&self) -> Vec<[String; 2]> {
        self.inner.faults()
    }
    fn slices(&self) -> usize {
        self.inner.slices()
    }
    fn mirrors(&self) -> bool {
        self.inner.mirrors()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_keeps_its_share() {
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i % 10 == 0)).collect();
        let (stay, taken) = stratified(&labels, 0.2, &Rng::new(1));
        assert_eq!((stay.len(), taken.len()), (80, 20));
        assert_eq!(taken.iter().filter(|&&i| labels[i] == 1).count(), 2);
        let mut all = [stay.clone(), taken.clone()].concat();
        all.sort();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(stratified(&labels, 0.2, &Rng::new(1)).1, taken);
        assert_ne!(stratified(&labels, 0.2, &Rng::new(2)).1, taken);
        assert_eq!(stratified(&[0, 0, 1], 0.01, &Rng::new(0)).1.len(), 1);
        assert_eq!(stratified(&labels, 0.0, &Rng::new(1)).1, Vec::<usize>::new());
        assert_eq!(stratified(&[], 0.5, &Rng::new(1)), (vec![], vec![]));
    }

    #[test]
    fn limits_are_even() {
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i % 10 == 0)).collect();
        let some = limited(&labels, 10, &Rng::new(3));
        assert_eq!(some.iter().filter(|&&i| labels[i] == 1).count(), 5);
        assert_eq!(limited(&labels, 1000, &Rng::new(3)).len(), 100);
    }
}
