//! What a run is counted to have done: spikes, synaptic operations, router decisions. Filled in by [`crate::ctx::Ctx`] where one is
//! given to it; everything is counted from the spikes that were there, nothing is assumed.
//!
//! - **AC**: an addition of a weight (or of an integer) because a spike arrived. A spike of an integer-valued map counts as often as its
//!   value. Only targets inside the image count: a spike at a border reaches fewer.
//!   Those that integer spikes caused are also counted apart.
//! - **MAC**: a multiplication with an addition, where the input is not a spike. Zero inputs are not counted (*effective*).
//! - **dense**: multiply-adds a dense network of that shape would do.
//!
//! How much is kept says [`Keep`]; what a report of `spikemix profile` needs beyond operations costs read-backs and is off by default.

use crate::error::{Error, Result};
use crate::padding::Padding;
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
    /// Of `dense`, those of layers whose input is of floats.
    pub float_dense: u64,
    /// Of `dense`, those of layers whose input is of integer spikes, several planes, whatever values occurred.
    pub integer_dense: u64,
    /// Neuron updates (one for each neuron and step).
    pub neuron_updates: u64,
    /// Of `acs`, those by spikes of an integer-valued map (a residual of spikes, a sum of experts).
    pub integer_acs: u64,
    /// The same as multiply-adds by whole integers: each nonzero value counts once. Not part of `macs`; only under [`Keep::detail`].
    pub integer_macs: u64,
    /// Additions that were not done because a gate was closed, counted from spikes that are there. Not part of `acs`. Additions for
    /// spikes that were never computed (those of skipped queries) cannot be counted and are not in it.
    pub skipped: u64,
}

/// What [`Counts`] keep of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Operations and spikes.
    pub operations: bool,
    /// Also rates by sample and by step, silent and saturated neurons, spikes in and out, bytes moved, gates by step. For whole clips:
    /// steps are numbered from the first of each call.
    pub detail: bool,
    /// Seconds by operation, each waited for. Best alone: counting reads buffers between the operations.
    pub seconds: bool,
    /// The spikes themselves, of every neuron layer and router.
    pub clip: bool,
    /// Which neurons' membranes change at each step. Closed gates skip nothing then: a membrane that nobody asked for did not move.
    pub membranes: bool,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { operations: true, detail: false, seconds: false, clip: false, membranes: false }
    }
}

impl Cost {
    /// With the dense multiply-adds of a layer by the type of its input `x`.
    pub fn by_input(mut self, x: &Tensor) -> Self {
        match x.planes() {
            0 => self.float_dense = self.dense,
            1 => {}
            _ => self.integer_dense = self.dense,
        }
        self
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, o: Self) {
        self.macs += o.macs;
        self.acs += o.acs;
        self.dense += o.dense;
        self.float_dense += o.float_dense;
        self.integer_dense += o.integer_dense;
        self.neuron_updates += o.neuron_updates;
        self.integer_acs += o.integer_acs;
        self.integer_macs += o.integer_macs;
        self.skipped += o.skipped;
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
    /// Elements of the first output.
    #[serde(skip)]
    pub elements: u64,
    /// Spikes emitted.
    pub spikes: u64,
    /// Neurons x steps x samples that could have emitted one.
    pub opportunities: u64,
    /// Set bits of the packed inputs ([`Keep::detail`]).
    pub spikes_in: u64,
    /// Set bits of the packed outputs ([`Keep::detail`]).
    pub spikes_out: u64,
    /// Bytes of all buffers that its kernels read or wrote, each once a launch ([`Keep::detail`]).
    pub bytes: u64,
    /// Wall time ([`Keep::seconds`]).
    pub seconds: f64,
    /// Neurons x steps x samples whose membrane is another after the step than before it, at the first step all ([`Keep::membranes`]).
    pub membrane_updates: u64,
    /// Of a neuron layer ([`Keep::detail`]).
    #[serde(skip)]
    pub detail: Option<Detail>,
    /// The tensors of spikes that came in last.
    #[serde(skip)]
    came: Vec<u64>,
}

/// What each neuron of a layer did. A neuron is a place and a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// Neurons of the layer.
    pub neurons: u64,
    /// Spikes by step, summed over samples.
    pub by_step: Vec<u64>,
    /// How many samples have that step.
    pub samples: Vec<u64>,
    /// Spikes by sample, summed over steps.
    pub by_sample: Vec<u64>,
    /// How many steps that sample has.
    pub steps: Vec<u64>,
    ever: Vec<u32>,
    always: Vec<u32>,
}

impl Detail {
    /// Neurons that never fired.
    pub fn silent(&self) -> u64 {
        self.neurons - ones(&self.ever).min(self.neurons)
    }
    /// Neurons that fired at every step of every sample.
    pub fn saturated(&self) -> u64 {
        ones(&self.always)
    }
    /// Adds packed spikes `[T, B, .., C]`.
    fn add(&mut self, s: &Tensor, words: &[u32], padding: Option<&Padding>) -> Result<()> {
        let &[t, b, ..] = s.shape() else { return Err(Error::shape("counts", format!("spikes {:?}", s.shape()))) };
        let size = words.len().checked_div(t * b).unwrap_or(0);
        if size == 0 {
            return Ok(());
        }
        if self.ever.is_empty() {
            self.neurons = (s.len() / (t * b)) as u64;
            (self.ever, self.always) = (vec![0; size], vec![!0; size]);
        }
        if self.ever.len() != size {
            return Err(Error::shape("counts", format!("{} words of spikes a step, before {}", size, self.ever.len())));
        }
        let first = self.by_sample.len();
        for v in [&mut self.by_sample, &mut self.steps] {
            v.resize(first + b, 0);
        }
        for v in [&mut self.by_step, &mut self.samples] {
            v.resize(v.len().max(t), 0);
        }
        for (i, slab) in words.chunks_exact(size).enumerate() {
            let (t, b) = (i / b, i % b);
            if padding.is_some_and(|p| !p.is_real(t, b)) {
                continue;
            }
            let n = ones(slab);
            self.by_step[t] += n;
            self.samples[t] += 1;
            self.by_sample[first + b] += n;
            self.steps[first + b] += 1;
            self.ever.iter_mut().zip(slab).for_each(|(e, w)| *e |= w);
            self.always.iter_mut().zip(slab).for_each(|(a, w)| *a &= w);
        }
        Ok(())
    }
}

/// Set bits.
fn ones(words: &[u32]) -> u64 {
    words.iter().map(|w| u64::from(w.count_ones())).sum()
}

/// Set bits of all packed tensors among `x`.
pub fn set_bits(x: &[&Tensor]) -> Result<u64> {
    x.iter().filter(|t| t.is_bits()).try_fold(0, |n, t| Ok(n + ones(&t.words()?)))
}

impl Row {
    /// Whether this is an operation of attention, which some conventions do not count.
    pub fn is_attention(&self) -> bool {
        is_attention(&self.op)
    }
    /// Spikes a neuron and step.
    pub fn rate(&self) -> f64 {
        self.spikes as f64 / self.opportunities.max(1) as f64
    }
}

/// Whether the operation of this name is one of attention: a product, or SDSA's sum over tokens.
pub fn is_attention(op: &str) -> bool {
    ["key_value", "query", "scores", "mix", "token_sum"].contains(&op)
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
    /// Open gates of each expert at each step ([`Keep::detail`]).
    #[serde(skip)]
    pub by_step: Vec<Vec<u64>>,
    /// Tokens at each step ([`Keep::detail`]).
    #[serde(skip)]
    pub tokens_by_step: Vec<u64>,
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
    /// Entropy of the load over the experts, divided by its largest value ln m: 1 = even, 0 = one expert takes all. None where no gate
    /// opened, and of a single expert.
    pub fn load_entropy(&self) -> Option<f64> {
        let total = self.open.iter().sum::<u64>() as f64;
        let m = self.open.len() as f64;
        if total == 0.0 || m < 2.0 {
            return None;
        }
        let h: f64 = self.open.iter().filter(|&&o| o > 0).map(|&o| o as f64 / total).map(|p| p * (1.0 / p).ln()).sum();
        Some(h / m.ln())
    }
    /// The same for one step of the clips.
    pub fn step(&self, t: usize) -> Option<RouterRow> {
        let (open, tokens) = (self.by_step.get(t)?.clone(), *self.tokens_by_step.get(t)?);
        Some(RouterRow { name: self.name.clone(), open, tokens, ..RouterRow::default() })
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
    /// What is kept.
    #[serde(skip)]
    pub keep: Keep,
    /// Spikes `[T, B, .., C]` of each neuron layer, in the order in which they fired ([`Keep::clip`]).
    #[serde(skip)]
    pub clip: Vec<(String, Tensor)>,
    /// Gates `[T, B, N.., experts]` of each router ([`Keep::clip`]).
    #[serde(skip)]
    pub clip_gates: Vec<(String, Tensor)>,
    #[serde(skip)]
    gated: HashMap<(String, String), u64>,
    #[serde(skip)]
    index: HashMap<(String, String), usize>,
}

impl Counts {
    /// That keep what `keep` says.
    pub fn keeping(keep: Keep) -> Self {
        Counts { keep, ..Counts::default() }
    }
    fn row(&mut self, name: &str, op: &str) -> &mut Row {
        let rows = &mut self.rows;
        let i = *self.index.entry((name.to_string(), op.to_string())).or_insert_with(|| {
            rows.push(Row { name: name.to_string(), op: op.to_string(), ..Row::default() });
            rows.len() - 1
        });
        &mut self.rows[i]
    }
    /// Adds the elements of an operation's first output.
    pub fn elements(&mut self, place: &str, op: &str, elements: u64) {
        self.row(place, op).elements += elements;
    }
    /// Adds the cost of one operation.
    pub fn operation(&mut self, place: &str, op: &str, cost: Cost) {
        self.row(place, op).cost += cost;
    }
    /// Counts the spikes `[T, B, .., C]` that a neuron layer emitted, of a padded batch those at real steps.
    pub fn spikes(&mut self, place: &str, s: &Tensor, padding: Option<&Padding>) -> Result<()> {
        if self.keep.clip {
            self.clip.push((place.to_string(), s.clone()));
        }
        if !self.keep.operations {
            return Ok(());
        }
        let words = s.words()?;
        let detail = self.keep.detail;
        let row = self.row(place, "neuron");
        match padding {
            None => {
                row.spikes += ones(&words);
                row.opportunities += s.len() as u64;
            }
            Some(p) => {
                row.spikes += ones(&p.real(s)?.words()?);
                row.opportunities += (p.real_rows(s) * s.channels()) as u64;
            }
        }
        if detail {
            row.detail.get_or_insert_default().add(s, &words, padding)?;
        }
        Ok(())
    }
    /// Counts changes of the membranes `v` `[T, B, .., C]` after each step of a neuron layer, of a padded batch those at real steps.
    pub fn membranes(&mut self, place: &str, v: &Tensor, padding: Option<&Padding>) -> Result<()> {
        let &[steps, batch, ..] = v.shape() else { return Err(Error::shape("counts", format!("membranes {:?}", v.shape()))) };
        let v = v.to_vec()?;
        let size = v.len().checked_div(steps * batch).unwrap_or(0);
        let of = |t: usize, b: usize| &v[(t * batch + b) * size..(t * batch + b + 1) * size];
        let real = |t: usize, b: usize| padding.is_none_or(|p| p.is_real(t, b));
        let pairs = (0..steps).flat_map(|t| (0..batch).map(move |b| (t, b))).filter(|&(t, b)| real(t, b));
        let changed = |(t, b): (usize, usize)| match t {
            0 => size,
            _ => of(t - 1, b).iter().zip(of(t, b)).filter(|(before, after)| before != after).count(),
        };
        self.row(place, "neuron").membrane_updates += pairs.map(|p| changed(p) as u64).sum::<u64>();
        Ok(())
    }
    /// Adds spikes in and out, and bytes moved. `came` are the tensors of spikes that came in: a layer that is run in parts counts them once.
    pub fn traffic(&mut self, place: &str, op: &str, came: Vec<u64>, spikes_in: u64, spikes_out: u64, bytes: u64) {
        let row = self.row(place, op);
        if row.came != came {
            row.spikes_in += spikes_in;
        }
        row.came = came;
        row.spikes_out += spikes_out;
        row.bytes += bytes;
    }
    /// Adds synaptic operations whose results meet a closed gate at operation `op` of `place`; they are done all the same.
    pub fn add_gated(&mut self, place: &str, op: &str, operations: u64) {
        *self.gated.entry((place.to_string(), op.to_string())).or_default() += operations;
    }
    /// What [`Counts::add_gated`] added for `op` of `place`.
    pub fn gated(&self, place: &str, op: &str) -> u64 {
        self.gated.get(&(place.to_string(), op.to_string())).copied().unwrap_or(0)
    }
    /// Adds wall time.
    pub fn seconds(&mut self, place: &str, op: &str, seconds: f64) {
        self.row(place, op).seconds += seconds;
    }
    /// Counts the gates that a router opened: `r` is `[T, B, N.., experts]` spikes, of a padded batch those at real steps count.
    pub fn router(&mut self, place: &str, r: &Tensor, padding: Option<&Padding>) -> Result<()> {
        if self.keep.clip {
            self.clip_gates.push((place.to_string(), r.clone()));
        }
        if !self.keep.operations {
            return Ok(());
        }
        let (v, m, detail) = (r.to_vec()?, r.channels(), self.keep.detail);
        let i = match self.routers.iter().position(|x| x.name == place) {
            Some(i) => i,
            None => {
                self.routers.push(RouterRow { name: place.to_string(), open: vec![0; m], ..RouterRow::default() });
                self.routers.len() - 1
            }
        };
        let row = &mut self.routers[i];
        let &[steps, batch, ..] = r.shape() else { return Err(Error::shape("counts", format!("gates {:?}", r.shape()))) };
        let group = v.len().checked_div(steps * batch).unwrap_or(0).max(1);
        if detail && row.by_step.len() < steps {
            row.by_step.resize(steps, vec![0; m]);
            row.tokens_by_step.resize(steps, 0);
        }
        for (i, gates) in v.chunks(group).enumerate() {
            let (t, b) = (i / batch, i % batch);
            if padding.is_some_and(|p| !p.is_real(t, b)) {
                continue;
            }
            let tokens = (gates.len() / m.max(1)) as u64;
            row.tokens += tokens;
            row.tokens_by_step.get_mut(t).into_iter().for_each(|n| *n += tokens);
            for token in gates.chunks(m.max(1)) {
                row.open.iter_mut().zip(token).for_each(|(o, &g)| *o += g as u64);
                if let Some(step) = row.by_step.get_mut(t) {
                    step.iter_mut().zip(token).for_each(|(o, &g)| *o += g as u64);
                }
            }
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
    use crate::device::Device;

    #[test]
    fn router_metrics_by_hand() {
        let r = RouterRow { name: "r".into(), open: vec![6, 2, 0, 0], tokens: 4, ..RouterRow::default() };
        assert_eq!(r.active_per_token(), 2.0);
        assert_eq!(r.firing_rate(), 0.5);
        assert_eq!(r.silence_fraction(), 0.5);
        let h = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln()) / 4f64.ln();
        assert!((r.load_entropy().unwrap() - h).abs() < 1e-12);
    }

    #[test]
    fn membranes_by_hand() {
        // Three steps, two samples, two neurons; the first step of each counts whole.
        let v = [0., 1., 2., 3., 0., 2., 2., 3., 5., 2., 2., 4.];
        let v = Tensor::from_f32(&Device::Cpu, &[3, 2, 2], &v).unwrap();
        let mut c = Counts::keeping(Keep { operations: false, membranes: true, ..Keep::default() });
        c.membranes("lif", &v, None).unwrap();
        assert_eq!(c.rows[0].membrane_updates, 4 + 1 + 2);
        // The second sample has one step.
        let padding = Padding::new(&Device::Cpu, 3, &[3, 1]).unwrap();
        c.membranes("lif", &v, padding.as_ref()).unwrap();
        assert_eq!(c.rows[0].membrane_updates, 7 + 4 + 1 + 1);
    }

    #[test]
    fn neurons_by_hand() {
        // Two steps, two samples, three neurons; neuron 0 fires always, neuron 2 never.
        let v = [1., 1., 0., 1., 0., 0., 1., 0., 0., 1., 1., 0.];
        let s = Tensor::spikes_from_f32(&Device::Cpu, &[2, 2, 1, 3], &v).unwrap();
        let mut c = Counts::keeping(Keep { detail: true, ..Keep::default() });
        c.spikes("lif", &s, None).unwrap();
        c.spikes("lif", &s, None).unwrap();
        let d = c.rows[0].detail.clone().unwrap();
        assert_eq!((d.neurons, d.silent(), d.saturated()), (3, 1, 1));
        assert_eq!((d.by_step, d.by_sample), (vec![6, 6], vec![3, 3, 3, 3]));
        assert_eq!(c.rows[0].rate(), 12.0 / 24.0);
        let other = Tensor::spikes_from_f32(&Device::Cpu, &[1, 1, 2, 3], &v[..6]).unwrap();
        assert!(c.spikes("lif", &other, None).is_err());
    }

    #[test]
    fn routers_by_step() {
        let v = [1., 0., 1., 1., 0., 0., 0., 1.];
        let r = Tensor::spikes_from_f32(&Device::Cpu, &[2, 1, 2, 2], &v).unwrap();
        let mut c = Counts::keeping(Keep { detail: true, ..Keep::default() });
        c.router("r", &r, None).unwrap();
        assert_eq!((c.routers[0].open.clone(), c.routers[0].tokens), (vec![2, 2], 4));
        let [a, b] = [0, 1].map(|t| c.routers[0].step(t).unwrap());
        assert_eq!((a.open.clone(), a.tokens, a.firing_rate()), (vec![2, 1], 2, 0.75));
        assert_eq!((b.active_per_token(), b.silence_fraction()), (0.5, 0.5));
        assert!(c.routers[0].step(2).is_none());
    }
}
