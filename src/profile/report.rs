//! Counts as numbers a sample, for people and for machines.

use super::energy::HOROWITZ45_FP32;
use crate::counts::{Cost, Counts, RouterRow};
use serde::Serialize;
use std::fmt::Write;

/// One neuron layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRate {
    /// Path of the module.
    pub name: String,
    /// Spikes a neuron and step.
    pub firing_rate: f64,
    /// Spikes a sample.
    pub spikes: f64,
}

/// Operations of one module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationRow {
    /// Path of the module.
    pub name: String,
    /// The operation.
    pub op: String,
    /// Effective MACs a sample.
    pub effective_macs: f64,
    /// Effective ACs a sample.
    pub effective_acs: f64,
    /// Additions left out behind closed gates a sample; not part of the effective ones.
    pub skipped_sops: f64,
    /// Multiply-adds a sample of a dense network.
    pub dense_macs: f64,
}

/// One router.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterRate {
    /// Path of the router.
    pub name: String,
    /// Open gates over all gates.
    pub router_firing_rate: f64,
    /// Open gates a token and step.
    pub experts_active_per_token: f64,
    /// Entropy of the load over the experts; 1 = even, none where no gate opened.
    pub expert_load_entropy: Option<f64>,
    /// Fraction of the experts whose gate never opened.
    pub expert_silence_fraction: f64,
    /// Open gates over all gates, by expert.
    pub expert_rates: Vec<f64>,
}

impl RouterRate {
    /// From counts.
    pub fn of(r: &RouterRow) -> Self {
        RouterRate {
            name: r.name.clone(),
            router_firing_rate: r.firing_rate(),
            experts_active_per_token: r.active_per_token(),
            expert_load_entropy: r.load_entropy(),
            expert_silence_fraction: r.silence_fraction(),
            expert_rates: r.open.iter().map(|&o| o as f64 / r.tokens.max(1) as f64).collect(),
        }
    }
    /// The entropy in words.
    pub fn entropy(&self) -> String {
        self.expert_load_entropy.map_or("-".into(), |h| format!("{h:.2}"))
    }
}

/// What a network did while it was counted; operations and energy are means a sample (all steps of one clip).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activity {
    /// Spikes a neuron and step, over all neurons of the network.
    pub firing_rate: f64,
    /// Mean over routers of open gates over all gates; none without routers.
    pub router_firing_rate: Option<f64>,
    /// Mean over routers of open gates a token and step; none without routers.
    pub experts_active_per_token: Option<f64>,
    /// Multiply-adds with nonzero inputs that are not spikes.
    pub effective_macs: f64,
    /// Additions that a spike caused; an integer spike of value k causes k.
    pub effective_acs: f64,
    /// Additions that were not done because a gate was closed, counted from the spikes that they would have been for. Not part of
    /// `effective_acs`. What skipped queries and keys would have added is not in it: their spikes are not known.
    pub skipped_sops: f64,
    /// Multiply-adds of a dense network of that shape.
    pub dense_macs: f64,
    /// Neuron updates; not in the energy.
    pub neuron_updates: f64,
    /// Picojoules by `energy_convention`.
    pub energy_pj: f64,
    /// Picojoules of the dense multiply-adds by the same convention; none where it counts bytes too.
    pub dense_energy_pj: Option<f64>,
    /// Name of the convention ([`super::energy`]).
    pub energy_convention: &'static str,
    /// Samples counted: the divisor of all of the above.
    pub samples_counted: u64,
    /// By neuron layer.
    pub layers: Vec<LayerRate>,
    /// By router.
    pub routers: Vec<RouterRate>,
    /// By operation.
    pub operations: Vec<OperationRow>,
}

impl Activity {
    /// From counts over [`Counts::samples`] samples; energy by [`HOROWITZ45_FP32`].
    pub fn of(counts: &Counts) -> Self {
        let n = counts.samples.max(1) as f64;
        let total = counts.total();
        Activity {
            firing_rate: counts.firing_rate(),
            router_firing_rate: counts.router_firing_rate(),
            experts_active_per_token: counts.experts_active_per_token(),
            effective_macs: total.macs as f64 / n,
            effective_acs: total.acs as f64 / n,
            skipped_sops: total.skipped as f64 / n,
            dense_macs: total.dense as f64 / n,
            neuron_updates: total.neuron_updates as f64 / n,
            energy_pj: HOROWITZ45_FP32.energy_pj(&total) / n,
            dense_energy_pj: HOROWITZ45_FP32.dense_pj(counts).map(|pj| pj / n),
            energy_convention: HOROWITZ45_FP32.name,
            samples_counted: counts.samples,
            layers: counts
                .neurons()
                .map(|r| LayerRate { name: r.name.clone(), firing_rate: r.rate(), spikes: r.spikes as f64 / n })
                .collect(),
            routers: counts.routers.iter().map(RouterRate::of).collect(),
            operations: counts
                .rows
                .iter()
                .filter(|r| Cost { neuron_updates: 0, ..r.cost } != Cost::default())
                .map(|r| OperationRow {
                    name: r.name.clone(),
                    op: r.op.clone(),
                    effective_macs: r.cost.macs as f64 / n,
                    effective_acs: r.cost.acs as f64 / n,
                    skipped_sops: r.cost.skipped as f64 / n,
                    dense_macs: r.cost.dense as f64 / n,
                })
                .collect(),
        }
    }

    /// Tables for people, and how each number was counted.
    pub fn text(&self) -> String {
        let mut s = String::new();
        let name = |n: usize| n.max("layer".len());
        let width =
            name(self.layers.iter().map(|l| l.name.len()).chain(self.routers.iter().map(|r| r.name.len())).max().unwrap_or(0));
        // Writing to a string does not fail.
        let _ = writeln!(s, "{:width$}  firing rate  (spikes a neuron and step)", "layer");
        for l in &self.layers {
            let bar = "#".repeat((l.firing_rate * 40.0).ceil().min(40.0) as usize);
            let _ = writeln!(s, "{:width$}  {:>10.2}%  {bar}", l.name, 100.0 * l.firing_rate);
        }
        let _ = writeln!(s, "{:width$}  {:>10.2}%", "network", 100.0 * self.firing_rate);
        if !self.routers.is_empty() {
            let _ = writeln!(
                s,
                "\n{:width$}  firing rate  active experts a token  load entropy  silent experts  rate by expert",
                "router"
            );
            for r in &self.routers {
                let by: Vec<String> = r.expert_rates.iter().map(|v| share(*v)).collect();
                let _ = writeln!(
                    s,
                    "{:width$}  {:>10.2}%  {:>13.2} of {:<4}  {:>12}  {:>14}  {}",
                    r.name,
                    100.0 * r.router_firing_rate,
                    r.experts_active_per_token,
                    r.expert_rates.len(),
                    r.entropy(),
                    share(r.expert_silence_fraction),
                    by.join(" ")
                );
            }
            if let (Some(rate), Some(active)) = (self.router_firing_rate, self.experts_active_per_token) {
                let _ = writeln!(s, "{:width$}  {:>10.2}%  {:>13.2}", "all routers", 100.0 * rate, active);
            }
        }
        let _ = writeln!(
            s,
            "\nenergy by {}: {} a sample, from {} MAC and {} AC (dense: {} MAC, {})",
            self.energy_convention,
            joules(self.energy_pj),
            count(self.effective_macs),
            count(self.effective_acs),
            count(self.dense_macs),
            self.dense_energy_pj.map_or("-".into(), joules),
        );
        let _ = writeln!(s, "  {}", HOROWITZ45_FP32.about);
        if self.skipped_sops > 0.0 {
            let _ = writeln!(s, "  left out behind closed gates: {} AC", count(self.skipped_sops));
        }
        let _ = writeln!(
            s,
            "  counted on {} samples, all steps of a clip; dense: every multiply-add at every step, zeros included",
            self.samples_counted
        );
        s
    }
}

/// A share in few letters: whole per cents, of which 0 and 100 are said of nothing else.
pub fn share(v: f64) -> String {
    match 100.0 * v {
        p if p > 0.0 && p < 1.0 => "<1%".into(),
        p if p > 99.0 && p < 100.0 => ">99%".into(),
        p => format!("{p:.0}%"),
    }
}

/// `12.34%`; of tiny shares more digits.
pub fn percent(v: f64) -> String {
    match 100.0 * v {
        p if p > 0.0 && p < 0.005 => format!("{p:.1e}%"),
        p => format!("{p:.2}%"),
    }
}

/// `1.25 M` for 1,250,000.
pub fn count(v: f64) -> String {
    scaled(v, &["", " k", " M", " G", " T"])
}

/// `1.25 uJ` for 1,250,000 pJ.
pub fn joules(pj: f64) -> String {
    scaled(pj, &[" pJ", " nJ", " uJ", " mJ", " J"])
}

fn scaled(v: f64, units: &[&str]) -> String {
    let mut v = v;
    let mut unit = 0;
    while v >= 999.5 && unit + 1 < units.len() {
        v /= 1000.0;
        unit += 1;
    }
    let digits = if v >= 99.95 || v == 0.0 { 0 } else { 2 };
    format!("{v:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::tensor::Tensor;

    #[test]
    fn numbers_have_units() {
        assert_eq!([0.0, 1.5, 999.0, 999.6, 1.25e6, 3e15].map(count), ["0", "1.50", "999", "1.00 k", "1.25 M", "3000 T"]);
        assert_eq!(joules(2.5e9), "2.50 mJ");
        assert_eq!([0.0, 0.004, 0.5, 0.986, 0.996, 1.0].map(share), ["0%", "<1%", "50%", "99%", ">99%", "100%"]);
        assert_eq!([0.0, 3e-6, 0.12345].map(percent), ["0.00%", "3.0e-4%", "12.35%"]);
    }

    #[test]
    fn means_a_sample() {
        let mut c = Counts::default();
        c.samples += 4;
        c.operation("head", "linear", Cost { macs: 8, acs: 0, dense: 16, ..Cost::default() });
        c.operation("block.q", "linear", Cost { macs: 0, acs: 40, dense: 400, ..Cost::default() });
        c.operation("block.lif", "neuron", Cost { neuron_updates: 80, ..Cost::default() });
        c.spikes("block.lif", &Tensor::spikes_from_f32(&Device::Cpu, &[2, 4], &[1., 0., 0., 0., 1., 0., 0., 0.]).unwrap(), None)
            .unwrap();
        c.routers.push(RouterRow { name: "block.router".into(), open: vec![6, 2], tokens: 8, ..RouterRow::default() });
        let a = Activity::of(&c);
        assert_eq!((a.effective_macs, a.effective_acs, a.dense_macs, a.neuron_updates), (2.0, 10.0, 104.0, 20.0));
        assert!((a.energy_pj - (2.0 * 4.6 + 10.0 * 0.9)).abs() < 1e-9);
        assert_eq!((a.firing_rate, a.router_firing_rate, a.experts_active_per_token), (0.25, Some(0.5), Some(1.0)));
        assert_eq!((a.layers.len(), a.operations.len(), a.routers[0].expert_rates.clone()), (1, 2, vec![0.75, 0.25]));
        let text = a.text();
        assert!(
            text.contains("block.lif") && text.contains("25.00%") && text.contains("horowitz45-fp32: 18.20 pJ a sample"),
            "{text}"
        );
    }
}
