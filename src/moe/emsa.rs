//! EMSA: experts mixture spiking attention. Experts have their own queries and share keys and values; a router opens them token by token.

use super::{Router, Semm, Skip, Width, gated};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::neuron::Neuron;
use crate::nn::attention::{Entry, Exit, Residual, token_gate};
use crate::nn::{ConvBn, Kind, Neurons};
use crate::ops::active::{Active, ActiveKeyValue, ActiveQuery, Closed};
use crate::ops::attention::{KeyValue, Query};
use crate::ops::gate::{Mixture, RowGate, TokenGate};
use crate::ops::residual::Residual as Sum;
use crate::params::Build;
use crate::tensor::Tensor;

/// How an expert attends.
enum Attend {
    /// A_i = SN_i(scale Q_i (K^T V)).
    Ssa { attn_lif: Vec<Neurons>, scale: f32 },
    /// A_i = Q_i AND SN(sum over tokens of K AND V), the gate shared by the experts.
    Sdsa { kv_lif: Neurons },
}

/// Y = W_O sum_i r_i A_i, followed by BN and, where the residual adds spikes, a LIF; `[T, B, H, W, D]` to the same.
pub struct Emsa {
    name: String,
    entry: Entry,
    key: (ConvBn, Neurons),
    value: (ConvBn, Neurons),
    queries: Vec<(ConvBn, Neurons)>,
    attend: Attend,
    router: Option<Box<dyn Router>>,
    skip: Skip,
    exit: Exit,
}

/// What the experts' attention is built on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attention {
    /// Spiking self-attention with this scale.
    Ssa(f32),
    /// Spike-driven self-attention; keys, values and queries have the width of an expert whatever [`Semm::width`] says.
    Sdsa,
}

impl Emsa {
    /// Names `k v q.i attn_lif.i router proj` with their `_lif`s (and `in_lif` for currents; `kv_lif` for SDSA).
    pub fn new(
        b: &mut Build<'_>,
        residual: Residual,
        attention: Attention,
        dim: usize,
        semm: &Semm,
        neuron: Neuron,
    ) -> Result<Self> {
        let m = semm.experts;
        let d = semm.expert_dim.unwrap_or(dim / m.max(1));
        let dv = if semm.width == Width::Small || attention == Attention::Sdsa { d } else { dim };
        let gate = neuron.with_threshold(semm.v_threshold);
        let mut one = |name: String, lif: String, width: usize| -> Result<_> {
            Ok((ConvBn::new(b, name, Kind::Pointwise, dim, width)?, Neurons::new(b, &lif, neuron)?))
        };
        let key = one("k".into(), "k_lif".into(), d)?;
        let value = one("v".into(), "v_lif".into(), dv)?;
        let queries = (0..m).map(|i| one(format!("q.{i}"), format!("q_lif.{i}"), d)).collect::<Result<_>>()?;
        let attend = match attention {
            Attention::Ssa(scale) => Attend::Ssa {
                attn_lif: (0..m).map(|i| Neurons::new(b, &format!("attn_lif.{i}"), gate)).collect::<Result<_>>()?,
                scale,
            },
            Attention::Sdsa => Attend::Sdsa { kv_lif: Neurons::new(b, "kv_lif", gate)? },
        };
        Ok(Emsa {
            name: b.path().to_string(),
            entry: Entry::new(b, residual, neuron)?,
            key,
            value,
            queries,
            attend,
            router: semm.router.build(b, dim, m, semm.gate_window, neuron)?,
            skip: semm.skip,
            exit: Exit::new(b, "proj", residual, dv, dim, neuron)?,
        })
    }

    /// The same with another router, whose gates `[T, B, N.., experts]` must be spikes.
    pub fn with_router(mut self, router: Box<dyn Router>) -> Self {
        self.router = Some(router);
        self
    }
    /// What every open gate of a sample needs and all experts share: K^T V, or SDSA's gate. By the gates r `[T, B, N.., experts]` keys and
    /// values are computed up to the last step at which any of the sample is open.
    fn shared(&self, x: &Tensor, gates: Option<&Tensor>, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let asked = match gates {
            Some(r) if cx.skips() && !cx.carries_state() && x.is_bits() => {
                cx.aside(&self.name, "list", || Active::of_samples(r))?
            }
            _ => None,
        };
        let [k, v] = [&self.key, &self.value].map(|(map, lif)| match &asked {
            None => map.spikes(x, lif, cx),
            Some(rows) => map.active_spikes(x, rows, lif, cx),
        });
        let (k, v) = (k?, v?);
        match (&self.attend, asked) {
            (Attend::Ssa { .. }, None) => cx.apply1(&self.name, KeyValue { heads: 1 }, &[&k, &v]),
            (Attend::Ssa { .. }, Some(rows)) => cx.apply1(&self.name, ActiveKeyValue(rows), &[&k, &v]),
            (Attend::Sdsa { kv_lif }, _) => token_gate(&self.name, &k, &v, kv_lif, cx),
        }
    }
    /// [`Emsa::forward`] up to what the experts share, and no further: for measurements.
    pub fn keys_and_values(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let gates = self.router.as_ref().map(|r| r.route(&x, cx)).transpose()?;
        self.shared(&x, gates.as_ref(), cx)
    }
    /// The rows that each expert's gates need; none where all are computed.
    fn active(&self, x: &Tensor, gates: Option<&Tensor>, cx: &mut Ctx<'_>) -> Result<Vec<Option<Active>>> {
        let closed = match (self.skip, cx.carries_state()) {
            (Skip::Exact, _) => Closed::Heard,
            // A chunk of a stream does not know whether a gate opens later.
            (Skip::Lazy, true) => Closed::Idle,
            (Skip::Lazy, false) => Closed::IdleUntilLast,
        };
        let skips = cx.skips() && x.is_bits() && !(closed == Closed::Heard && cx.carries_state());
        let Some(r) = gates.filter(|_| skips) else { return Ok(vec![None; self.queries.len()]) };
        cx.aside(&self.name, "list", || (0..self.queries.len()).map(|i| Active::of(r, i, closed).map(Some)).collect())
    }
    /// Spikes `[T, B, N.., D]` to sum_i r_i A_i, integer spikes `[T, B, N.., dv]`.
    fn mixture(&self, x: &Tensor, gates: Option<Tensor>, active: &[Option<Active>], cx: &mut Ctx<'_>) -> Result<Tensor> {
        let shared = self.shared(x, gates.as_ref(), cx)?;
        let lazy = self.skip == Skip::Lazy;
        let mut experts = Vec::new();
        for (i, (query, active)) in self.queries.iter().zip(active).enumerate() {
            let gate = gates.as_ref().filter(|_| lazy);
            let q = match (active, gate) {
                (Some(active), _) => query.0.active_spikes(x, active, &query.1, cx)?,
                (None, Some(r)) => query.0.gated_spikes(x, r, i, &query.1, cx)?,
                (None, None) => query.0.spikes(x, &query.1, cx)?,
            };
            if let Some(r) = &gates {
                let product = if matches!(self.attend, Attend::Ssa { .. }) { shared.channels() } else { 0 };
                gated::experts(cx, &self.name, r, i, active.as_ref(), &[(x, q.channels()), (&q, product)])?;
            }
            experts.push(match (&self.attend, active) {
                (Attend::Ssa { attn_lif, scale }, None) => {
                    let mut a = cx.apply1(&self.name, Query { heads: 1, scale: *scale }, &[&q, &shared])?;
                    if let Some(r) = gate {
                        a = cx.apply1(&self.name, RowGate { expert: i }, &[r, &a])?;
                    }
                    attn_lif[i].fire(&a, cx)?
                }
                (Attend::Ssa { attn_lif, scale }, Some(active)) => {
                    let op = ActiveQuery { active: active.clone(), scale: *scale };
                    let a = cx.apply1(&self.name, op, &[&q, &shared])?;
                    attn_lif[i].fire_active(&a, active, cx)?
                }
                (Attend::Sdsa { .. }, _) => cx.apply1(&self.name, TokenGate, &[&q, &shared])?,
            });
        }
        match gates {
            Some(r) => {
                let inputs: Vec<&Tensor> = std::iter::once(&r).chain(&experts).collect();
                cx.apply1(&self.name, Mixture, &inputs)
            }
            None => {
                let mut sum = experts.first().cloned().ok_or_else(|| Error::shape(self.name.clone(), "no experts"))?;
                for a in &experts[1..] {
                    sum = cx.apply1(&self.name, Sum, &[&sum, a])?;
                }
                Ok(sum)
            }
        }
    }
}

impl Module for Emsa {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let gates = self.router.as_ref().map(|r| r.route(&x, cx)).transpose()?;
        let active = self.active(&x, gates.as_ref(), cx)?;
        let nobody = active.iter().all(|a| a.as_ref().is_some_and(Active::is_empty));
        // What is counted is counted as if places were computed one by one.
        if nobody && !active.is_empty() && !cx.carries_state() && cx.counts().is_none() {
            return self.exit.silent(x.shape(), cx);
        }
        let routed = gates.is_some();
        let y = self.mixture(&x, gates, &active, cx)?;
        if routed { self.exit.behind_gates(&y, cx) } else { self.exit.forward(&y, cx) }
    }
}
