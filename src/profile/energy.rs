//! Energy by named conventions. A convention multiplies counted operations by constants; it is no measurement, and two conventions are
//! never compared.
//!
//! # How to add one
//! A line in [`CONVENTIONS`] with its source.

use crate::counts::Cost;

/// Picojoules an operation, and where the numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convention {
    /// Name in reports.
    pub name: &'static str,
    /// Picojoules of a multiply-add.
    pub mac_pj: f64,
    /// Picojoules of an addition.
    pub ac_pj: f64,
    /// What is counted, and the source.
    pub about: &'static str,
}

/// 4.6 pJ x MAC + 0.9 pJ x AC, the convention of the spiking transformer papers.
///
/// 45 nm CMOS, 32-bit floats: a multiplication takes 3.7 pJ and an addition 0.9 pJ (M. Horowitz, "Computing's energy problem (and what
/// we can do about it)", ISSCC 2014), so a multiply-add takes 4.6 pJ. Counted here: effective MACs (nonzero inputs that are not
/// spikes: the event counts of the first layer, means, the head) and effective ACs (targets that a spike really reaches, borders and
/// strides as executed, attention products included; an integer spike of value k is k additions). Not counted: neuron updates and the
/// traffic between memory and arithmetic, which usually costs more than the additions.
pub const HOROWITZ45_FP32: Convention = Convention {
    name: "horowitz45-fp32",
    mac_pj: 4.6,
    ac_pj: 0.9,
    about: "4.6 pJ x effective MAC + 0.9 pJ x effective AC: 32-bit floats in 45 nm CMOS (Horowitz, ISSCC 2014); integer spikes as \
            additions, attention products included, neuron updates and memory traffic not",
};

/// All conventions.
pub const CONVENTIONS: &[Convention] = &[HOROWITZ45_FP32];

impl Convention {
    /// Picojoules of what was counted.
    pub fn energy_pj(&self, cost: &Cost) -> f64 {
        self.mac_pj * cost.macs as f64 + self.ac_pj * cost.acs as f64
    }
    /// Picojoules a dense network of the same shape would take (every multiply-add at every step).
    pub fn dense_pj(&self, cost: &Cost) -> f64 {
        self.mac_pj * cost.dense as f64
    }
}

/// [`HOROWITZ45_FP32`] picojoules a sample: formula 4.6 x MAC / samples + 0.9 x AC / samples.
pub fn energy_pj(cost: &Cost, samples: u64) -> f64 {
    HOROWITZ45_FP32.energy_pj(cost) / samples.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let c = Cost { macs: 10, acs: 100, dense: 1000, neuron_updates: 7 };
        assert!((energy_pj(&c, 2) - (46.0 + 90.0) / 2.0).abs() < 1e-9);
        assert!((HOROWITZ45_FP32.dense_pj(&c) - 4600.0).abs() < 1e-9);
        // Spikingformer-8-512 on ImageNet, as its authors report it: 0.347 G MAC and 6.518 G AC are 7.4635 mJ.
        let paper = Cost { macs: 347_000_000, acs: 6_518_000_000, ..Cost::default() };
        assert!((energy_pj(&paper, 1) * 1e-9 - 7.4635).abs() < 2e-3);
    }
}
