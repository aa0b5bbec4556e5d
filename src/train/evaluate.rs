//! Accuracy, loss and counts of a model on samples it is not trained on.

use crate::counts::Counts;
use crate::ctx::{Ctx, Module};
use crate::data::{Batch, Loader, LoaderOptions, NO_CLASS, Samples};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loss::{Loss, scored};
use crate::padding::Padding;
use crate::params::Params;
use crate::tensor::Tensor;
use std::sync::Arc;

/// How a model did.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Samples seen.
    pub samples: usize,
    /// Mean loss of a sample (per step: of a step that has a class).
    pub loss: f64,
    /// Share of the samples whose largest mean score is their class's (of equals the first); with a loss per step, of the steps that
    /// have a class.
    pub accuracy: f64,
    /// `confusion[label][answer]`: samples, or steps.
    pub confusion: Vec<Vec<u64>>,
    /// Spikes and operations, where they were asked for.
    pub counts: Option<Counts>,
}

/// A batch on a device: `[T, B, H, W, C]`, packed spikes where it is binary, and which of its steps are real (none where all are).
///
/// # Errors
/// A device's own.
pub fn input(b: &Batch, device: &Device) -> Result<(Tensor, Option<Padding>)> {
    let x = match b.is_binary {
        true => Tensor::spikes_from_f32(device, &b.shape, &b.x)?,
        false => Tensor::from_f32(device, &b.shape, &b.x)?,
    };
    Ok((x, Padding::new(device, b.shape[0], &b.lengths)?))
}

/// Runs `model` over all of `samples` with running statistics, `batch` at a time; one by one where operations are counted, for what closed
/// gates leave out depends on who else is in the batch. `tick` is told after each batch how many samples are done, and stops the run by
/// an error.
///
/// # Errors
/// A sample that cannot be read, a device's own, or that of `tick`.
pub fn evaluate(
    model: &dyn Module,
    params: &Params,
    samples: &Arc<Samples>,
    batch: usize,
    loss: &Loss,
    mut counts: Option<Counts>,
    tick: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Evaluation> {
    let batch = if counts.as_ref().is_some_and(|c| c.keep.operations) { 1 } else { batch };
    let loader = Loader::new(samples.clone(), LoaderOptions { per_step: loss.per_step(), ..super::loading(batch) })?;
    let classes = samples.dataset().classes().len();
    let mut confusion = vec![vec![0; classes]; classes];
    let (mut done, mut labels, mut sum) = (0, 0, 0.0);
    for b in loader.epoch(0, 0) {
        let b = b?;
        let (x, padding) = input(&b, params.device())?;
        let mut cx = Ctx::infer(params).with_padding(padding.clone());
        if let Some(c) = counts.take() {
            cx = cx.with_counts(c);
        }
        let logits = params.device().run(|| model.forward(&x, &mut cx))?;
        counts = cx.finish().1;
        if let Some(c) = &mut counts {
            c.samples += b.indices.len() as u64;
        }
        let size = scored(&b.labels);
        sum += f64::from(loss.compute(&logits, &b.labels, padding.as_ref())?.loss.item()?) * size as f64;
        let answers = match loss.per_step() {
            true => answers(&logits.reshape(&[1, b.labels.len(), logits.channels()])?, None)?,
            false => answers(&logits, padding.as_ref())?,
        };
        for (answer, &label) in answers.into_iter().zip(&b.labels).filter(|(_, l)| **l != NO_CLASS) {
            let row = confusion.get_mut(label as usize).and_then(|r: &mut Vec<u64>| r.get_mut(answer));
            *row.ok_or_else(|| Error::shape("evaluate", format!("{} scores for {classes} classes", logits.channels())))? += 1;
        }
        done += b.indices.len();
        labels += size;
        tick(done)?;
    }
    let right: u64 = (0..classes).map(|i| confusion[i][i]).sum();
    let n = labels.max(1) as f64;
    Ok(Evaluation { samples: done, loss: sum / n, accuracy: right as f64 / n, confusion, counts })
}

/// The class with the largest mean over its real steps (all where there is no padding), of equals the first, for every sample of
/// `[T, B, classes]`.
///
/// # Errors
/// Scores of another shape.
pub fn answers(logits: &Tensor, padding: Option<&Padding>) -> Result<Vec<usize>> {
    let &[t, b, k] = logits.shape() else {
        return Err(Error::shape("evaluate", format!("scores are {:?}, expected [T, B, classes]", logits.shape())));
    };
    let y = logits.to_vec()?;
    let length = |i: usize| padding.and_then(|p| p.lengths().get(i).copied()).unwrap_or(t);
    // Of a sum, which is as large where the mean is.
    let mean = |i: usize, j: usize| (0..length(i)).map(|s| f64::from(y[(s * b + i) * k + j])).sum::<f64>();
    let best = |i| (1..k).fold((0, mean(i, 0)), |best, j| if mean(i, j) > best.1 { (j, mean(i, j)) } else { best }).0;
    Ok((0..b).map(best).collect())
}
