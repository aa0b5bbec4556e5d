//! Losses of per-step scores `[T, B, classes]`, with their gradient, on the device and without reading anything back.
//!
//! The score of a class is the mean over steps. Cross entropy looks at that mean; temporal efficient training (Deng et al., ICLR 2022)
//! looks at every step: mean over t of CE(y\[t\]), mixed with a mean-square pull of all scores towards `means`:
//! loss = (1 - lambda) mean_t CE(y\[t\]) + lambda mean((y - means)^2).
//!
//! In a padded batch every mean over steps is one over a sample's real steps, so that its loss is the one it has by itself. Where every
//! step has a label of its own, all labelled steps of a batch weigh alike.

use crate::data::NO_CLASS;
use crate::device::{Device, Storage};
use crate::error::{Error, Result};
use crate::kernel::elementwise::{Add, AddU};
use crate::kernel::loss::{CrossEntropy, CrossEntropyU, MeanSquare, MeanSquareU, Sum, SumU};
use crate::kernel::reduce::{Mean, MeanBackward, MeanBits, MeanBitsU, MeanU};
use crate::padding::{Padding, scale_rows};
use crate::tensor::{Repr, Tensor, launch, launch1};

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross entropy of the mean over steps, targets mixed with `label_smoothing` / classes for every class.
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
    /// Loss and gradient for per-step scores `logits` `[T, B, classes]` and `labels` `[B]`, or `[T, B]` if [`Loss::per_step`]; `padding` says
    /// which steps are real (all if none).
    ///
    /// # Errors
    /// Scores of another shape, a label that is no class, labels of another number, a padding of another batch.
    pub fn compute(&self, logits: &Tensor, labels: &[u32], padding: Option<&Padding>) -> Result<LossOut> {
        let [t, b, k] = sizes(logits)?;
        let per_step = self.per_step();
        if labels.len() != if per_step { t * b } else { b } {
            let steps = if per_step { format!(" of {t} steps") } else { String::new() };
            return Err(Error::shape("loss", format!("{} labels for {b} samples{steps}", labels.len())));
        }
        let mut targets = vec![0.0; labels.len() * k];
        for (row, &label) in targets.chunks_mut(k.max(1)).zip(labels).filter(|(_, l)| !per_step || **l != NO_CLASS) {
            let place = row.get_mut(label as usize);
            *place.ok_or_else(|| Error::shape("loss", format!("label {label} is none of the {k} classes")))? = 1.0;
        }
        self.compute_soft(logits, targets, padding)
    }
    /// As [`Loss::compute`] for `targets` `[B, classes]`, probabilities of the classes, or `[T, B, classes]` if [`Loss::per_step`], zeros where
    /// there is no class; label smoothing is put on top. The answer to a sample (a step) is correct if it is the class with the largest
    /// target.
    ///
    /// # Errors
    /// Scores or targets of another shape, a padding of another batch.
    pub fn compute_soft(&self, logits: &Tensor, mut targets: Vec<f32>, padding: Option<&Padding>) -> Result<LossOut> {
        let [t, b, k] = sizes(logits)?;
        let per_step = self.per_step();
        if targets.len() != if per_step { t * b * k } else { b * k } {
            let steps = if per_step { format!(" of {t} steps") } else { String::new() };
            return Err(Error::shape("loss", format!("{} targets for {b} samples{steps} of {k} classes", targets.len())));
        }
        if padding.is_some_and(|p| !p.fits(logits)) {
            return Err(Error::shape("loss", format!("scores {:?} of another batch than the padding", logits.shape())));
        }
        let (Loss::CrossEntropy { label_smoothing }
        | Loss::CrossEntropyPerStep { label_smoothing }
        | Loss::Tet { label_smoothing, .. }) = *self;
        let mut scored = 0;
        for (i, row) in targets.chunks_mut(k.max(1)).enumerate() {
            if per_step && padding.is_some_and(|p| !p.is_real(i / b, i % b)) {
                row.fill(0.0);
            }
            if row.iter().any(|w| *w != 0.0) {
                row.iter_mut().for_each(|w| *w = (1.0 - label_smoothing) * *w + label_smoothing / k as f32);
                scored += 1;
            }
        }
        let d = logits.device();
        let targets = Tensor::from_f32(d, &[targets.len() / k.max(1), k], &targets)?;
        let steps = logits.reshape(&[t * b, k])?;
        if per_step {
            let (loss, grad, right) = cross_entropy(&steps, &targets, 1.0 / scored.max(1) as f32, None)?;
            return Ok(LossOut { loss, grad: grad.reshape(&[t, b, k])?, correct: count(d, right, t * b)? });
        }
        let u = MeanU { groups: 1, n: t as u32, c: (b * k) as u32, scale: 1.0 / t.max(1) as f32 };
        let sum = MeanU { scale: 1.0, ..u };
        let mean = match padding {
            None => launch1(&Mean, &u, &[logits], &[b, k], Repr::F32)?,
            Some(p) => scale_rows(&launch1(&Mean, &sum, &[&scale_rows(logits, p.mask())?], &[b, k], Repr::F32)?, p.inverse())?,
        };
        let Loss::Tet { lambda, means, .. } = *self else {
            let (loss, grad, right) = cross_entropy(&mean, &targets, 1.0 / b.max(1) as f32, None)?;
            let back = |u: &MeanU, grad: &Tensor| launch1(&MeanBackward, u, &[grad], &[t, b, k], Repr::F32);
            let grad = match padding {
                None => back(&u, &grad)?,
                Some(p) => scale_rows(&back(&sum, &scale_rows(&grad, p.inverse())?)?, p.mask())?,
            };
            return Ok(LossOut { loss, grad, correct: count(d, right, b)? });
        };
        let (_, _, right) = cross_entropy(&mean, &targets, 0.0, None)?;
        // In a mean over all T B steps, a real one of a sample of n steps has the weight T / n.
        let weight = padding.map(|p| weights(p, t)).transpose()?;
        let (ce, ce_grad, _) = cross_entropy(&steps, &targets, (1.0 - lambda) / (t * b).max(1) as f32, weight.as_ref())?;
        let n = logits.len();
        let u = MeanSquareU { n: n as u32, goal: means, scale: lambda / n.max(1) as f32 };
        let shapes: &[(&[usize], Repr)] = &[(&[n], Repr::F32), (&[t, b, k], Repr::F32)];
        let pull = launch(d, &MeanSquare, &u, &[logits], shapes)?;
        let pull = pull.iter().map(|x| weighted(x, weight.as_ref())).collect::<Result<Vec<_>>>()?;
        let pull_loss = launch1(&Sum, &SumU { n: n as u32, scale: u.scale }, &[&pull[0]], &[1], Repr::F32)?;
        Ok(LossOut {
            loss: add(&ce, &pull_loss, &[1])?,
            grad: add(&ce_grad, &pull[1], &[t, b, k])?,
            correct: count(d, right, b)?,
        })
    }
}

/// `[T, B]`: T over a sample's length at its real steps, else 0.
fn weights(p: &Padding, t: usize) -> Result<Tensor> {
    let of = |step: usize| p.lengths().iter().map(move |&n| if step < n { t as f32 / n as f32 } else { 0.0 });
    let w: Vec<f32> = (0..t).flat_map(of).collect();
    Tensor::from_f32(p.mask().device(), p.mask().shape(), &w)
}

fn weighted(x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
    weight.map_or_else(|| Ok(x.clone()), |w| scale_rows(x, w))
}

fn add(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    launch1(&Add, &AddU { n: a.len() as u32 }, &[a, b], shape, Repr::F32)
}

/// T, B and classes of scores.
fn sizes(logits: &Tensor) -> Result<[usize; 3]> {
    let shape = logits.shape();
    shape.try_into().map_err(|_| Error::shape("loss", format!("scores are {shape:?}, expected [T, B, classes]")))
}

/// `scale` times the sum of the rows' losses, its gradient, and a word for each row that is 1 where the answer is right. Rows go through
/// the targets in turn; `rows_weight` weighs them against each other.
fn cross_entropy(y: &Tensor, targets: &Tensor, scale: f32, rows_weight: Option<&Tensor>) -> Result<(Tensor, Tensor, Storage)> {
    let (d, rows, classes) = (y.device(), y.rows(), y.channels());
    let u = CrossEntropyU { rows: rows as u32, classes: classes as u32, targets: targets.rows() as u32, scale };
    let outputs = d.launch(&CrossEntropy, &u, &[y.storage(), targets.storage()], &[rows, rows * classes, rows])?;
    let Ok([loss, grad, right]) = <[Storage; 3]>::try_from(outputs) else {
        return Err(Error::shape("loss", "the kernel has three outputs"));
    };
    let loss = weighted(&Tensor::new(d, &[rows], Repr::F32, loss)?, rows_weight)?;
    let grad = weighted(&Tensor::new(d, y.shape(), Repr::F32, grad)?, rows_weight)?;
    let loss = launch1(&Sum, &SumU { n: rows as u32, scale }, &[&loss], &[1], Repr::F32)?;
    Ok((loss, grad, right))
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
        loss.compute(&Tensor::from_f32(&Device::Cpu, &shape, y).unwrap(), labels, None).unwrap()
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
    fn soft_targets_mix_the_losses_of_their_labels() {
        let (y, labels) = data(3, 4, 5);
        let (shape, others) = ([3, 4, 5], [4, 3, 2, 1]);
        for loss in [Loss::CrossEntropy { label_smoothing: 0.1 }, Loss::Tet { lambda: 0.05, means: 1.0, label_smoothing: 0.1 }] {
            let mut targets = vec![0.0; 20];
            for b in 0..4 {
                targets[b * 5 + labels[b] as usize] += 0.7;
                targets[b * 5 + others[b] as usize] += 0.3;
            }
            let y = Tensor::from_f32(&Device::Cpu, &shape, &y).unwrap();
            for padding in [None, Padding::new(&Device::Cpu, 3, &[3, 1, 2, 3]).unwrap()] {
                let p = padding.as_ref();
                let soft = loss.compute_soft(&y, targets.clone(), p).unwrap();
                let [a, b] = [&labels[..], &others].map(|l| loss.compute(&y, l, p).unwrap());
                let mixed = |a: f32, b: f32| 0.7 * a + 0.3 * b;
                assert!((soft.loss.item().unwrap() - mixed(a.loss.item().unwrap(), b.loss.item().unwrap())).abs() < 1e-6);
                let grads = [soft, a, b].map(|o| o.grad.to_vec().unwrap());
                assert!((0..60).all(|i| (grads[0][i] - mixed(grads[1][i], grads[2][i])).abs() < 1e-6));
                // Step 1 of sample 1.
                assert!(grads[0][25..30].iter().all(|g| (*g == 0.0) == p.is_some()));
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
        let said_of = |loss: Loss, labels: &[u32]| loss.compute(&y, labels, None).err().unwrap().to_string();
        let said = |labels: &[u32]| said_of(loss, labels);
        assert_eq!(said(&[0]), "loss: 1 labels for 2 samples");
        assert_eq!(said(&[0, 3]), "loss: label 3 is none of the 3 classes");
        assert!(loss.compute(&y.reshape(&[2, 3]).unwrap(), &[0, 0], None).is_err());
        let said = loss.compute_soft(&y, vec![1.0; 5], None).err().unwrap().to_string();
        assert_eq!(said, "loss: 5 targets for 2 samples of 3 classes");
        assert_eq!(said_of(loss, &[0, NO_CLASS]), "loss: label 4294967295 is none of the 3 classes");
        let per_step = Loss::CrossEntropyPerStep { label_smoothing: 0.0 };
        assert_eq!(said_of(per_step, &[0]), "loss: 1 labels for 2 samples of 1 steps");
    }
}
