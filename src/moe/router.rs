//! Routers: which experts are open for which token at which step.

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::neuron::Neuron;
use crate::nn::{ConvBn, Kind, Neurons};
use crate::ops::gate::Hold;
use crate::params::Build;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Decides about gates, as spikes.
pub trait Router: Send + Sync {
    /// x `[T, B, N.., D]` to gates, spikes `[T, B, N.., experts]`.
    fn route(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor>;
}

/// Which router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouterKind {
    /// The paper's: R = SN(BN(X W_R)).
    Spiking,
    /// None, for ablation: every expert is always open.
    Open,
}

impl RouterKind {
    /// All of them: what tests of skipping and of streams walk over.
    pub const ALL: &'static [RouterKind] = &[RouterKind::Spiking, RouterKind::Open];

    /// Builds it under the names `router` and `router_lif`, deciding every `window` steps; `None` where every gate stays open.
    pub fn build(
        self,
        b: &mut Build<'_>,
        dim: usize,
        experts: usize,
        window: usize,
        neuron: Neuron,
    ) -> Result<Option<Box<dyn Router>>> {
        Ok(match self {
            RouterKind::Open => None,
            RouterKind::Spiking => Some(Box::new(SpikingRouter {
                name: b.name("router"),
                map: ConvBn::new(b, "router", Kind::PointwiseBias, dim, experts)?,
                lif: Neurons::new(b, "router_lif", neuron)?,
                window,
            })),
        })
    }
}

/// R = SN(BN(X W_R)): a linear map to one neuron an expert, whose membrane lives through all steps. With windows the spikes of a window's
/// first step are its gates.
pub struct SpikingRouter {
    name: String,
    map: ConvBn,
    lif: Neurons,
    window: usize,
}

impl SpikingRouter {
    fn hold(&self, r: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let name = format!("{}.window", self.name);
        let earlier = cx.take_state(&name);
        let inputs: Vec<&Tensor> = std::iter::once(r).chain(&earlier).collect();
        let op = Hold { window: self.window, wants_open: cx.carries_state() };
        let mut outs = cx.apply(&self.name, op, &inputs)?.into_iter();
        let held = outs.next().ok_or_else(|| Error::shape("hold", "no output"))?;
        if let Some(open) = outs.next().filter(|o| o.shape()[0] > 0) {
            cx.put_state(&name, open);
        }
        Ok(held)
    }
}

impl Router for SpikingRouter {
    fn route(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut r = self.map.spikes(x, &self.lif, cx)?;
        if self.window > 1 {
            r = self.hold(&r, cx)?;
        }
        cx.count_router(&self.name, &r)?;
        Ok(r)
    }
}
