//! What a run is counted to have done: spikes, synaptic operations, router decisions. Filled in by [`crate::ctx::Ctx`] where one is
//! given to it; everything is counted from the spikes that were there, nothing is assumed.
//!
//! - **AC**: an addition of a weight (or of an integer) because a spike arrived. A spike of an integer-valued map counts as often as its
//!   value. Only targets inside the image count: a spike at a border reaches fewer.
//! - **MAC**: a multiplication with an addition, where the input is not a spike. Zero inputs are not counted (*effective*).
//! - **dense**: multiply-adds a dense network of that shape would do.

use crate::error::Result;
use crate::tensor::Tensor;
use serde::Serialize;
use std::collections::HashMap;

/// Synaptic operations of one operation on one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Multiply-adds with inputs that are not spikes, zero inputs left out.
    pub macs: u64,
    /// Additions caused by spikes.
    pub acs: u64,
    /// Multiply-adds of a dense network.
    pub dense: u64,
    /// Neuron updates (one for each neuron and step).
    pub neuron_updates: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, o: Self) {
        self.macs += o.macs;
        self.acs += o.acs;
        self.dense += o.dense;
        self.neuron_updates += o.neuron_updates;
    }
}

/// Counts of one module.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Path of the module.
    pub name: String,
    /// The operation.
    pub op: String,
    /// Operations.
    pub cost: Cost,
    /// Spikes emitted.
    pub spikes: u64,
    /// Neurons x steps x samples that could have emitted one.
    pub opportunities: u64,
}

impl Row {
    /// Spikes a neuron and step.
    pub fn rate(&self) -> f64 {
        self.spikes as f64 / self.opportunities.max(1) as f64
    }
}

/// What one spiking router decided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouterRow {
    /// Path of the router.
    pub name: String,
    /// Open gates of each expert.
    pub open: Vec<u64>,
    /// (step, sample, token) triples routed.
    pub tokens: u64,
}

impl RouterRow {
    /// Mean of the router's spikes: open gates over all gates.
    pub fn firing_rate(&self) -> f64 {
        self.active_per_token() / self.open.len().max(1) as f64
    }
    /// Open gates a token and step.
    pub fn active_per_token(&self) -> f64 {
        self.open.iter().sum::<u64>() as f64 / self.tokens.max(1) as f64
    }
    /// Entropy of the load over the experts, divided by its largest value ln m: 1 = even, 0 = one expert takes all.
    pub fn load_entropy(&self) -> f64 {
        let total = self.open.iter().sum::<u64>() as f64;
        let m = self.open.len() as f64;
        if total == 0.0 || m < 2.0 {
            return 0.0;
        }
        let h: f64 = self.open.iter().filter(|&&o| o > 0).map(|&o| o as f64 / total).map(|p| -p * p.ln()).sum();
        h / m.ln()
    }
    /// Fraction of the experts whose gate never opened.
    pub fn silence_fraction(&self) -> f64 {
        self.open.iter().filter(|&&o| o == 0).count() as f64 / self.open.len().max(1) as f64
    }
}

/// All counts of a run, in the order in which modules ran first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Samples counted.
    pub samples: u64,
    /// By module and operation.
    pub rows: Vec<Row>,
    /// By router.
    pub routers: Vec<RouterRow>,
    #[serde(skip)]
    index: HashMap<(String, String), usize>,
}

impl Counts {
    fn row(&mut self, name: &str, op: &str) -> &mut Row {
        let rows = &mut self.rows;
        let i = *self.index.entry((name.to_string(), op.to_string())).or_insert_with(|| {
            rows.push(Row { name: name.to_string(), op: op.to_string(), ..Row::default() });
            rows.len() - 1
        });
        &mut self.rows[i]
    }
    /// Adds the cost of one operation.
    pub fn operation(&mut self, place: &str, op: &str, cost: Cost) {
        self.row(place, op).cost += cost;
    }
    /// Counts the spikes that a neuron layer emitted.
    pub fn spikes(&mut self, place: &str, s: &Tensor) -> Result<()> {
        let n: u64 = s.words()?.iter().map(|w| u64::from(w.count_ones())).sum();
        let row = self.row(place, "neuron");
        row.spikes += n;
        row.opportunities += s.len() as u64;
        Ok(())
    }
    /// Counts the gates that a router opened: `r` is `[T, B, N, experts]` spikes.
    pub fn router(&mut self, place: &str, r: &Tensor) -> Result<()> {
        let (v, m) = (r.to_vec()?, r.channels());
        let i = match self.routers.iter().position(|x| x.name == place) {
            Some(i) => i,
            None => {
                self.routers.push(RouterRow { name: place.to_string(), open: vec![0; m], tokens: 0 });
                self.routers.len() - 1
            }
        };
        let row = &mut self.routers[i];
        row.tokens += r.rows() as u64;
        for token in v.chunks(m.max(1)) {
            row.open.iter_mut().zip(token).for_each(|(o, &g)| *o += g as u64);
        }
        Ok(())
    }
    /// Sum over all modules.
    pub fn total(&self) -> Cost {
        let mut t = Cost::default();
        self.rows.iter().for_each(|r| t += r.cost);
        t
    }
    /// Rows of neuron layers.
    pub fn neurons(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.opportunities > 0)
    }
    /// Spikes a neuron and step over the whole network.
    pub fn firing_rate(&self) -> f64 {
        let (s, n) = self.neurons().fold((0, 0), |(s, n), r| (s + r.spikes, n + r.opportunities));
        s as f64 / n.max(1) as f64
    }
    /// Mean over routers of [`RouterRow::firing_rate`]; none without routers.
    pub fn router_firing_rate(&self) -> Option<f64> {
        self.mean_router(RouterRow::firing_rate)
    }
    /// Mean over routers of [`RouterRow::active_per_token`]; none without routers.
    pub fn experts_active_per_token(&self) -> Option<f64> {
        self.mean_router(RouterRow::active_per_token)
    }
    fn mean_router(&self, f: impl Fn(&RouterRow) -> f64) -> Option<f64> {
        (!self.routers.is_empty()).then(|| self.routers.iter().map(f).sum::<f64>() / self.routers.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_metrics_by_hand() {
        let r = RouterRow { name: "r".into(), open: vec![6, 2, 0, 0], tokens: 4 };
        assert_eq!(r.active_per_token(), 2.0);
        assert_eq!(r.firing_rate(), 0.5);
        assert_eq!(r.silence_fraction(), 0.5);
        let h = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln()) / 4f64.ln();
        assert!((r.load_entropy() - h).abs() < 1e-12);
    }
}
