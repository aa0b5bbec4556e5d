//! Rows that a gate needs, or that differ from others, and maps of those rows alone. For inference: batch norms in training take their
//! statistics from every row.

use super::none;
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::active::{
    Alike, AlikeU, KeyValue as KeyValueKernel, KeyValueU, Linear, LinearU, List, ListU, Plan, Query, QueryU, SKIP, Spread,
    SpreadU,
};
use crate::kernel::gate::{Samples, SamplesU};
use crate::kernel::words;
use crate::ops::attention::KeyValue;
use crate::tensor::{Repr, Tensor, launch, launch1};

const WORDS: Repr = Repr::Bits { planes: 1 };
/// Share of rows that differ below which the CPU leaves out the others: it writes what it spreads once more.
const ALIKE_BELOW: f64 = 0.75;

pub use crate::kernel::active::Closed;

/// The rows (step, sample, token) that are computed, of all: those that gates need ([`Active::of`], [`Active::of_samples`]) or that differ
/// ([`Active::alike`]). They are listed on the device, where their number stays on a GPU.
#[derive(Clone)]
pub struct Active {
    /// `[T, B, N..]`
    lead: Vec<usize>,
    /// What neurons go by ([`Plan`]): words, which are rows of 32 bits.
    plan: Tensor,
    /// The active rows in order, words.
    list: Tensor,
    /// How many: one word.
    count: Tensor,
    /// Rows to make room for: their number where it is at hand, else all rows.
    room: usize,
    /// What the steps that are left out mean.
    closed: Closed,
    /// Where places share the neurons of others: whose, of each place. Rows share currents then.
    home: Option<Tensor>,
}

/// The shape of so many words, which are rows of 32 bits.
fn words_shape(words: usize) -> [usize; 2] {
    [words, 32]
}

impl Active {
    /// Of the gates r `[T, B, N.., experts]` those of one expert. With [`Closed::Heard`] a row is active while its gate is open at this step or a
    /// later one: what is left out can be heard by nobody, and results are the same to the bit. Else only open rows are active, and a closed step
    /// is one without input.
    ///
    /// # Errors
    /// Gates that are no spikes.
    pub fn of(r: &Tensor, expert: usize, closed: Closed) -> Result<Self> {
        if r.expect_bits("active")? != 1 || expert >= r.channels() || r.shape().len() < 2 {
            return Err(Error::shape("active", format!("expert {expert} of gates {r:?}")));
        }
        let lead = r.shape()[..r.shape().len() - 1].to_vec();
        let (all, steps) = (r.rows(), lead[0]);
        let u = ListU {
            steps: steps as u32,
            rows: all.checked_div(steps).unwrap_or(0) as u32,
            experts: r.channels() as u32,
            expert: expert as u32,
            idle: closed as u32,
        };
        let sizes = [Plan::len(steps, u.rows as usize), all, 1].map(words_shape);
        let outs = launch(r.device(), &List, &u, &[r], &sizes.each_ref().map(|s| (&s[..], WORDS)))?;
        let [plan, list, count]: [Tensor; 3] = outs.try_into().map_err(|_| Error::shape("active", "no output"))?;
        let room = r.device().at_hand(count.storage()).map_or(all, |n| n as usize);
        Ok(Active { lead, plan, list, count, room, closed, home: None })
    }
    /// Of x, spikes `[T, B, N.., c]`, the rows that differ as far as maps and neurons from rest go: those with spikes, and one that stands
    /// for all without. None where it is known without waiting (not on a GPU) that these are hardly fewer than all.
    ///
    /// # Errors
    /// What are no spikes, and what has no steps.
    pub fn alike(x: &Tensor) -> Result<Option<Self>> {
        let planes = x.expect_bits("alike")?;
        if x.shape().len() < 2 {
            return Err(Error::shape("alike", format!("{x:?} has no steps")));
        }
        let (lead, all) = (x.shape()[..x.shape().len() - 1].to_vec(), x.rows());
        let steps = lead.first().copied().unwrap_or(0);
        let rows = all.checked_div(steps).unwrap_or(0);
        let u = AlikeU { steps: steps as u32, rows: rows as u32, planes: planes as u32, c: x.channels() as u32 };
        let sizes = [Plan::len(steps, rows), all, 1, rows].map(words_shape);
        let outs = launch(x.device(), &Alike, &u, &[x], &sizes.each_ref().map(|s| (&s[..], WORDS)))?;
        let [plan, list, count, home]: [Tensor; 4] = outs.try_into().map_err(|_| Error::shape("alike", "no output"))?;
        let room = x.device().at_hand(count.storage()).map(|n| n as usize);
        let pays = room.is_none_or(|n| (n as f64) < ALIKE_BELOW * all as f64);
        let room = room.unwrap_or(all);
        Ok(pays.then_some(Active { lead, plan, list, count, room, closed: Closed::Heard, home: Some(home) }))
    }
    /// All rows of each sample up to the last step at which any of its gates is open: what keys and values are needed for. None where it is
    /// known without waiting (not on a GPU) that all rows are active.
    ///
    /// # Errors
    /// Gates that are no spikes.
    pub fn of_samples(r: &Tensor) -> Result<Option<Self>> {
        let (device, shape) = (r.device(), r.shape());
        if shape.len() < 2 {
            return Ok(None);
        }
        let samples = shape[0] * shape[1];
        if device.at_hand(r.storage()).is_none() {
            let places = r.rows().checked_div(samples).unwrap_or(0);
            let u = SamplesU { samples: samples as u32, places: places as u32, experts: r.channels() as u32 };
            let lead = [&shape[..shape.len() - 1], &[1]].concat();
            return Active::of(&launch1(&Samples, &u, &[r], &lead, WORDS)?, 0, Closed::Heard).map(Some);
        }
        let bits = r.words()?;
        let tokens = r.rows() / samples;
        let open = bits.chunks_exact(bits.len() / samples).flat_map(|s| vec![u32::from(s.iter().any(|w| *w != 0)); tokens]);
        let lead = [&shape[..shape.len() - 1], &[1]].concat();
        let open = Tensor::new(device, &lead, WORDS, device.upload(&open.collect::<Vec<_>>())?)?;
        Ok(Some(Active::of(&open, 0, Closed::Heard)?).filter(|a| a.room < r.rows()))
    }
    /// Whether it is known without waiting that no row is active.
    pub fn is_empty(&self) -> bool {
        self.room == 0
    }
    /// `[T, B, N.., c]`
    pub fn shape(&self, c: usize) -> Vec<usize> {
        self.lead.iter().copied().chain([c]).collect()
    }
    /// Whether places share the neurons of others.
    pub(super) fn shares(&self) -> bool {
        self.home.is_some()
    }
    /// What neurons go by.
    pub(super) fn plan(&self) -> &Tensor {
        &self.plan
    }
    /// Spikes of the places that were computed, at all places `[T, B, N.., c]`.
    pub(super) fn spread_spikes(&self, s: Tensor) -> Result<Tensor> {
        let Some(home) = &self.home else { return Ok(s) };
        let (steps, rows, n) = (self.lead[0], home.rows(), words(s.channels()));
        let u = SpreadU { steps: steps as u32, rows: rows as u32, n: n as u32, first: 0 };
        launch1(&Spread, &u, &[&s, home], s.shape(), s.repr())
    }
    /// Whether time passes in the rows that are left out.
    pub fn idles(&self) -> bool {
        self.closed != Closed::Heard
    }
    /// Rows in which neurons are updated.
    pub(super) fn updates(&self) -> Result<usize> {
        let (plan, places) = (self.plan.words()?, self.lead.iter().skip(1).product::<usize>());
        let Plan { places: listed, slots } = Plan::of(&plan, places);
        let lives = |step: &[u32]| listed.iter().filter(|p| step[**p as usize] != SKIP).count();
        Ok(slots.chunks_exact(places.max(1)).map(lives).sum())
    }
    /// The active rows; reads them back.
    pub fn rows(&self) -> Result<Vec<u32>> {
        let n = self.count.words()?.first().copied().unwrap_or(0) as usize;
        let mut list = self.list.words()?;
        list.truncate(n);
        Ok(list)
    }
    /// Spikes of x `[T, B, N.., c]` in the active rows; reads them back.
    fn spikes(&self, x: &Tensor) -> Result<u64> {
        let (bits, rows, nw) = (x.words()?, x.rows(), words(x.channels()));
        let ones = |row: usize| (0..x.planes()).flat_map(move |p| (p * rows + row) * nw..(p * rows + row + 1) * nw);
        Ok(self.rows()?.iter().flat_map(|&row| ones(row as usize)).map(|at| u64::from(bits[at].count_ones())).sum())
    }
    fn expect(&self, op: &str, x: &Tensor) -> Result<()> {
        match x.is_bits() && x.shape()[..x.shape().len() - 1] == self.lead {
            true => Ok(()),
            false => Err(Error::shape(op, format!("{x:?} for rows of {:?}", self.lead))),
        }
    }
}

/// What backward says where some rows are missing.
pub(super) fn no_backward(op: &str) -> Error {
    Error::shape(op, "active rows have no backward")
}

/// x spikes `[T, B, N.., Ci]`, w `[Ci, Co]`, and optionally bias `[Co]` -> y `[rows, Co]` of the active rows alone.
pub struct ActiveLinear(pub Active);

impl Op for ActiveLinear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w) = (x[0], x[1]);
        self.0.expect(self.name(), input)?;
        let cin = input.channels();
        let &[wi, cout] = w.shape() else { return Err(Error::shape(self.name(), format!("weight {:?}", w.shape()))) };
        if wi != cin {
            return Err(Error::shape(self.name(), format!("input {:?} for weight [{wi}, {cout}]", input.shape())));
        }
        let empty = none(input.device())?;
        let bias = x.get(2).copied().unwrap_or(&empty);
        let u = LinearU {
            rows: input.rows() as u32,
            planes: input.planes() as u32,
            cin: cin as u32,
            cout: cout as u32,
            has_bias: u32::from(x.len() > 2),
        };
        let a = &self.0;
        let y = launch1(&Linear, &u, &[input, &a.list, &a.count, w, bias], &[a.room, cout], Repr::F32)?;
        Ok(Forward::one(y, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let (input, cout) = (x[0], x[1].shape()[1] as u64);
        let (done, all) = (self.0.spikes(input)?, crate::counts::set_bits(&x[..1])?);
        Ok(Cost { acs: done * cout, skipped: (all - done) * cout, dense: input.len() as u64 * cout, ..Cost::default() })
    }
}

/// Currents y `[rows, c]` of rows that others share ([`Active::alike`]) -> those of all rows `[T, B, N.., c]`.
pub struct SharedCurrents(pub Active);

impl Op for SharedCurrents {
    fn name(&self) -> &'static str {
        // Under one name with the map: its time is that row's.
        "linear"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (y, a) = (x[0], &self.0);
        y.expect_f32(self.name())?;
        let (all, c, places) = (a.list.rows(), y.channels(), a.lead.iter().skip(1).product::<usize>());
        let u = SpreadU { steps: 1, rows: all as u32, n: c as u32, first: 1 + places as u32 };
        Ok(Forward::one(launch1(&Spread, &u, &[y, &a.plan], &a.shape(c), Repr::F32)?, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
}

/// k spikes `[T, B, N.., dk]`, v spikes `[T, B, N.., dv]` -> K^T V `[T, B, 1, dk, dv]` of the samples and steps whose rows are active
/// ([`Active::of_samples`]); zero for others.
pub struct ActiveKeyValue(pub Active);

impl Op for ActiveKeyValue {
    fn name(&self) -> &'static str {
        "key_value"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (k, v, a) = (x[0], x[1], &self.0);
        a.expect(self.name(), k)?;
        a.expect(self.name(), v)?;
        let (dk, dv, groups) = (k.channels(), v.channels(), a.lead[0] * a.lead[1]);
        let tokens = k.rows().checked_div(groups).unwrap_or(0);
        let u = KeyValueU { groups: groups as u32, tokens: tokens as u32, dk: dk as u32, dv: dv as u32 };
        let y = launch1(&KeyValueKernel, &u, &[k, v, &a.list, &a.count], &[a.lead[0], a.lead[1], 1, dk, dv], Repr::F32)?;
        Ok(Forward::one(y, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // Keys and values of other rows are silent.
        KeyValue { heads: 1 }.cost(x)
    }
}

/// q spikes `[T, B, N.., dk]`, kv `[T, B, 1, dk, dv]` -> scale Q (K^T V) `[rows, dv]` of the active rows alone.
pub struct ActiveQuery {
    /// The rows.
    pub active: Active,
    /// Factor.
    pub scale: f32,
}

impl Op for ActiveQuery {
    fn name(&self) -> &'static str {
        "query"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (q, kv, a) = (x[0], x[1], &self.active);
        a.expect(self.name(), q)?;
        let (dk, dv, groups) = (q.channels(), kv.channels(), a.lead[0] * a.lead[1]);
        if kv.shape() != [a.lead[0], a.lead[1], 1, dk, dv] {
            return Err(Error::shape(self.name(), format!("queries {q:?} for {kv:?}")));
        }
        let rows = q.rows();
        let tokens = rows.checked_div(groups).unwrap_or(0);
        let u = QueryU { rows: rows as u32, tokens: tokens as u32, dk: dk as u32, dv: dv as u32, scale: self.scale };
        let y = launch1(&Query, &u, &[q, &a.list, &a.count, kv], &[a.room, dv], Repr::F32)?;
        Ok(Forward::one(y, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // Each query spike adds a row of dv integers. Where time passes behind closed gates, queries may fire that nobody asks for.
        let dv = x[1].channels() as u64;
        Ok(Cost { acs: self.active.spikes(x[0])? * dv, dense: x[0].len() as u64 * dv, ..Cost::default() })
    }
}
