//! NeuroBench's static and workload metrics under its names (Yik et al., "The NeuroBench framework", 2025), each with its divisor.

use super::energy::NEUROBENCH;
use crate::counts::Counts;
use crate::error::Result;
use crate::params::{Params, Role};
use serde::Serialize;

/// Operations of linear layers and convolutions, means a sample; attention products, pooling, norms and biases are not counted. Unlike in
/// NeuroBench, weights that are zero count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SynapticOperations {
    /// Nonzero inputs that are not 0 or 1 (event counts, means, integer spikes), times their targets.
    #[serde(rename = "Effective_MACs")]
    pub effective_macs: f64,
    /// Spikes of binary maps, times their targets.
    #[serde(rename = "Effective_ACs")]
    pub effective_acs: f64,
    /// All inputs, zeros included, times their targets.
    #[serde(rename = "Dense")]
    pub dense: f64,
}

/// The metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NeuroBench {
    /// Bytes of all parameters and buffers as held here: 4 a scalar. No divisor.
    #[serde(rename = "Footprint")]
    pub footprint: u64,
    /// Weights of linear layers and convolutions that are exactly zero, divided by all of them (no biases, no norms).
    #[serde(rename = "ConnectionSparsity")]
    pub connection_sparsity: f64,
    /// Neuron outputs that are zero, divided by neurons x steps x samples; neurons that a closed gate left out are zero.
    #[serde(rename = "ActivationSparsity")]
    pub activation_sparsity: f64,
    /// Divided by samples; a sample is a whole clip, all its steps.
    #[serde(rename = "SynapticOperations")]
    pub synaptic_operations: SynapticOperations,
    /// Neurons and steps at which the membrane is another after the step (and its reset) than before it, at the first step all neurons;
    /// divided by samples. Closed gates skip nothing in it.
    #[serde(rename = "MembraneUpdates")]
    pub membrane_updates: f64,
}

impl NeuroBench {
    /// From a network's parameters, detailed counts ([`crate::counts::Keep::detail`]) and counts of membranes
    /// ([`crate::counts::Keep::membranes`]).
    ///
    /// # Errors
    /// A parameter that cannot be read back.
    pub fn of(params: &Params, counts: &Counts, membranes: &Counts) -> Result<Self> {
        let (mut zeros, mut weights) = (0, 0);
        for (_, p) in params.iter().filter(|(_, p)| p.role == Role::Weight) {
            let v = p.value.to_vec()?;
            zeros += v.iter().filter(|w| **w == 0.0).count();
            weights += v.len();
        }
        let n = counts.samples.max(1) as f64;
        let connections = counts.rows.iter().filter(|r| !r.is_attention());
        let (macs, acs, dense) = connections.fold((0, 0, 0), |(m, a, d), r| {
            let (macs, acs) = NEUROBENCH.operations(&r.op, &r.cost);
            (m + macs, a + acs, d + r.cost.dense)
        });
        Ok(NeuroBench {
            footprint: params.iter().map(|(_, p)| 4 * p.value.len() as u64).sum(),
            connection_sparsity: zeros as f64 / weights.max(1) as f64,
            activation_sparsity: 1.0 - counts.firing_rate(),
            synaptic_operations: SynapticOperations {
                effective_macs: macs as f64 / n,
                effective_acs: acs as f64 / n,
                dense: dense as f64 / n,
            },
            membrane_updates: membranes.rows.iter().map(|r| r.membrane_updates).sum::<u64>() as f64
                / membranes.samples.max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Cost;
    use crate::device::Device;
    use crate::params::{Build, Init};
    use crate::tensor::Tensor;
    use crate::tensor::torch::Layout;

    #[test]
    fn by_hand() {
        let mut params = Params::new(&Device::Cpu);
        let mut b = Build::new(&mut params, 0);
        let w = b.param("w", &[2, 2], Role::Weight, Layout::Linear, Init::Constant(1.0)).unwrap();
        b.param("b", &[2], Role::Bias, Layout::Plain, Init::Constant(0.0)).unwrap();
        b.param("mean", &[3], Role::Buffer, Layout::Plain, Init::Constant(0.0)).unwrap();
        params.update([(w, Tensor::from_f32(&Device::Cpu, &[2, 2], &[0., 1., 2., 3.]).unwrap())]);
        let mut c = Counts::default();
        c.samples = 2;
        c.operation("a", "linear", Cost { macs: 6, dense: 20, ..Cost::default() });
        c.operation("b", "linear", Cost { acs: 9, integer_acs: 9, integer_macs: 4, dense: 20, ..Cost::default() });
        c.operation("c", "depthwise3x3", Cost { acs: 8, dense: 40, ..Cost::default() });
        c.operation("d", "mix", Cost { acs: 100, dense: 100, ..Cost::default() });
        c.spikes("lif", &Tensor::spikes_from_f32(&Device::Cpu, &[1, 2, 2], &[1., 0., 0., 0.]).unwrap(), None).unwrap();
        let mut v = Counts::default();
        v.samples = 2;
        v.membranes("lif", &Tensor::from_f32(&Device::Cpu, &[2, 2, 2], &[0., 1., 2., 3., 0., 2., 2., 3.]).unwrap(), None)
            .unwrap();
        let m = NeuroBench::of(&params, &c, &v).unwrap();
        assert_eq!((m.footprint, m.connection_sparsity, m.activation_sparsity), (36, 0.25, 0.75));
        assert_eq!(m.membrane_updates, 2.5);
        let s = m.synaptic_operations;
        assert_eq!((s.effective_macs, s.effective_acs, s.dense), (5.0, 4.0, 40.0));
        let json = serde_json::to_value(m).unwrap();
        assert!(json["SynapticOperations"]["Effective_MACs"] == 5.0 && json["Footprint"] == 36);
    }
}
