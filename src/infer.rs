//! Inference as steps arrive: a [`Session`] is a network with folded norms whose neurons keep their membranes from chunk to chunk.
//!
//! Nothing in the networks looks ahead or back in time but the neurons, whose whole past is their membrane. So the scores after any
//! number of steps do not depend on how the steps were cut into chunks: with dyadic weights they are equal to the bit, otherwise sums of
//! floats may be added in another order where a kernel, or a layer between two kernels ([`crate::ops::fire`]), chooses its way by the
//! rate of the chunk at hand.
//!
//! Events as they come from a camera, in pieces of any size:
//!
//! ```no_run
//! use spikemix::{checkpoint::Checkpoint, device::Device, encode::StepEncoder, events::{Event, Sensor}};
//! use spikemix::infer::{Origin, Session};
//! let checkpoint = Checkpoint::open("runs/gestures-0/best.safetensors")?;
//! let mut session = Session::of(&checkpoint, &Device::Cpu)?;
//! // Steps of 75 ms, encoded as in training.
//! let mut encoder = StepEncoder::new(&Origin::of(&checkpoint)?.encoding, Sensor::new(64, 64), 75_000)?;
//! let camera = || vec![Event { t: 1000, x: 3, y: 4, p: true }];
//! for _ in 0..16 {
//!     session.push_events(&mut encoder, &camera())?;
//!     println!("{} steps: {:?}", session.steps(), session.scores());
//! }
//! session.finish_events(&mut encoder)?;
//! # Ok::<(), spikemix::Error>(())
//! ```
//!
//! Or frames, of several samples at once: [`Session::push`].

use crate::checkpoint::Checkpoint;
use crate::ctx::{Ctx, Module};
use crate::data;
use crate::device::Device;
use crate::encode::{Encoding, StepEncoder};
use crate::error::{Error, Result};
use crate::events::{Event, Sensor};
use crate::model::{self, Spec};
use crate::nn::fold::fold;
use crate::params::{Build, Params};
use crate::recipe::Recipe;
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::path::Path;

/// A network that is fed step by step.
pub struct Session {
    net: Box<dyn Module>,
    params: Params,
    /// Membranes by layer.
    state: HashMap<String, Tensor>,
    /// `[B, H, W, C]` of the clip at hand.
    frame: Option<Vec<usize>>,
    /// Sums of the logits over the steps so far, `[B, classes]`.
    sums: Vec<f64>,
    steps: usize,
}

impl Session {
    /// A session of `net` with its parameters, as they are: [`fold`] them before where they have norms.
    pub fn new(net: Box<dyn Module>, params: Params) -> Self {
        Session { net, params, state: HashMap::new(), frame: None, sums: Vec::new(), steps: 0 }
    }
    /// A session of the network in a checkpoint, its norms folded.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Session::of`].
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Session::of(&Checkpoint::open(path)?, device)
    }
    /// A session of the network in a checkpoint that has been read, its norms folded.
    ///
    /// # Errors
    /// A spec that is none of this program's, or tensors that do not fit it.
    pub fn of(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let spec: Spec = checkpoint.spec()?;
        let mut params = Params::new(device);
        let net = model::build(&spec, &mut Build::new(&mut params, 0))?;
        checkpoint.load_into(&mut params)?;
        Ok(Session::new(net, fold(&params)?))
    }
    /// Where it computes; what is pushed must live there.
    pub fn device(&self) -> &Device {
        self.params.device()
    }
    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }
    /// Runs the next T steps, frames `[T, B, H, W, C]` on [`Session::device`]; returns the logits of each step, `[T, B, classes]`.
    /// B, H, W and C stay the same until the next [`Session::reset`]. No steps at all are allowed.
    ///
    /// # Errors
    /// Frames of another shape than before, or that the network cannot take; a device's own. Nothing has happened then.
    pub fn push(&mut self, x: &Tensor) -> Result<Tensor> {
        let &[t, b, ..] = x.shape() else {
            return Err(Error::shape("session", format!("expected [T, B, H, W, C], got {:?}", x.shape())));
        };
        let frame = &x.shape()[1..];
        if self.frame.as_deref().is_some_and(|have| have != frame) {
            let have = self.frame.as_deref().unwrap_or_default();
            return Err(Error::shape("session", format!("frames of {frame:?} behind frames of {have:?}; reset begins anew")));
        }
        if t == 0 {
            let classes = self.sums.len().checked_div(b).unwrap_or(0);
            return Tensor::zeros(self.device(), &[0, b, classes]);
        }
        let mut cx = Ctx::stream(&self.params, self.state.clone());
        let logits = self.device().run(|| self.net.forward(x, &mut cx))?;
        let values = logits.to_vec()?;
        let state = cx.into_state();
        self.sums.resize(values.len() / t, 0.0);
        for step in values.chunks_exact(self.sums.len().max(1)) {
            self.sums.iter_mut().zip(step).for_each(|(s, v)| *s += f64::from(*v));
        }
        self.state = state;
        self.frame = Some(frame.to_vec());
        self.steps += t;
        Ok(logits)
    }
    /// Takes the next events of a clip and runs the steps that they complete, T = 0 or more; returns the logits `[T, 1, classes]`.
    ///
    /// # Errors
    /// Those of [`StepEncoder::push`], when the steps before have been run, and of [`Session::push`].
    pub fn push_events(&mut self, encoder: &mut StepEncoder, events: &[Event]) -> Result<Tensor> {
        self.run_complete(encoder, |encoder, sink| encoder.push(events, sink))
    }
    /// Runs the step at hand, when the last events have come; returns the logits `[T, 1, classes]`.
    ///
    /// # Errors
    /// Those of [`Session::push`].
    pub fn finish_events(&mut self, encoder: &mut StepEncoder) -> Result<Tensor> {
        self.run_complete(encoder, StepEncoder::finish)
    }
    fn run_complete(
        &mut self,
        encoder: &mut StepEncoder,
        take: impl FnOnce(&mut StepEncoder, &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
    ) -> Result<Tensor> {
        let (mut frames, [h, w, c]) = (Vec::new(), encoder.shape());
        let taken = take(encoder, &mut |frame| {
            frames.extend_from_slice(frame);
            Ok(())
        });
        let shape = [frames.len() / (h * w * c).max(1), 1, h, w, c];
        let x = match encoder.is_binary() {
            true => Tensor::spikes_from_f32(self.device(), &shape, &frames)?,
            false => Tensor::from_f32(self.device(), &shape, &frames)?,
        };
        let logits = self.push(&x)?;
        taken.map(|()| logits)
    }
    /// The class scores of the clip so far, `[B, classes]`: the mean of the logits over all steps; empty before the first.
    pub fn scores(&self) -> Vec<f32> {
        self.sums.iter().map(|s| (s / self.steps.max(1) as f64) as f32).collect()
    }
    /// Steps since the start or the last [`Session::reset`].
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// Begins a new clip: every neuron at rest, no steps seen. Its frames may have another shape.
    pub fn reset(&mut self) {
        self.state.clear();
        self.frame = None;
        self.sums.clear();
        self.steps = 0;
    }
}

/// Shares of the classes by their scores: softmax, in float64.
pub fn softmax(scores: &[f32]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = scores.iter().map(|v| f64::from(v - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|v| v / sum).collect()
}

/// The class with the highest score, of equals the first, and its share by [`softmax`]; none without classes or where a score is not a
/// number.
pub fn answer(scores: &[f32]) -> Option<(usize, f64)> {
    if scores.iter().any(|v| v.is_nan()) {
        return None;
    }
    let first = (!scores.is_empty()).then_some(0)?;
    let best = (1..scores.len()).fold(first, |b, i| if scores[i] > scores[b] { i } else { b });
    Some((best, softmax(scores)[best]))
}

/// What a network was trained on, as its checkpoint tells: how recordings become its frames, and what its classes are called.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// How recordings were encoded.
    pub encoding: Encoding,
    /// The sensor of all recordings, if it is known.
    pub sensor: Option<Sensor>,
    /// Names of the classes; their numbers where they are not known.
    pub classes: Vec<String>,
}

impl Origin {
    /// Reads it from a checkpoint.
    ///
    /// # Errors
    /// A checkpoint without a recipe, or with one that is none of this program's.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let recipe: Recipe = checkpoint.recipe()?;
        let spec: Spec = checkpoint.spec()?;
        let meta = &checkpoint.meta;
        // Checkpoints of the first versions do not say these themselves.
        let manifest = data::entry(&recipe.data.name).and_then(|e| e.manifest()).ok();
        let size = |[width, height]: [u32; 2]| Sensor::new(width, height);
        let published = || recipe.data.sensor.or(manifest.as_ref()?.sensor).map(size);
        let known = [Some(&meta.classes), manifest.as_ref().map(|m| &m.classes)];
        let named = known.into_iter().flatten().find(|names| names.len() == spec.classes).cloned();
        Ok(Origin {
            encoding: recipe.data.encoding(),
            sensor: meta.sensor.or_else(published),
            classes: named.unwrap_or_else(|| (0..spec.classes).map(|i| i.to_string()).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let spec = Spec { dim: 16, heads: 2, depth: 1, classes: 3, pools: Some([true, false, false, false]), ..Spec::default() };
        let (net, params) = model::fresh(&spec, &Device::Cpu, 1).unwrap();
        Session::new(net, fold(&params).unwrap())
    }
    fn frames(shape: &[usize]) -> Tensor {
        Tensor::from_f32(&Device::Cpu, shape, &vec![1.0; shape.iter().product()]).unwrap()
    }

    #[test]
    fn shapes_are_kept_until_reset() {
        let mut s = session();
        assert_eq!((s.scores(), s.steps()), (vec![], 0));
        assert_eq!(s.push(&frames(&[0, 2, 8, 8, 2])).unwrap().len(), 0);
        assert_eq!(s.push(&frames(&[3, 2, 8, 8, 2])).unwrap().shape(), [3, 2, 3]);
        let (scores, steps) = (s.scores(), s.steps());
        assert_eq!((scores.len(), steps), (6, 3));
        for bad in [&[1, 1, 8, 8, 2][..], &[1, 2, 8, 4, 2], &[1, 2, 8, 8, 3], &[2]] {
            let e = s.push(&frames(bad)).unwrap_err().to_string();
            assert!(e.starts_with("session: "), "{e}");
        }
        // What was refused has left no trace.
        assert_eq!((s.scores(), s.steps()), (scores.clone(), 3));
        s.reset();
        assert!(s.push(&frames(&[1, 1, 8, 8, 3])).unwrap_err().to_string().contains("conv"));
        assert_eq!(s.steps(), 0);
        s.push(&frames(&[3, 2, 8, 8, 2])).unwrap();
        assert_eq!(s.scores(), scores);
    }

    #[test]
    fn answers() {
        assert_eq!(answer(&[]), None);
        assert_eq!(answer(&[1.0, f32::NAN]), None);
        assert_eq!(answer(&[7.0]), Some((0, 1.0)));
        let (class, share) = answer(&[0.0, 3f32.ln(), 3f32.ln() - 100.0, 3f32.ln()]).unwrap();
        assert_eq!(class, 1);
        assert!((share - 3.0 / 7.0).abs() < 1e-6, "{share}");
        assert!((softmax(&[500.0, -500.0])[0] - 1.0).abs() < 1e-12);
    }
}
