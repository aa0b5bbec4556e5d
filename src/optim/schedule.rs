//! Learning rates over a run: a linear warm-up, then a cosine down to a floor, or a constant.

use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Half a cosine from the full rate to `min_lr` at the end of the last epoch.
    #[default]
    Cosine,
    /// The full rate to the end.
    Constant,
}

/// When the rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// At every step.
    #[default]
    Step,
    /// At the start of every epoch, as the papers' recipes do.
    Epoch,
}

/// The learning rate as a function of the place in the run; nothing to store, so a resumed run goes on where it was.
///
/// ```
/// use spikemix::optim::{Schedule, Shape, Unit};
/// let s = Schedule { lr: 1.0, min_lr: 0.0, warmup_lr: 0.0, warmup_epochs: 1.0, epochs: 3, shape: Shape::Cosine, unit: Unit::Step };
/// assert_eq!((s.at(0, 1, 2), s.at(1, 0, 2), s.at(2, 0, 2)), (0.5, 1.0, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The full rate.
    pub lr: f64,
    /// The rate at the end of the cosine.
    pub min_lr: f64,
    /// The rate at the start of the warm-up.
    pub warmup_lr: f64,
    /// Length of the warm-up in epochs; the cosine takes the rest.
    pub warmup_epochs: f64,
    /// Length of the run in epochs.
    pub epochs: usize,
    /// What follows the warm-up.
    pub shape: Shape,
    /// When the rate changes.
    pub unit: Unit,
}

impl Schedule {
    /// The rate of step `step` (from 0, of `steps`) of epoch `epoch` (from 0).
    pub fn at(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let within = match self.unit {
            Unit::Step => step as f64 / steps.max(1) as f64,
            Unit::Epoch => 0.0,
        };
        let now = epoch as f64 + within;
        if now < self.warmup_epochs {
            return self.warmup_lr + (self.lr - self.warmup_lr) * now / self.warmup_epochs;
        }
        match self.shape {
            Shape::Constant => self.lr,
            Shape::Cosine => {
                let rest = (self.epochs as f64 - self.warmup_epochs).max(f64::MIN_POSITIVE);
                let done = ((now - self.warmup_epochs) / rest).clamp(0.0, 1.0);
                self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine() {
        let s = Schedule {
            lr: 1e-3,
            min_lr: 1e-5,
            warmup_lr: 1e-5,
            warmup_epochs: 10.0,
            epochs: 110,
            shape: Shape::Cosine,
            unit: Unit::Epoch,
        };
        assert_eq!((s.at(0, 5, 10), s.at(10, 0, 10)), (1e-5, 1e-3));
        assert!((s.at(5, 0, 10) - 5.05e-4).abs() < 1e-12);
        assert!((s.at(60, 9, 10) - 5.05e-4).abs() < 1e-12);
        assert!((s.at(110, 0, 10) - 1e-5).abs() < 1e-12);
        let by_step = Schedule { unit: Unit::Step, ..s };
        assert!(by_step.at(60, 9, 10) < s.at(60, 9, 10) && by_step.at(60, 0, 10) == s.at(60, 0, 10));
        assert_eq!(Schedule { shape: Shape::Constant, ..s }.at(100, 0, 1), 1e-3);
        let rising = (0..100).map(|i| by_step.at(i / 10, i % 10, 10)).collect::<Vec<_>>();
        assert!(rising.is_sorted() && rising[99] < 1e-3);
        // A warm-up as long as the run never divides by zero.
        assert!(Schedule { warmup_epochs: 110.0, ..s }.at(110, 0, 1).is_finite());
    }
}
