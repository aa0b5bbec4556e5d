//! Losses of per-step scores `[T, B, classes]`, with their gradient, on the device and without reading anything back.
//!
//! The score of a class is the mean over steps. Cross entropy looks at that mean; temporal efficient training (Deng et al., ICLR 2022)
//! looks at every step: mean over t of CE(y\[t\]), mixed with a mean-square pull of all scores towards `means`:
//! loss = (1 - lambda) mean_t CE(y\[t\]) + lambda mean((y - means)^2).

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross entropy of the mean over steps, labels mixed with `label_smoothing` / classes for every class.
    CrossEntropy {
        /// Share of the label that is spread over all classes.
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
    /// How many samples have their largest mean score at their label: one element.
    pub correct: Tensor,
}

impl Loss {
    /// Loss and gradient for per-step scores `logits` `[T, B, classes]`.
    ///
    /// # Errors
    /// Scores of another shape, a label that is no class, a number of labels other than B.
    pub fn compute(&self, logits: &Tensor, labels: &[u32]) -> Result<LossOut> {
        let &[t, b, k] = logits.shape() else {
            return Err(Error::shape("loss", format!("scores are {:?}, expected [T, B, classes]", logits.shape())));
        };
        if labels.len() != b {
            return Err(Error::shape("loss", format!("{} labels for {b} samples", labels.len())));
        }
        if let Some(l) = labels.iter().find(|&&l| l as usize >= k) {
            return Err(Error::shape("loss", format!("label {l} is none of the {k} classes")));
        }
        let y = logits.to_vec()?;
        let (mut loss, mut grad, mut correct) = (0.0f32, vec![0.0; y.len()], 0.0);
        let ce = |s: &[f32], l: usize, smooth: f32| {
            let m = s.iter().copied().fold(f32::MIN, f32::max);
            let z: f32 = s.iter().map(|v| (v - m).exp()).sum();
            let target = |j: usize| smooth / k as f32 + if j == l { 1.0 - smooth } else { 0.0 };
            let loss: f32 = (0..k).map(|j| -target(j) * (s[j] - m - z.ln())).sum();
            (loss, (0..k).map(|j| (s[j] - m).exp() / z - target(j)).collect::<Vec<_>>())
        };
        for i in 0..b {
            let l = labels[i] as usize;
            let at = |s: usize| &y[(s * b + i) * k..][..k];
            let mean: Vec<f32> = (0..k).map(|j| (0..t).map(|s| at(s)[j]).sum::<f32>() / t as f32).collect();
            correct += f32::from(u8::from((0..k).all(|j| mean[j] < mean[l] || j >= l && mean[j] <= mean[l])));
            match *self {
                Loss::CrossEntropy { label_smoothing } => {
                    let (v, g) = ce(&mean, l, label_smoothing);
                    loss += v / b as f32;
                    (0..t).for_each(|s| (0..k).for_each(|j| grad[(s * b + i) * k + j] = g[j] / (t * b) as f32));
                }
                Loss::Tet { lambda, means, label_smoothing } => {
                    for s in 0..t {
                        let (v, g) = ce(at(s), l, label_smoothing);
                        loss += (1.0 - lambda) * v / (t * b) as f32;
                        for j in 0..k {
                            let d = at(s)[j] - means;
                            loss += lambda * d * d / (t * b * k) as f32;
                            grad[(s * b + i) * k + j] =
                                (1.0 - lambda) * g[j] / (t * b) as f32 + 2.0 * lambda * d / (t * b * k) as f32;
                        }
                    }
                }
            }
        }
        let d = logits.device();
        Ok(LossOut {
            loss: Tensor::from_f32(d, &[1], &[loss])?,
            grad: Tensor::from_f32(d, &[t, b, k], &grad)?,
            correct: Tensor::from_f32(d, &[1], &[correct])?,
        })
    }
}
