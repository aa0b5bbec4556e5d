//! Losses of per-step scores `[T, B, classes]`, with their gradient, on the device and without reading anything back.
//!
//! The score of a class is the mean over steps. Cross entropy looks at that mean; temporal efficient training (Deng et al., ICLR 2022)
//! looks at every step: mean over t of CE(y\[t\]), mixed with a mean-square pull of all scores towards `means`:
//! loss = (1 - lambda) mean_t CE(y\[t\]) + lambda mean((y - means)^2).

use crate::data::NO_CLASS;
use crate::device::{Device, Storage};
use crate::error::{Error, Result};
use crate::kernel::elementwise::{Add, AddU};
use crate::kernel::loss::{CrossEntropy, CrossEntropyU, MeanSquare, MeanSquareU, Sum, SumU};
use crate::kernel::reduce::{Mean, MeanBackward, MeanBits, MeanBitsU, MeanU};
use crate::tensor::{Repr, Tensor, launch, launch1};

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross entropy of the mean over steps, labels mixed with `label_smoothing` / classes for every class.
    CrossEntropy {
        /// Share of the label that is spread over all classes.
        label_smoothing: f32,
    },
    /// Cross entropy of every step with a label of its own, the mean over all steps that have one.
    CrossEntropyPerStep {
        /// As in cross entropy.
        label_smoothing: f32,
    },
    /// Temporal efficient training.
    Tet {
        /// Share of the mean-square pull.
        lambda: f32,
        /// What the scores are pulled to.
        means: f32,
        /// As in cross entropy, at every step.
        label_smoothing: f32,
    },
}

/// What [`Loss::compute`] returns, all on the device.
pub struct LossOut {
    /// Mean loss of a sample: one element.
    pub loss: Tensor,
    /// Gradient of that mean by the scores, `[T, B, classes]`.
    pub grad: Tensor,
    /// How many samples have their largest mean score at their label (per step: how many steps their largest score): one element.
    pub correct: Tensor,
}

impl Loss {
    /// Whether labels are those of steps, `[T, B]` with [`NO_CLASS`] where a step has none, instead of those of samples, `[B]`.
    pub fn per_step(&self) -> bool {
        matches!(self, Loss::CrossEntropyPerStep { .. })
    }
    /// Loss and gradient for per-step scores `logits` `[T, B, classes]` and `labels` `[B]`, or `[T, B]` if [`Loss::per_step`].
    ///
    /// # Errors
    /// Scores of another shape, a label that is no class, labels of another number.
    pub fn compute(&self, logits: &Tensor, labels: &[u32]) -> Result<LossOut> {
        let &[t, b, k] = logits.shape() else {
            return Err(Error::shape("loss", format!("scores are {:?}, expected [T, B, classes]", logits.shape())));
        };
        let per_step = self.per_step();
        if labels.len() != if per_step { t * b } else { b } {
            let steps = if per_step { format!(" of {t} steps") } else { String::new() };
            return Err(Error::shape("loss", format!("{} labels for {b} samples{steps}", labels.len())));
        }
        if let Some(l) = labels.iter().find(|&&l| l as usize >= k && !(per_step && l == NO_CLASS)) {
            return Err(Error::shape("loss", format!("label {l} is none of the {k} classes")));
        }
        let d = logits.device();
        if let Loss::CrossEntropyPerStep { label_smoothing } = *self {
            let (loss, grad, right) = cross_entropy(&logits.reshape(&[t * b, k])?, labels, label_smoothing, 1.0)?;
            return Ok(LossOut { loss, grad: grad.reshape(&[t, b, k])?, correct: count(d, right, t * b)? });
        }
        let u = MeanU { groups: 1, n: t as u32, c: (b * k) as u32, scale: 1.0 / t.max(1) as f32 };
        let mean = launch1(&Mean, &u, &[logits], &[b, k], Repr::F32)?;
        let (lambda, means, label_smoothing) = match *self {
            Loss::Tet { lambda, means, label_smoothing } => (lambda, means, label_smoothing),
            Loss::CrossEntropy { label_smoothing } | Loss::CrossEntropyPerStep { label_smoothing } => {
                let (loss, grad, right) = cross_entropy(&mean, labels, label_smoothing, 1.0)?;
                let grad = launch1(&MeanBackward, &u, &[&grad], &[t, b, k], Repr::F32)?;
                return Ok(LossOut { loss, grad, correct: count(d, right, b)? });
            }
        };
        let (_, _, right) = cross_entropy(&mean, labels, 0.0, 0.0)?;
        let every: Vec<u32> = (0..t).flat_map(|_| labels).copied().collect();
        let (ce, ce_grad, _) = cross_entropy(&logits.reshape(&[t * b, k])?, &every, label_smoothing, 1.0 - lambda)?;
        let n = logits.len();
        let u = MeanSquareU { n: n as u32, goal: means, scale: lambda / n.max(1) as f32 };
        let shapes: &[(&[usize], Repr)] = &[(&[n], Repr::F32), (&[t, b, k], Repr::F32)];
        let pull = launch(d, &MeanSquare, &u, &[logits], shapes)?;
        let pull_loss = launch1(&Sum, &SumU { n: n as u32, scale: u.scale }, &[&pull[0]], &[1], Repr::F32)?;
        Ok(LossOut {
            loss: add(&ce, &pull_loss, &[1])?,
            grad: add(&ce_grad, &pull[1], &[t, b, k])?,
            correct: count(d, right, b)?,
        })
    }
}

fn add(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    launch1(&Add, &AddU { n: a.len() as u32 }, &[a, b], shape, Repr::F32)
}

/// Weighted mean loss over rows that have a class, its gradient, and a word for each row that is 1 where the answer is right.
fn cross_entropy(y: &Tensor, labels: &[u32], smoothing: f32, weight: f32) -> Result<(Tensor, Tensor, Storage)> {
    let (d, rows, classes) = (y.device(), y.rows(), y.channels());
    let scale = weight / scored(labels).max(1) as f32;
    let u = CrossEntropyU { rows: rows as u32, classes: classes as u32, smoothing, scale };
    let outputs = d.launch(&CrossEntropy, &u, &[y.storage(), &d.upload(labels)?], &[rows, rows * classes, rows])?;
    let Ok([loss, grad, right]) = <[Storage; 3]>::try_from(outputs) else {
        return Err(Error::shape("loss", "the kernel has three outputs"));
    };
    let loss = Tensor::new(d, &[rows], Repr::F32, loss)?;
    let loss = launch1(&Sum, &SumU { n: rows as u32, scale }, &[&loss], &[1], Repr::F32)?;
    Ok((loss, Tensor::new(d, y.shape(), Repr::F32, grad)?, right))
}

/// How many labels are of a class.
pub fn scored(labels: &[u32]) -> usize {
    labels.iter().filter(|l| **l != NO_CLASS).count()
}

/// The number of words that are 1: read as spikes of one channel, their sum over the rows.
fn count(d: &Device, right: Storage, b: usize) -> Result<Tensor> {
    let right = Tensor::new(d, &[b, 1], Repr::Bits { planes: 1 }, right)?;
    let u = MeanBitsU { groups: 1, n: b as u32, c: 1, planes: 1, scale: 1.0 };
    launch1(&MeanBits, &u, &[&right], &[1], Repr::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Scores in [-1, 1) and labels of `[t, b, k]`.
    fn data(t: usize, b: usize, k: usize) -> (Vec<f32>, Vec<u32>) {
        let mut r = Rng::new(5);
        ((0..t * b * k).map(|_| r.uniform(-1.0, 1.0) as f32).collect(), (0..b).map(|_| r.below(k) as u32).collect())
    }
    fn compute(loss: Loss, shape: [usize; 3], y: &[f32], labels: &[u32]) -> LossOut {
        loss.compute(&Tensor::from_f32(&Device::Cpu, &shape, y).unwrap(), labels).unwrap()
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let shape = [3, 4, 5];
        let (y, labels) = data(3, 4, 5);
        let steps: Vec<u32> = (0..12).map(|i| if i % 4 == 1 { NO_CLASS } else { i % 5 }).collect();
        for loss in [
            Loss::CrossEntropyPerStep { label_smoothing: 0.1 },
            Loss::CrossEntropy { label_smoothing: 0.0 },
            Loss::CrossEntropy { label_smoothing: 0.1 },
            Loss::Tet { lambda: 0.05, means: 1.0, label_smoothing: 0.1 },
        ] {
            let labels = if loss.per_step() { &steps } else { &labels };
            let grad = compute(loss, shape, &y, labels).grad.to_vec().unwrap();
            for i in 0..y.len() {
                let at = |d: f32| {
                    let mut y = y.clone();
                    y[i] += d;
                    compute(loss, shape, &y, labels).loss.item().unwrap()
                };
                let slope = (at(0.02) - at(-0.02)) / 0.04;
                assert!((slope - grad[i]).abs() < 2e-4, "{loss:?} [{i}]: {slope} and {}", grad[i]);
            }
        }
    }

    #[test]
    fn right_answers_are_those_of_the_mean_score() {
        // Sample 0 is right at both steps, sample 1 only in the mean, sample 2 wrong.
        let y = [2.0, 1.0, 0.0, 1.0, 1.0, 0.0, /* step 2 */ 1.0, 0.0, 9.0, 0.0, 3.0, 0.0];
        for loss in [Loss::CrossEntropy { label_smoothing: 0.1 }, Loss::Tet { lambda: 0.0, means: 0.0, label_smoothing: 0.0 }] {
            assert_eq!(compute(loss, [2, 3, 2], &y, &[0, 0, 1]).correct.item().unwrap(), 2.0);
        }
        let per_step = Loss::CrossEntropyPerStep { label_smoothing: 0.0 };
        let labels = [0, 1, NO_CLASS, 1, 1, NO_CLASS];
        assert_eq!(compute(per_step, [2, 3, 2], &y, &labels).correct.item().unwrap(), 2.0);
        // Steps without a class count for nothing, whatever their scores.
        let mut other = y;
        (other[4], other[10]) = (-7.0, 70.0);
        let loss = |y: &[f32]| compute(per_step, [2, 3, 2], y, &labels).loss.item().unwrap();
        assert_eq!(loss(&y), loss(&other));
    }

    #[test]
    fn wrong_input_is_refused() {
        let loss = Loss::CrossEntropy { label_smoothing: 0.0 };
        let y = Tensor::zeros(&Device::Cpu, &[1, 2, 3]).unwrap();
        let said = |labels: &[u32]| loss.compute(&y, labels).err().unwrap().to_string();
        assert_eq!(said(&[0]), "loss: 1 labels for 2 samples");
        assert_eq!(said(&[0, 3]), "loss: label 3 is none of the 3 classes");
        assert_eq!(said(&[0, NO_CLASS]), "loss: label 4294967295 is none of the 3 classes");
        let per_step = Loss::CrossEntropyPerStep { label_smoothing: 0.0 };
        assert_eq!(per_step.compute(&y, &[0]).err().unwrap().to_string(), "loss: 1 labels for 2 samples of 1 steps");
        assert!(loss.compute(&y.reshape(&[2, 3]).unwrap(), &[0, 0]).is_err());
    }
}
