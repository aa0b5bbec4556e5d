//! A 3x3 convolution and the neurons behind it in one, for inference: see [`crate::kernel::fire`].

use super::conv::convolution;
use super::none;
use super::norm::Stats;
use crate::ctx::{Forward, Op};
use crate::device::{Device, Storage};
use crate::error::{Error, Result};
use crate::kernel::fire::{Fire, FireCounts, FireU, counts_below, gpu_suits, spikes_below};
use crate::kernel::product::{bit_density, float_density};
use crate::neuron::Neuron;
use crate::tensor::{Repr, Tensor, launch};

/// x `[T, B, H, W, Ci]` (spikes or event counts) -> spikes `[T, B, H, W, Co]` of neurons behind Conv3x3 and a batch norm with running
/// statistics.
///
/// Inputs: x, w `[3, 3, Ci, Co]`, gamma, beta, mean, var `[Co]`; then w `[1]` for a neuron that learns tau; then v0 `[B, H, W, Co]` where
/// `has_v0`. Outputs: spikes; the membrane after the last step `[B, H, W, Co]` where `wants_v`.
///
/// Spikes and membranes are those of [`super::conv::Conv3x3`] and [`super::neuron::NeuronLayer`]: on the CPU to the bit for packed spikes
/// where the convolution walks them, otherwise but for rounding. There is no backward.
pub struct ConvFire {
    /// The neuron.
    pub neuron: Neuron,
    /// Added to the variance.
    pub eps: f32,
    /// Whether the membrane starts from a given one.
    pub has_v0: bool,
    /// Whether the last membrane is wanted.
    pub wants_v: bool,
}

/// Whether networks go by [`ConvFire`] for x with w. On the CPU for fewer spikes than was measured to pay ([`spikes_below`]), and for counts of
/// few channels, or few of them ([`counts_below`]); on a GPU by the shape alone ([`gpu_suits`]), for there the kernel turns to products by itself.
pub fn pays(x: &Tensor, w: &Tensor) -> bool {
    let Ok(u) = convolution("conv_fire", x, w) else { return false };
    match (x.storage(), x.is_bits()) {
        (Storage::Cpu(b), true) => bit_density(b.words(), x.len()) < spikes_below(&u),
        (Storage::Cpu(b), false) => counts_below(&u).is_none_or(|below| float_density(bytemuck::cast_slice(b.words())) < below),
        (Storage::Gpu(_), _) => match x.device() {
            Device::Gpu(gpu) => gpu_suits(&u, x.shape()[0], gpu.is_software()),
            Device::Cpu => false,
        },
    }
}

impl Op for ConvFire {
    fn name(&self) -> &'static str {
        "conv_fire"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (&[input, w, gamma, beta, mean, var], mut rest) = x.split_first_chunk::<6>().map_or_else(
            || Err(Error::shape(self.name(), "six inputs expected")),
            |(first, rest)| Ok((first, rest.iter().copied())),
        )?;
        let empty = none(input.device())?;
        let mut next = |on: bool| match on {
            true => rest.next().ok_or_else(|| Error::shape(self.name(), "too few inputs")),
            false => Ok(&empty),
        };
        let (tau, v0) = (next(self.neuron.neuron.learns_tau())?, next(self.has_v0)?);
        let conv = convolution(self.name(), input, w)?;
        let cout = w.channels();
        let mut shape = input.shape().to_vec();
        shape[4] = cout;
        if self.has_v0 && v0.shape() != &shape[1..] {
            return Err(Error::shape(self.name(), format!("state {:?} for spikes {shape:?}", v0.shape())));
        }
        let (a, b) = Stats { mean: mean.clone(), var: var.clone() }.affine(gamma, beta, self.eps)?;
        let u = FireU {
            has_v0: u32::from(self.has_v0),
            store_v: u32::from(self.wants_v),
            ..FireU::new(&conv, &self.neuron, shape[0])
        };
        let (inputs, v) = ([input, w, &a, &b, tau, v0], if self.wants_v { &shape[1..] } else { &[0][..] });
        let outputs = [(&shape[..], Repr::Bits { planes: 1 }), (v, Repr::F32)];
        let kind = self.neuron.neuron;
        let mut outputs = match input.is_bits() {
            true => launch(input.device(), &Fire { kind }, &u, &inputs, &outputs)?,
            false => launch(input.device(), &FireCounts { kind }, &u, &inputs, &outputs)?,
        };
        outputs.truncate(1 + usize::from(self.wants_v));
        Ok(Forward { outputs, saved: Vec::new() })
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(Error::shape(self.name(), "there is no backward: it is for inference"))
    }
}
