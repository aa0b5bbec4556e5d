//! Routers: which experts are open for which token at which step.

use crate::ctx::Ctx;
use crate::error::Result;
use crate::neuron::Neuron;
use crate::nn::{ConvBn, Kind, Neurons};
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
    /// Builds it under the names `router` and `router_lif`; `None` where every gate stays open.
    pub fn build(self, b: &mut Build<'_>, dim: usize, experts: usize, neuron: Neuron) -> Result<Option<Box<dyn Router>>> {
        Ok(match self {
            RouterKind::Open => None,
            RouterKind::Spiking => Some(Box::new(SpikingRouter {
                name: b.name("router"),
                map: ConvBn::new(b, "router", Kind::PointwiseBias, dim, experts)?,
                lif: Neurons::new(b, "router_lif", neuron)?,
            })),
        })
    }
}

/// R = SN(BN(X W_R)): a linear map to one neuron an expert, whose membrane lives through all steps.
pub struct SpikingRouter {
    name: String,
    map: ConvBn,
    lif: Neurons,
}

impl Router for SpikingRouter {
    fn route(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let r = self.map.spikes(x, &self.lif, cx)?;
        cx.count_router(&self.name, &r)?;
        Ok(r)
    }
}
