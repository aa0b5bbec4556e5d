//! EMSP: experts mixture spiking perceptron. Half of the hidden channels are experts (each its own depth-wise convolution), the other half
//! route them, channel by channel.

use super::{Semm, gated};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::kernel::words;
use crate::neuron::Neuron;
use crate::nn::attention::{Entry, Exit, Residual};
use crate::nn::{ConvBn, Kind, Neurons};
use crate::ops::gate::{Both, Halves};
use crate::params::Build;
use crate::tensor::Tensor;

use super::router::RouterKind;

/// Y = W_2 (E AND U_r), U = SN(BN(X W_1)) in halves U_e and U_r, E = SN(BN(DWConv3x3(U_e))); `[T, B, H, W, D]` to the same.
pub struct Emsp {
    name: String,
    half: usize,
    entry: Entry,
    fc1: (ConvBn, Neurons),
    depthwise: Option<(ConvBn, Neurons)>,
    routed: bool,
    exit: Exit,
}

impl Emsp {
    /// Names `fc1 dw fc2` with their `_lif`s (and `in_lif` for currents).
    pub fn new(b: &mut Build<'_>, residual: Residual, dim: usize, semm: &Semm, neuron: Neuron) -> Result<Self> {
        let hidden = semm.hidden.channels(dim);
        let half = hidden / 2;
        Ok(Emsp {
            name: b.path().to_string(),
            half,
            entry: Entry::new(b, residual, neuron)?,
            fc1: (ConvBn::new(b, "fc1", Kind::PointwiseBias, dim, hidden)?, Neurons::new(b, "fc1_lif", neuron)?),
            depthwise: match semm.depthwise {
                true => Some((ConvBn::new(b, "dw", Kind::Depthwise, half, half)?, Neurons::new(b, "dw_lif", neuron)?)),
                false => None,
            },
            routed: semm.router != RouterKind::Open,
            exit: Exit::new(b, "fc2", residual, half, dim, neuron)?,
        })
    }
}

impl Emsp {
    /// Spikes `[T, B, H, W, D]` to what the experts are given and their gates, `[T, B, H, W, half]` each.
    fn first_map(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<[Tensor; 2]> {
        let u = self.fc1.0.spikes(x, &self.fc1.1, cx)?;
        let halves = cx.apply(&self.name, Halves { first: self.half }, &[&u])?;
        halves.try_into().map_err(|_| Error::shape(self.name.clone(), "no halves"))
    }
    /// Spikes `[T, B, H, W, D]` to the experts' spikes and their gates, `[T, B, H, W, half]` each.
    fn halves(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<(Tensor, Tensor)> {
        let [mut e, r] = self.first_map(x, cx)?;
        if let Some((conv, lif)) = &self.depthwise {
            if self.routed {
                gated::depthwise(cx, &self.name, &e, &r)?;
            }
            e = conv.spikes(&e, lif, cx)?;
        }
        Ok((e, r))
    }
    /// The gates alone: spikes `[T, B, H, W, D]` to spikes `[T, B, H, W, half]`.
    pub fn gates(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let half = self.half as u32;
        self.fc1.0.channel_spikes(x, &(half..2 * half).collect::<Vec<_>>(), &self.fc1.1, cx)
    }
    /// [`Emsp::halves`] where only those experts are computed whose gate opens anywhere in the batch; the others are silent. Gates come
    /// first then, and are looked at by the host.
    fn needed_halves(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<(Tensor, Tensor)> {
        let (fc1, lif) = &self.fc1;
        let r = self.gates(x, cx)?;
        let (needed, missing) = used_channels(&r)?;
        let mut e = fc1.channel_spikes(x, &needed, lif, cx)?;
        fc1.skipped(x, &missing, cx)?;
        if cx.counts().is_some() {
            let gates: Vec<u32> = (self.half as u32..2 * self.half as u32).collect();
            let [a, b] = [(&e, &needed), (&r, &gates)].map(|(x, c)| spread_channels(x, c, 2 * self.half));
            let (a, b) = (a?, b?);
            let both: Vec<u32> = a.words()?.iter().zip(b.words()?).map(|(a, b)| a | b).collect();
            cx.emitted(lif.name(), &Tensor::new(a.device(), a.shape(), a.repr(), a.device().upload(&both)?)?)?;
        }
        let Some((conv, lif)) = &self.depthwise else { return Ok((spread_channels(&e, &needed, self.half)?, r)) };
        if cx.counts().is_some() {
            gated::depthwise(cx, &self.name, &spread_channels(&e, &needed, self.half)?, &r)?;
        }
        e = conv.channel_spikes(&e, &needed, lif, cx)?;
        conv.skipped(&e, &missing, cx)?;
        let e = spread_channels(&e, &needed, self.half)?;
        cx.emitted(lif.name(), &e)?;
        Ok((e, r))
    }
}

/// Channels of r that have a spike anywhere, and the others. There are at least 16 of the first if there are so many: matrix products of
/// one column round in another way.
fn used_channels(r: &Tensor) -> Result<(Vec<u32>, Vec<u32>)> {
    let (bits, nw, c) = (r.words()?, words(r.channels()), r.channels() as u32);
    let mut any = vec![0u32; nw];
    bits.chunks_exact(nw.max(1)).for_each(|row| any.iter_mut().zip(row).for_each(|(a, w)| *a |= w));
    let is_used = |k: &u32| any[*k as usize / 32] >> (k % 32) & 1 != 0;
    let (mut used, mut unused): (Vec<u32>, Vec<u32>) = (0..c).partition(is_used);
    if !used.is_empty() && used.len() < 16 {
        used.extend(unused.drain(..unused.len().min(16 - used.len())));
        used.sort_unstable();
    }
    Ok((used, unused))
}

/// Spikes `[.., n]` at their places among `c` channels.
fn spread_channels(x: &Tensor, channels: &[u32], c: usize) -> Result<Tensor> {
    let (from, to) = (words(channels.len()), words(c));
    let mut out = vec![0u32; x.rows() * to];
    let bits = x.words()?;
    for (row, out) in bits.chunks_exact(from.max(1)).zip(out.chunks_exact_mut(to.max(1))) {
        for (i, &word) in row.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let c = channels[i * 32 + word.trailing_zeros() as usize];
                out[c as usize / 32] |= 1 << (c % 32);
                word &= word - 1;
            }
        }
    }
    let shape = [&x.shape()[..x.shape().len() - 1], &[c]].concat();
    Tensor::new(x.device(), &shape, x.repr(), x.device().upload(&out)?)
}

impl Module for Emsp {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let x = self.entry.forward(x, cx)?;
        let at_hand = x.device().at_hand(x.storage()).is_some();
        let skips = self.routed && cx.skips() && !cx.carries_state() && x.is_bits();
        // Where the host would have to wait for the gates, neurons look at their own. Reports want the spikes behind closed gates too.
        if let (Some((conv, lif)), true, false, true) = (&self.depthwise, skips, at_hand, cx.counts().is_none()) {
            let [e, r] = self.first_map(&x, cx)?;
            let y = conv.depthwise_behind(&e, &r, lif, cx)?;
            return self.exit.forward(&y, cx);
        }
        let (e, r) = match skips && at_hand {
            true => self.needed_halves(&x, cx)?,
            false => self.halves(&x, cx)?,
        };
        let y = if self.routed { cx.apply1(&self.name, Both, &[&e, &r])? } else { e };
        self.exit.forward(&y, cx)
    }
}
