//! Depth-wise 3x3 convolution of spikes.

use super::channels::Channels;
use super::norm::Stats;
use super::{border_counts, image_shape, none, only, sum_splits, taps_dense, taps_reached};
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::depthwise::{DepthwiseU, Forward as Kernel, Gated, GatedU, Input, Weight};
use crate::kernel::product::splits;
use crate::neuron::Neuron;
use crate::tensor::{Repr, Tensor, launch1};

/// x spikes `[T, B, H, W, C]`, w `[3, 3, C]` -> y `[T, B, H, W, C]`.
pub struct Depthwise3x3;

fn uniform(op: &str, x: &Tensor) -> Result<DepthwiseU> {
    let (images, h, w, c) = image_shape(op, x)?;
    Ok(DepthwiseU { images: images as u32, h: h as u32, w: w as u32, c: c as u32, splits: 1 })
}

impl Op for Depthwise3x3 {
    fn name(&self) -> &'static str {
        "depthwise3x3"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w) = (x[0], x[1]);
        if input.expect_bits(self.name())? != 1 || w.shape() != [3, 3, input.channels()] {
            return Err(Error::shape(self.name(), format!("input {input:?} for weight {:?}", w.shape())));
        }
        let y = launch1(&Kernel, &uniform(self.name(), input)?, &[input, w], input.shape(), Repr::F32)?;
        Ok(Forward::one(y, vec![input.clone(), w.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, w, dy) = (&saved[0], &saved[1], only(self.name(), dy)?);
        let u = uniform(self.name(), x)?;
        let dx = if needs[0] { Some(launch1(&Input, &u, &[dy, w], x.shape(), Repr::F32)?) } else { None };
        let dw = if needs[1] {
            let s = splits(x.rows(), w.len());
            let u = DepthwiseU { splits: s as u32, ..u };
            let parts = launch1(&Weight, &u, &[x, dy], &[s, w.len()], Repr::F32)?;
            Some(sum_splits(&parts, w.shape())?)
        } else {
            None
        };
        Ok(vec![dx, dw])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let (images, h, w, c) = image_shape(self.name(), x[0])?;
        let acs = taps_reached(&border_counts(x[0], h, w)?, h, w);
        Ok(Cost { acs, dense: images as u64 * taps_dense(h, w) * c as u64, ..Cost::default() })
    }
}

/// x and gates, spikes `[T, B, H, W, C]` -> gates AND the spikes of neurons behind [`Depthwise3x3`] and a batch norm with running statistics,
/// for whole clips at inference: neurons whose gate does not open any more are not computed.
///
/// Inputs: x, gates, w `[3, 3, C]`, gamma, beta, mean, var `[C]`; then w `[1]` for a neuron that learns tau.
pub struct GatedDepthwise {
    /// The channels at which any gate is open.
    pub open: Channels,
    /// The neuron.
    pub neuron: Neuron,
    /// Added to the variance.
    pub eps: f32,
}

impl Op for GatedDepthwise {
    fn name(&self) -> &'static str {
        // Under one name with the convolution by itself: its time is that row's.
        "depthwise3x3"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let Some((&[input, gates, w, gamma, beta, mean, var], rest)) = x.split_first_chunk::<7>() else {
            return Err(Error::shape(self.name(), "seven inputs expected"));
        };
        let (&[t, b, h, wide, c], 1, 1) = (input.shape(), input.expect_bits(self.name())?, gates.expect_bits(self.name())?)
        else {
            return Err(Error::shape(self.name(), format!("input {input:?} for gates {gates:?}")));
        };
        if gates.shape() != input.shape() || w.shape() != [3, 3, c] || rest.len() != usize::from(self.neuron.neuron.learns_tau())
        {
            return Err(Error::shape(self.name(), format!("input {input:?}, gates {gates:?} for weight {:?}", w.shape())));
        }
        let empty = none(input.device())?;
        let tau = rest.first().copied().unwrap_or(&empty);
        let (gain, shift) = Stats { mean: mean.clone(), var: var.clone() }.affine(gamma, beta, self.eps)?;
        let u = GatedU::new(&self.neuron, [t, b, h, wide, c]);
        let kernel = Gated { kind: self.neuron.neuron };
        let s = launch1(
            &kernel,
            &u,
            &[input, gates, w, &gain, &shift, tau, self.open.count()],
            input.shape(),
            Repr::Bits { planes: 1 },
        )?;
        Ok(Forward::one(s, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(Error::shape(self.name(), "there is no backward: it is for inference"))
    }
}
