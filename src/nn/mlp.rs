//! The perceptron of a block, without experts; with them see [`crate::moe::emsp`].

use super::attention::{Entry, Exit, Residual};
use super::{ConvBn, Kind, Neurons};
use crate::ctx::{Ctx, Module};
use crate::error::Result;
use crate::neuron::Neuron;
use crate::params::Build;
use crate::tensor::Tensor;

/// Two 1x1 convolutions with norms and LIFs: `[T, B, H, W, D]` to the same.
pub struct Mlp {
    entry: Entry,
    fc1: ConvBn,
    lif: Neurons,
    exit: Exit,
}

impl Mlp {
    /// Names `fc1 fc1_lif fc2 fc2_lif`, or `in_lif fc1 hid_lif fc2` for currents.
    pub fn new(b: &mut Build<'_>, residual: Residual, dim: usize, hidden: usize, neuron: Neuron) -> Result<Self> {
        let lif = match residual {
            Residual::Spikes => "fc1_lif",
            Residual::Currents => "hid_lif",
        };
        Ok(Mlp {
            entry: Entry::new(b, residual, neuron)?,
            fc1: ConvBn::new(b, "fc1", Kind::PointwiseBias, dim, hidden)?,
            lif: Neurons::new(b, lif, neuron)?,
            exit: Exit::new(b, "fc2", residual, hidden, dim, neuron)?,
        })
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let s = self.fc1.spikes(&x, &self.lif, cx)?;
        self.exit.forward(&s, cx)
    }
}
