//! Energy by named conventions. A convention multiplies counted operations by constants; it is no measurement, and two conventions are
//! never compared.
//!
//! | name | pJ a MAC | pJ an AC | what counts as what |
//! |---|---|---|---|
//! | [`horowitz45-fp32`](HOROWITZ45_FP32) | 4.6 | 0.9 | effective operations, attention included, an integer spike of value k is k ACs |
//! | [`horowitz45-fp16`](HOROWITZ45_FP16) | 1.5 | 0.4 | the same |
//! | [`horowitz45-int8`](HOROWITZ45_INT8) | 0.23 | 0.03 | the same |
//! | [`spikingformer`](SPIKINGFORMER) | 4.6 | 0.9 | a layer whose input is of a type that is not 0/1 counts wholly as MAC, zeros included |
//! | [`neurobench`](NEUROBENCH) | 4.6 | 0.9 | integer spikes are MACs, attention products are not counted |
//! | [`horowitz45-fp32-cache`](HOROWITZ45_FP32_CACHE) | 4.6 | 0.9 | as the first, and 12.5 pJ a byte moved |
//! | [`horowitz45-fp32-dram`](HOROWITZ45_FP32_DRAM) | 4.6 | 0.9 | as the first, and 162.5 pJ a byte moved |
//!
//! The constants are those of a table in M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, for 45 nm
//! CMOS at 0.9 V: float32 multiply 3.7 and add 0.9 pJ, float16 1.1 and 0.4, int8 0.2 and 0.03; a 64-bit access to a cache of 8 KB 10 pJ,
//! 32 KB 20 pJ, 1 MB 100 pJ, to DRAM 1300 to 2600 pJ.
//!
//! # How to add one
//! A constant with its source and a place in [`CONVENTIONS`].

use crate::counts::{Cost, Counts, Row, is_attention};
use serde::Serialize;

/// Which operations a convention counts as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Effective MACs and ACs as [`crate::counts`] counts them.
    Effective,
    /// Layers whose input is not binary count as dense multiply-adds.
    Strict,
    /// Linear layers and convolutions only; nonzero integers are multiply-adds.
    Connections,
}

/// Picojoules an operation, and where the numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convention {
    /// Name in reports.
    pub name: &'static str,
    /// Picojoules of a multiply-add.
    pub mac_pj: f64,
    /// Picojoules of an addition.
    pub ac_pj: f64,
    /// Picojoules of a byte moved ([`Row::bytes`]).
    pub byte_pj: f64,
    /// What it counts.
    pub counting: Counting,
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
    byte_pj: 0.0,
    counting: Counting::Effective,
    about: "4.6 pJ x effective MAC + 0.9 pJ x effective AC: 32-bit floats in 45 nm CMOS (Horowitz, ISSCC 2014); integer spikes as \
            additions, attention products included, neuron updates and memory traffic not",
};

/// 1.5 pJ x MAC + 0.4 pJ x AC: [`HOROWITZ45_FP32`] with 16-bit floats, multiplication 1.1 pJ and addition 0.4 pJ. As if the network gave
/// the same spikes in float16, which this does not check.
pub const HOROWITZ45_FP16: Convention = Convention {
    name: "horowitz45-fp16",
    mac_pj: 1.5,
    ac_pj: 0.4,
    about: "1.5 pJ x effective MAC + 0.4 pJ x effective AC: 16-bit floats in 45 nm CMOS (Horowitz, ISSCC 2014); counted as \
            horowitz45-fp32, as if the spikes stayed the same",
    ..HOROWITZ45_FP32
};

/// 0.23 pJ x MAC + 0.03 pJ x AC: [`HOROWITZ45_FP32`] with 8-bit integers, multiplication 0.2 pJ and addition 0.03 pJ. A sum of many
/// 8-bit numbers needs a wider adder (32 bits: 0.1 pJ), which this leaves out, as users of the constants do.
pub const HOROWITZ45_INT8: Convention = Convention {
    name: "horowitz45-int8",
    mac_pj: 0.23,
    ac_pj: 0.03,
    about: "0.23 pJ x effective MAC + 0.03 pJ x effective AC: 8-bit integers in 45 nm CMOS (Horowitz, ISSCC 2014); counted as \
            horowitz45-fp32, as if the spikes stayed the same; sums of 8 bits only",
    ..HOROWITZ45_FP32
};

/// The strict rule of Spikingformer (Zhou et al., 2023): a layer whose input is binary costs 0.9 pJ an AC; a layer whose input is anything
/// else (event counts, means, the integers that a residual of spikes or a sum of experts makes) costs 4.6 pJ for every multiply-add of the
/// dense layer, zeros included, also of what closed gates left out. Attention products are ACs. Whether an input is binary is told by its
/// type, one plane of spikes, not by the values that happened to occur.
///
/// Its tool (`energy_consumption_calculation`, after syops-counter) tells that by values, does not see products of attention, counts taps
/// outside the image, and counts norms, neurons, pooling and biases, all of which this does not.
pub const SPIKINGFORMER: Convention = Convention {
    name: "spikingformer",
    counting: Counting::Strict,
    about: "4.6 pJ x MAC + 0.9 pJ x AC by Spikingformer's rule (Zhou et al., 2023): a layer whose input is not 0/1 by its type (event counts, integer \
            spikes) counts wholly as MAC, zeros included; unlike in its tool attention products are AC, and norms, neurons and pooling nothing",
    ..HOROWITZ45_FP32
};

/// NeuroBench's `SynapticOperations` (Yik et al., 2025) under Horowitz' float32 constants; NeuroBench itself gives no energies. Only
/// linear layers and convolutions count; a nonzero input that is not 0 or 1 is a multiply-add, once whatever its value; in a layer with
/// integer inputs all nonzero inputs are. Unlike there, weights that are zero count, and which layer is which goes by the type of its input
/// (spikes, or floats, whatever their values).
pub const NEUROBENCH: Convention = Convention {
    name: "neurobench",
    counting: Counting::Connections,
    about: "4.6 pJ x Effective_MACs + 0.9 pJ x Effective_ACs, counted as NeuroBench does (Yik et al., 2025): nonzero inputs of layers with integer spikes \
            are MACs, attention products are not counted; unlike there a layer is told by the type of its input (spikes, floats), not by its values",
    ..HOROWITZ45_FP32
};

/// [`HOROWITZ45_FP32`] and 12.5 pJ for each byte moved: 100 pJ for 64 bits from a cache of 1 MB (Horowitz, ISSCC 2014), as if every buffer
/// lay in such a cache. Bytes: all buffers that a launch reads or writes, each once ([`crate::device::Device::bytes_moved`]); weights once
/// a clip and launch.
pub const HOROWITZ45_FP32_CACHE: Convention = Convention {
    name: "horowitz45-fp32-cache",
    byte_pj: 12.5,
    about: "horowitz45-fp32 and 12.5 pJ for each byte that a kernel reads or writes, each buffer once a launch: 100 pJ for 64 bits of a \
            1 MB cache (Horowitz, ISSCC 2014)",
    ..HOROWITZ45_FP32
};

/// As [`HOROWITZ45_FP32_CACHE`] with 162.5 pJ a byte: 1300 pJ for 64 bits from DRAM, the lower end of Horowitz' 1.3 to 2.6 nJ, as if nothing
/// stayed in a cache between launches.
pub const HOROWITZ45_FP32_DRAM: Convention = Convention {
    name: "horowitz45-fp32-dram",
    byte_pj: 162.5,
    about: "horowitz45-fp32 and 162.5 pJ for each byte that a kernel reads or writes, each buffer once a launch: 1.3 nJ for 64 bits of \
            DRAM (Horowitz, ISSCC 2014, the lower end)",
    ..HOROWITZ45_FP32
};

/// All conventions.
pub const CONVENTIONS: &[Convention] =
    &[HOROWITZ45_FP32, HOROWITZ45_FP16, HOROWITZ45_INT8, SPIKINGFORMER, NEUROBENCH, HOROWITZ45_FP32_CACHE, HOROWITZ45_FP32_DRAM];

/// The convention of this name.
pub fn convention(name: &str) -> Option<&'static Convention> {
    CONVENTIONS.iter().find(|c| c.name == name)
}

impl Convention {
    /// (MACs, ACs) that this convention counts of the operation `op`.
    pub fn operations(&self, op: &str, cost: &Cost) -> (u64, u64) {
        let attention = is_attention(op);
        match self.counting {
            Counting::Effective => (cost.macs, cost.acs),
            Counting::Strict if attention => (cost.macs, cost.acs),
            Counting::Strict => (cost.float_dense + cost.integer_dense, cost.acs - cost.integer_acs),
            Counting::Connections if attention => (0, 0),
            Counting::Connections => (cost.macs + cost.integer_macs, cost.acs - cost.integer_acs),
        }
    }
    /// Picojoules of one row.
    pub fn row_pj(&self, row: &Row) -> f64 {
        self.parts_pj(row).iter().sum()
    }
    /// Picojoules of one row: of its MACs, of its ACs, of the bytes it moved.
    pub fn parts_pj(&self, row: &Row) -> [f64; 3] {
        let (macs, acs) = self.operations(&row.op, &row.cost);
        [self.mac_pj * macs as f64, self.ac_pj * acs as f64, self.byte_pj * row.bytes as f64]
    }
    /// Picojoules of all rows. Conventions with bytes or NeuroBench's need [`crate::counts::Keep::detail`].
    pub fn counts_pj(&self, counts: &Counts) -> f64 {
        counts.rows.iter().map(|r| self.row_pj(r)).sum()
    }
    /// Picojoules of effective operations.
    pub fn energy_pj(&self, cost: &Cost) -> f64 {
        self.mac_pj * cost.macs as f64 + self.ac_pj * cost.acs as f64
    }
    /// Picojoules a dense network of the same shape would take (every multiply-add at every step) of what this convention counts; none
    /// where it counts bytes, which are not known of that network.
    pub fn dense_pj(&self, counts: &Counts) -> Option<f64> {
        let counted = |r: &&Row| self.counting != Counting::Connections || !r.is_attention();
        let dense: u64 = counts.rows.iter().filter(counted).map(|r| r.cost.dense).sum();
        (self.byte_pj == 0.0).then_some(self.mac_pj * dense as f64)
    }
}

/// [`HOROWITZ45_FP32`] picojoules a sample: formula 4.6 x MAC / samples + 0.9 x AC / samples.
pub fn energy_pj(cost: &Cost, samples: u64) -> f64 {
    HOROWITZ45_FP32.energy_pj(cost) / samples.max(1) as f64
}

/// At which activity the network costs what an int8 dense network of the same shape costs.
///
/// The dense network does every multiply-add at 0.23 pJ ([`HOROWITZ45_INT8`]), at each step of a clip or once for the whole. The
/// spiking one costs mac_pj x MAC + ac_pj x a x D, where D are the dense multiply-adds of the operations that spikes drive and
/// a = AC / D is their activity: additions a synapse and step, which is the firing rate of the inputs weighted by fan-out (an integer
/// spike of value k counts k times). The break-even is the a at which both are equal. Arithmetic only: no memory traffic, no neuron updates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BreakEven {
    /// The convention of the spiking network.
    pub convention: &'static str,
    /// How often the dense network runs on a clip: once, or at each step (of clips of different lengths their mean).
    pub dense_runs: f64,
    /// Picojoules a sample of the dense network.
    pub dense_int8_pj: f64,
    /// Picojoules a sample of this network.
    pub spiking_pj: f64,
    /// Its activity a.
    pub activity: f64,
    /// The activity at which both cost the same; none where the multiply-adds alone cost more, or where no spikes arrive anywhere.
    /// Above 1 binary spikes are cheaper at every rate.
    pub break_even_activity: Option<f64>,
}

impl BreakEven {
    /// How often the dense network runs, in words, where clips have up to `steps` steps.
    pub fn runs(&self, steps: usize) -> &'static str {
        if self.dense_runs == 1.0 && steps > 1 { "once a clip" } else { "at each step" }
    }
    /// For `counts` over clips of `steps` steps in the mean, where the dense network runs `dense_runs` times on a clip.
    pub fn of(counts: &Counts, convention: &Convention, steps: f64, dense_runs: f64) -> Self {
        let n = counts.samples.max(1) as f64;
        let total = counts.total();
        let driven = total.dense - total.float_dense;
        let dense = HOROWITZ45_INT8.mac_pj * total.dense as f64 / n * dense_runs / steps.max(1.0);
        let room = dense - convention.mac_pj * total.macs as f64 / n;
        let per_activity = convention.ac_pj * driven as f64 / n;
        BreakEven {
            convention: convention.name,
            dense_runs,
            dense_int8_pj: dense,
            spiking_pj: convention.energy_pj(&total) / n,
            activity: total.acs as f64 / driven.max(1) as f64,
            break_even_activity: (room > 0.0 && per_activity > 0.0).then(|| room / per_activity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    /// A first layer of counts, a layer of spikes, one of integer spikes, and an attention product; 500 bytes.
    fn counts() -> Counts {
        let mut c = Counts::default();
        c.samples = 1;
        c.operation("a", "conv3x3", Cost { macs: 10, dense: 100, float_dense: 100, ..Cost::default() });
        c.operation("b", "linear", Cost { acs: 20, dense: 200, ..Cost::default() });
        let integers = Cost { acs: 50, integer_acs: 50, integer_macs: 30, dense: 300, integer_dense: 300, ..Cost::default() };
        c.operation("c", "linear", integers);
        c.operation("d", "query", Cost { acs: 40, dense: 400, ..Cost::default() });
        c.traffic("b", "linear", vec![1], 0, 0, 500);
        c
    }

    #[test]
    fn by_hand() {
        let c = Cost { macs: 10, acs: 100, dense: 1000, neuron_updates: 7, ..Cost::default() };
        assert!((energy_pj(&c, 2) - (46.0 + 90.0) / 2.0).abs() < 1e-9);
        // Spikingformer-8-512 on ImageNet, as its authors report it: 0.347 G MAC and 6.518 G AC are 7.4635 mJ.
        let paper = Cost { macs: 347_000_000, acs: 6_518_000_000, ..Cost::default() };
        assert!((energy_pj(&paper, 1) * 1e-9 - 7.4635).abs() < 2e-3);
    }

    #[test]
    fn every_convention_by_hand() {
        let c = counts();
        let of = |name: &str| convention(name).unwrap().counts_pj(&c);
        near(of("horowitz45-fp32"), 10.0 * 4.6 + 110.0 * 0.9);
        near(of("horowitz45-fp16"), 10.0 * 1.5 + 110.0 * 0.4);
        near(of("horowitz45-int8"), 10.0 * 0.23 + 110.0 * 0.03);
        // Layers a and c wholly as MAC.
        near(of("spikingformer"), 400.0 * 4.6 + 60.0 * 0.9);
        // 30 nonzero integers are MACs, the product of attention is nothing.
        near(of("neurobench"), 40.0 * 4.6 + 20.0 * 0.9);
        near(of("horowitz45-fp32-cache"), 145.0 + 500.0 * 12.5);
        near(of("horowitz45-fp32-dram"), 145.0 + 500.0 * 162.5);
        assert_eq!(convention("horowitz"), None);
        // A silent layer of integers is a dense one all the same.
        let silent = Cost { dense: 70, integer_dense: 70, ..Cost::default() };
        assert_eq!(SPIKINGFORMER.operations("linear", &silent), (70, 0));
        let dense = |name: &str| convention(name).unwrap().dense_pj(&c);
        near(dense("horowitz45-fp32").unwrap(), 1000.0 * 4.6);
        near(dense("neurobench").unwrap(), 600.0 * 4.6);
        assert_eq!((dense("horowitz45-fp32-cache"), dense("horowitz45-fp32-dram")), (None, None));
        for c in CONVENTIONS {
            assert!(c.about.contains("pJ") && CONVENTIONS.iter().filter(|d| d.name == c.name).count() == 1);
        }
    }

    #[test]
    fn break_even_by_hand() {
        let c = counts();
        // 1000 dense multiply-adds at each of 4 steps are 230 pJ; 900 of them are driven by spikes, 110 additions were done.
        let b = BreakEven::of(&c, &HOROWITZ45_FP32, 4.0, 4.0);
        near(b.dense_int8_pj, 230.0);
        near(b.spiking_pj, 145.0);
        near(b.activity, 110.0 / 900.0);
        near(b.break_even_activity.unwrap(), (230.0 - 46.0) / (0.9 * 900.0));
        // At that activity the energies are equal.
        near(46.0 + 0.9 * 900.0 * b.break_even_activity.unwrap(), b.dense_int8_pj);
        // Run once a clip the dense network costs 57.5 pJ; with 4-step clips of 4 times as much it is cheaper than the MACs alone.
        near(BreakEven::of(&c, &HOROWITZ45_FP32, 4.0, 1.0).break_even_activity.unwrap(), (57.5 - 46.0) / 810.0);
        assert_eq!(BreakEven::of(&c, &HOROWITZ45_FP32, 8.0, 1.0).break_even_activity, None);
        assert_eq!(BreakEven::of(&Counts::default(), &HOROWITZ45_INT8, 0.0, 1.0).break_even_activity, None);
    }
}
