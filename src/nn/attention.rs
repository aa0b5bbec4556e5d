//! Spiking self-attention (SSA) and spike-driven self-attention (SDSA), without experts; with them see [`crate::moe`].

use super::{ConvBn, Kind, Neurons};
use crate::ctx::{Ctx, Module};
use crate::error::Result;
use crate::kernel::words;
use crate::neuron::Neuron;
use crate::ops::active::Active;
use crate::ops::attention::{KeyValue, Mix, Query, Scores};
use crate::ops::gate::{Both, TokenGate};
use crate::ops::mean::TokenMean;
use crate::params::Build;
use crate::tensor::{Repr, Tensor};

/// How an attention or perceptron stands in its residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Spikformer: spikes come in, spikes go out, and are added as integers.
    Spikes,
    /// Spikingformer and Spike-driven Transformer: currents come in, a LIF stands at the entry, a current goes out.
    Currents,
}

/// A projection of spikes back to the residual: Conv-BN, and a LIF where the residual adds spikes.
pub struct Exit {
    proj: ConvBn,
    lif: Option<Neurons>,
}

impl Exit {
    /// `name` and `name_lif`.
    pub fn new(b: &mut Build<'_>, name: &str, residual: Residual, cin: usize, cout: usize, neuron: Neuron) -> Result<Self> {
        let proj = ConvBn::new(b, name, Kind::PointwiseBias, cin, cout)?;
        let lif = match residual {
            Residual::Spikes => Some(Neurons::new(b, &format!("{name}_lif"), neuron)?),
            Residual::Currents => None,
        };
        Ok(Exit { proj, lif })
    }
    /// Spikes `[T, B, .., Ci]` to what the residual adds, `[T, B, .., Co]`.
    pub fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        match &self.lif {
            Some(lif) => self.proj.spikes(x, lif, cx),
            None => self.proj.current(x, cx),
        }
    }
    /// [`Exit::forward`] of what closed gates may have silenced: rows without spikes are alike, and so are places where none ever arrives,
    /// so that in inference of whole clips one of each is computed for all. Not where operations are counted: each is then one by itself.
    pub fn behind_gates(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let shares = cx.skips() && !cx.carries_state() && !cx.counts_work() && x.is_bits();
        let rows = if shares { cx.aside(&self.proj.name, "list", || Active::alike(x))? } else { None };
        match (rows, &self.lif) {
            (Some(rows), Some(lif)) => self.proj.active_spikes(x, &rows, lif, cx),
            (Some(rows), None) => self.proj.shared_current(x, &rows, cx),
            (None, _) => self.forward(x, cx),
        }
    }
    /// [`Exit::behind_gates`] where no spike arrives anywhere in `[T, B, .., Ci]`.
    pub fn silent(&self, shape: &[usize], cx: &mut Ctx<'_>) -> Result<Tensor> {
        let (lead, cin) = (&shape[..shape.len() - 1], cx.param(self.proj.weight).shape()[0]);
        let nothing = cx.device().upload(&vec![0; lead.iter().product::<usize>() * words(cin)])?;
        let x = Tensor::new(cx.device(), &[lead, &[cin]].concat(), Repr::Bits { planes: 1 }, nothing)?;
        self.behind_gates(&x, cx)
    }
}

/// The LIF at the entry of a block that takes currents.
pub struct Entry(Option<Neurons>);

impl Entry {
    /// `in_lif`, or nothing where the residual adds spikes.
    pub fn new(b: &mut Build<'_>, residual: Residual, neuron: Neuron) -> Result<Self> {
        Ok(Entry(match residual {
            Residual::Spikes => None,
            Residual::Currents => Some(Neurons::new(b, "in_lif", neuron)?),
        }))
    }
    /// The spikes to work on.
    pub fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        match &self.0 {
            Some(lif) => lif.fire(x, cx),
            None => Ok(x.clone()),
        }
    }
}

/// Three maps of one width, each with its LIF.
struct QueryKeyValue([(ConvBn, Neurons); 3]);

impl QueryKeyValue {
    fn new(b: &mut Build<'_>, dim: usize, neuron: Neuron) -> Result<Self> {
        let mut one = |n: &str| -> Result<_> {
            Ok((ConvBn::new(b, n, Kind::Pointwise, dim, dim)?, Neurons::new(b, &format!("{n}_lif"), neuron)?))
        };
        Ok(QueryKeyValue([one("q")?, one("k")?, one("v")?]))
    }
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<[Tensor; 3]> {
        let [q, k, v] = &self.0;
        Ok([q.0.spikes(x, &q.1, cx)?, k.0.spikes(x, &k.1, cx)?, v.0.spikes(x, &v.1, cx)?])
    }
}

/// SSA (Zhou et al., "Spikformer", 2023): proj(SN(scale Q K^T V)) without softmax; `[T, B, H, W, D]` to the same.
pub struct Ssa {
    name: String,
    entry: Entry,
    qkv: QueryKeyValue,
    attn_lif: Neurons,
    exit: Exit,
    heads: usize,
    scale: f32,
}

impl Ssa {
    /// Names `q k v attn_lif proj` (and `in_lif` for currents); `v_threshold` is that of `attn_lif`.
    pub fn new(
        b: &mut Build<'_>,
        residual: Residual,
        dim: usize,
        heads: usize,
        scale: f32,
        v_threshold: f32,
        neuron: Neuron,
    ) -> Result<Self> {
        Ok(Ssa {
            name: b.path().to_string(),
            entry: Entry::new(b, residual, neuron)?,
            qkv: QueryKeyValue::new(b, dim, neuron)?,
            attn_lif: Neurons::new(b, "attn_lif", neuron.with_threshold(v_threshold))?,
            exit: Exit::new(b, "proj", residual, dim, dim, neuron)?,
            heads,
            scale,
        })
    }
}

impl Module for Ssa {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let [q, k, v] = self.qkv.forward(&x, cx)?;
        let (heads, scale) = (self.heads, self.scale);
        let tokens = x.rows() / (x.shape()[0] * x.shape()[1]).max(1);
        // Both orders give the same integers; the cheaper one has the smaller inner matrix: d x d or N x N.
        let a = if tokens < x.channels() / heads {
            let scores = cx.apply1(&self.name, Scores { heads }, &[&q, &k])?;
            cx.apply1(&self.name, Mix { heads, scale }, &[&scores, &v])?
        } else {
            let kv = cx.apply1(&self.name, KeyValue { heads }, &[&k, &v])?;
            cx.apply1(&self.name, Query { heads, scale }, &[&q, &kv])?
        };
        let s = self.attn_lif.fire(&a, cx)?;
        self.exit.forward(&s, cx)
    }
}

/// SDSA (Yao et al., "Spike-driven Transformer", 2023): proj(Q AND SN(sum over tokens of K AND V)); currents `[T, B, H, W, D]` to currents.
pub struct Sdsa {
    name: String,
    entry: Entry,
    qkv: QueryKeyValue,
    kv_lif: Neurons,
    exit: Exit,
}

impl Sdsa {
    /// Names `in_lif q k v kv_lif proj`.
    pub fn new(b: &mut Build<'_>, dim: usize, v_threshold: f32, neuron: Neuron) -> Result<Self> {
        Ok(Sdsa {
            name: b.path().to_string(),
            entry: Entry::new(b, Residual::Currents, neuron)?,
            qkv: QueryKeyValue::new(b, dim, neuron)?,
            kv_lif: Neurons::new(b, "kv_lif", neuron.with_threshold(v_threshold))?,
            exit: Exit::new(b, "proj", Residual::Currents, dim, dim, neuron)?,
        })
    }
}

impl Module for Sdsa {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let [q, k, v] = self.qkv.forward(&x, cx)?;
        let gate = token_gate(&self.name, &k, &v, &self.kv_lif, cx)?;
        let y = cx.apply1(&self.name, TokenGate, &[&q, &gate])?;
        self.exit.forward(&y, cx)
    }
}

/// SN(sum over tokens of K AND V): k, v spikes `[T, B, N.., d]` to spikes `[T, B, d]`.
pub fn token_gate(name: &str, k: &Tensor, v: &Tensor, lif: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
    let kv = cx.apply1(name, Both, &[k, v])?;
    let sum = cx.apply1(name, TokenMean { sum: true }, &[&kv])?;
    lif.fire(&sum, cx)
}
