//! Batches in which samples are blended in pairs.

use super::Batch;
use crate::rng::Rng;
use ndarray_rand::rand_distr::{Beta, Distribution};

/// Mixup (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018): sample i becomes `s x[i] + (1 - s) x[B - 1 - i]`, and its
/// target the same blend of the two labels. The share s is one number for a batch, drawn from Beta(alpha, alpha), as timm's batch mode
/// does. Of two samples of different lengths the shorter one is zero behind its end, and both become as long as the longer one; spikes
/// become numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixup {
    /// Both parameters of the distribution: below 1 mostly one of the two samples, 1 uniform, above 1 mostly halves.
    pub alpha: f64,
    /// The probability that a batch is mixed.
    pub chance: f64,
    /// Epochs in which it is done, from the first on; all if none.
    pub epochs: Option<usize>,
}

/// What a batch was mixed of.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// The share of each sample itself.
    pub share: f32,
    /// The classes of the samples that the others' shares come from.
    pub labels: Vec<u32>,
}

impl Mixup {
    /// Mixes `batch`, the one with number `number` in epoch `epoch` of the run with stream `rng`.
    pub fn apply(&self, batch: &mut Batch, rng: &Rng, epoch: u64, number: usize) {
        let mut rng = rng.stream("mixup").stream(epoch).stream(number);
        if self.epochs.is_some_and(|n| epoch >= n as u64) || rng.f64() >= self.chance {
            return;
        }
        let Ok(beta) = Beta::new(self.alpha, self.alpha) else { return };
        let share = beta.sample(&mut rng) as f32;
        let [_, b, h, w, c] = batch.shape;
        let sample = (h * w * c).max(1);
        for step in batch.x.chunks_exact_mut(b * sample) {
            let (front, back) = step.split_at_mut(b / 2 * sample);
            for (x, y) in front.chunks_exact_mut(sample).zip(back.rchunks_exact_mut(sample)) {
                for (x, y) in x.iter_mut().zip(y) {
                    (*x, *y) = (share * *x + (1.0 - share) * *y, share * *y + (1.0 - share) * *x);
                }
            }
        }
        batch.lengths = batch.lengths.iter().zip(batch.lengths.iter().rev()).map(|(&a, &b)| a.max(b)).collect();
        batch.is_binary = false;
        batch.mixed = Some(Mixed { share, labels: batch.labels.iter().rev().copied().collect() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of equal numbers, 10 i at step 0 and 10 i + 1 at step 1.
    fn batch(b: usize) -> Batch {
        let x = (0..2 * b * 3).map(|i| (10 * (i / 3 % b) + i / 3 / b) as f32).collect();
        Batch {
            x,
            shape: [2, b, 1, 3, 1],
            labels: (0..b as u32).collect(),
            indices: (0..b).collect(),
            mixed: None,
            lengths: vec![2; b],
            is_binary: true,
        }
    }
    fn mixed(m: Mixup, b: usize, epoch: u64, number: usize) -> Batch {
        let mut batch = batch(b);
        m.apply(&mut batch, &Rng::new(3), epoch, number);
        batch
    }

    #[test]
    fn samples_and_targets_are_blended_alike() {
        let m = Mixup { alpha: 0.5, chance: 1.0, epochs: None };
        for b in [1, 4, 5] {
            let (got, old) = (mixed(m, b, 2, 7), batch(b));
            let Mixed { share: s, labels } = got.mixed.clone().unwrap();
            assert!((0.0..=1.0).contains(&s));
            for (i, v) in got.x.iter().enumerate() {
                let (t, k, at) = (i / 3 / b, i / 3 % b, i % 3);
                let partner = old.x[(t * b + b - 1 - k) * 3 + at];
                assert!((v - (s * old.x[i] + (1.0 - s) * partner)).abs() < 1e-4, "{b} {i}");
            }
            assert_eq!(labels, (0..b as u32).rev().collect::<Vec<_>>());
            let targets = got.targets(b).unwrap();
            for (i, row) in targets.chunks(b).enumerate() {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                let own = if 2 * i + 1 == b { 1.0 } else { s };
                assert!((row[i] - own).abs() < 1e-6);
            }
            assert!(got.targets(b - 1).is_err());
        }
        let hard = batch(3).targets(4).unwrap();
        assert_eq!(hard, [1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0.]);
    }

    #[test]
    fn the_longer_sample_gives_the_length_and_spikes_become_numbers() {
        let m = Mixup { alpha: 0.5, chance: 1.0, epochs: None };
        for (lengths, want) in [([1, 2, 2], [2, 2, 2]), ([1, 2, 1], [1, 2, 1])] {
            let mut b = Batch { lengths: lengths.to_vec(), ..batch(3) };
            for k in (0..3).filter(|&k| lengths[k] == 1) {
                b.x[(3 + k) * 3..][..3].fill(0.0);
            }
            let last = b.x[15..].to_vec();
            m.apply(&mut b, &Rng::new(3), 0, 0);
            let share = b.mixed.as_ref().unwrap().share;
            assert_eq!((&b.lengths[..], b.is_binary), (&want[..], false));
            // At step 1 samples 0 and 2 are mixed of sample 2 alone, or of nothing.
            assert!(last.iter().zip(&b.x[15..]).all(|(a, b)| (a * share - b).abs() < 1e-4));
            assert!(last.iter().zip(&b.x[9..12]).all(|(a, b)| (a * (1.0 - share) - b).abs() < 1e-4));
        }
        let mut b = batch(3);
        Mixup { chance: 0.0, ..m }.apply(&mut b, &Rng::new(3), 0, 0);
        assert_eq!((b.is_binary, b.mixed), (true, None));
    }

    #[test]
    fn epoch_and_number_decide() {
        let m = Mixup { alpha: 0.5, chance: 0.5, epochs: Some(3) };
        let some = (0..400).filter(|&n| mixed(m, 2, 1, n).mixed.is_some()).count();
        assert!((160..240).contains(&some), "{some}");
        assert!((0..50).all(|n| mixed(m, 2, 3, n).mixed.is_none() && mixed(m, 2, 9, n) == batch(2)));
        assert_eq!(mixed(m, 4, 2, 5), mixed(m, 4, 2, 5));
        let always = Mixup { chance: 1.0, ..m };
        assert_ne!(mixed(always, 4, 2, 5), mixed(always, 4, 2, 6));
        assert_ne!(mixed(always, 4, 2, 5), mixed(always, 4, 1, 5));
        let shares: Vec<f32> = (0..400).map(|n| mixed(always, 2, 0, n).mixed.unwrap().share).collect();
        // Beta(1/2, 1/2): mean 1/2, variance 1/8.
        let mean = shares.iter().sum::<f32>() / 400.0;
        let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / 400.0;
        assert!((mean - 0.5).abs() < 0.06 && (variance - 0.125).abs() < 0.02, "{mean} {variance}");
    }
}
