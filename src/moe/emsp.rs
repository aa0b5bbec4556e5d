//! EMSP: experts mixture spiking perceptron. Half of the hidden channels are experts (each its own depth-wise convolution), the other half
//! route them, channel by channel.

use super::{Semm, gated};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::neuron::Neuron;
use crate::nn::attention::{Entry, Exit, Residual};
use crate::nn::{ConvBn, Kind, Neurons};
use crate::ops::gate::{Both, Halves};
use crate::params::Build;
use crate::tensor::Tensor;

use super::router::RouterKind;

/// Y = W_2 (E AND U_r), U = SN(BN(X W_1)) in halves U_e and U_r, E = SN(BN(DWConv3x3(U_e))); `[T, B, H, W, D]` to the same.
pub struct Emsp {
    name: String,
    half: usize,
    entry: Entry,
    fc1: (ConvBn, Neurons),
    depthwise: Option<(ConvBn, Neurons)>,
    routed: bool,
    exit: Exit,
}

impl Emsp {
    /// Names `fc1 dw fc2` with their `_lif`s (and `in_lif` for currents).
    pub fn new(b: &mut Build<'_>, residual: Residual, dim: usize, semm: &Semm, neuron: Neuron) -> Result<Self> {
        let hidden = semm.hidden.channels(dim);
        let half = hidden / 2;
        Ok(Emsp {
            name: b.path().to_string(),
            half,
            entry: Entry::new(b, residual, neuron)?,
            fc1: (ConvBn::new(b, "fc1", Kind::PointwiseBias, dim, hidden)?, Neurons::new(b, "fc1_lif", neuron)?),
            depthwise: match semm.depthwise {
                true => Some((ConvBn::new(b, "dw", Kind::Depthwise, half, half)?, Neurons::new(b, "dw_lif", neuron)?)),
                false => None,
            },
            routed: semm.router != RouterKind::Open,
            exit: Exit::new(b, "fc2", residual, half, dim, neuron)?,
        })
    }
}

impl Module for Emsp {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let u = self.fc1.0.spikes(&x, &self.fc1.1, cx)?;
        let halves = cx.apply(&self.name, Halves { first: self.half }, &[&u])?;
        let [mut e, r]: [Tensor; 2] = halves.try_into().map_err(|_| Error::shape(self.name.clone(), "no halves"))?;
        if let Some((conv, lif)) = &self.depthwise {
            if self.routed {
                gated::depthwise(cx, &self.name, &e, &r)?;
            }
            e = conv.spikes(&e, lif, cx)?;
        }
        let y = if self.routed { cx.apply1(&self.name, Both, &[&e, &r])? } else { e };
        self.exit.forward(&y, cx)
    }
}
