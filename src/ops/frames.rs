//! A 3x3 convolution of event frames, a batch norm and neurons in one, for training: see [`crate::kernel::frames`].

use super::conv::{Conv3x3, convolution, weight_gradient};
use super::none;
use super::norm::Stats;
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::device::Storage;
use crate::error::{Error, Result};
use crate::kernel::conv::ConvU;
use crate::kernel::fire::{FireCounts, FireU};
use crate::kernel::frames::{self, Backward, BackwardU, Moments, MomentsU, Sums, Weight, suits};
use crate::kernel::norm::{AffineU, BackwardParams};
use crate::kernel::product::float_density;
use crate::neuron::Neuron;
use crate::tensor::{Repr, Tensor, launch, launch_onto, launch1};

/// Share of nonzero values from which frames count as images: see [`crate::kernel::frames`] on what moments lose. Below it no single channel
/// of four can be full.
const IMAGE: f64 = 0.2;

/// x `[T, B, H, W, Ci]` (event counts) -> spikes `[T, B, H, W, Co]` of neurons behind Conv3x3 and a batch norm with the batch's statistics.
///
/// Inputs: x, w `[3, 3, Ci, Co]`, gamma, beta `[Co]`. Outputs: spikes; the batch's mean and (biased) variance `[Co]`. They are those of
/// [`super::conv::Conv3x3`] and [`super::neuron::NeuronLayer`] but for rounding, and so are the gradients; x has none.
pub struct FrameNeurons {
    /// The neuron, whose tau is not learned.
    pub neuron: Neuron,
    /// Added to the variance.
    pub eps: f32,
}

/// Whether networks go by [`FrameNeurons`] for x with w: event frames of few channels, on the CPU. On a GPU the host does not know how much
/// of x is zero, and on a software adapter, the only one measured, a step took 2 % longer this way.
pub fn pays(x: &Tensor, w: &Tensor) -> bool {
    let Ok(u) = convolution("frame_neurons", x, w) else { return false };
    match x.storage() {
        Storage::Cpu(b) if !x.is_bits() && suits(&u) => float_density(bytemuck::cast_slice(b.words())) < IMAGE,
        _ => false,
    }
}

fn moments_uniform(u: &ConvU, eps: f32) -> MomentsU {
    MomentsU { rows: u.images * u.h * u.w, k: 9 * u.cin, c: u.cout, eps }
}

impl Op for FrameNeurons {
    fn name(&self) -> &'static str {
        "frame_neurons"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[x, w, gamma, beta] = x else { return Err(Error::shape(self.name(), "four inputs expected")) };
        let u = convolution(self.name(), x, w)?;
        if self.neuron.neuron.learns_tau() {
            return Err(Error::shape(self.name(), "not for neurons that learn tau"));
        }
        if x.is_bits() || !suits(&u) {
            return Err(Error::shape(self.name(), format!("not for input {:?} and weight {:?}", x.shape(), w.shape())));
        }
        let m = moments_uniform(&u, self.eps);
        let (k, c) = (m.k as usize, [m.c as usize]);
        let moments = launch1(&Moments, &u, &[x], &[k + 1, k], Repr::F32)?;
        let mut stats = launch(x.device(), &frames::Stats, &m, &[&moments, w], &[(&c, Repr::F32), (&c, Repr::F32)])?;
        let (Some(var), Some(mean)) = (stats.pop(), stats.pop()) else { return Err(Error::shape(self.name(), "no output")) };
        let stats = Stats { mean, var };
        let (a, b) = stats.affine(gamma, beta, self.eps)?;
        let mut shape = x.shape().to_vec();
        shape[4] = c[0];
        let empty = none(x.device())?;
        let outputs = [(&shape[..], Repr::Bits { planes: 1 }), (&[0][..], Repr::F32)];
        let fire = FireCounts { kind: self.neuron.neuron };
        let u = FireU::new(&u, &self.neuron, shape[0]);
        let spikes = launch(x.device(), &fire, &u, &[x, w, &a, &b, &empty, &empty], &outputs)?.swap_remove(0);
        let saved = vec![x.clone(), w.clone(), gamma.clone(), a, b, stats.mean.clone(), stats.var.clone(), moments];
        Ok(Forward { outputs: vec![spikes, stats.mean, stats.var], saved })
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let [x, w, gamma, a, b, mean, var, moments] = saved else {
            return Err(Error::shape(self.name(), "eight tensors expected"));
        };
        if needs[0] {
            return Err(Error::shape(self.name(), "event frames have no gradient"));
        }
        let Some(ds) = dy.first_mut().and_then(Option::take) else { return Err(Error::shape(self.name(), "no gradient")) };
        let u = convolution(self.name(), x, w)?;
        let (kernel, c) = (Backward { kind: self.neuron.neuron, surrogate: self.neuron.surrogate }, gamma.shape());
        let shape = ds.shape().to_vec();
        let outputs = [(&shape[..], Repr::F32), (c, Repr::F32)];
        let mut out = launch_onto(&kernel, &BackwardU::new(&u, &self.neuron, shape[0]), &[x, w, a, b], ds, &outputs)?;
        let (Some(sum), Some(dz)) = (out.pop(), out.pop()) else { return Err(Error::shape(self.name(), "no output")) };
        let dw_z = weight_gradient(x, &dz, &u, w.shape())?;
        drop(dz);
        let m = moments_uniform(&u, self.eps);
        let sums = launch1(&Sums, &m, &[&dw_z, &sum, w, mean], &[2, c[0]], Repr::F32)?;
        let affine = AffineU { c: m.c, eps: self.eps };
        let mut norm = launch(x.device(), &BackwardParams, &affine, &[&sums, var], &[(c, Repr::F32), (c, Repr::F32)])?;
        let dw = launch1(&Weight, &m, &[moments, &dw_z, &sums, w, gamma, mean, var], w.shape(), Repr::F32)?;
        let (dbeta, dgamma) = (norm.pop(), norm.pop());
        Ok(vec![None, Some(dw), dgamma, dbeta])
    }
    /// That of the convolution.
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        Conv3x3::default().cost(x)
    }
}
