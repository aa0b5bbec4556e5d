//! Channels that a gate opens anywhere, and maps to those channels alone. For inference over whole clips, as [`super::active`] is for rows.

use super::active::no_backward;
use super::none;
use super::norm::Stats;
use crate::ctx::{Forward, Op};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernel::channels::{Fire, FireU, LEAST, Linear, LinearU, List, ListU, MayFire, MayFireU};
use crate::neuron::Neuron;
use crate::tensor::{Repr, Tensor, launch, launch1};
use std::ops::Range;

const WORDS: Repr = Repr::Bits { planes: 1 };

/// Some of the output channels `first..first + c` of a layer; listed on the device, where their number stays on a GPU.
#[derive(Clone)]
pub struct Channels {
    first: usize,
    c: usize,
    /// Of each channel its number among the listed ones, or that it has none: words, which are rows of 32 bits.
    slots: Tensor,
    /// The listed channels in order, words.
    list: Tensor,
    /// How many: one word.
    count: Tensor,
    /// Channels to make room for: their number where it is at hand, else all.
    room: usize,
}

impl Channels {
    /// All of these channels of a layer.
    pub fn all(device: &Device, channels: Range<usize>) -> Result<Self> {
        let c = channels.len();
        let words = |v: &[u32]| Tensor::new(device, &[v.len(), 32], WORDS, device.upload(v)?);
        let list = words(&(0..c as u32).collect::<Vec<_>>())?;
        Ok(Channels { first: channels.start, c, slots: list.clone(), list, count: words(&[c as u32])?, room: c })
    }
    /// Of a layer's first channels those at which the gates r, spikes `[.., c]`, have a spike in any row. If they are few, but not none, a few
    /// more: there are 16 at least, for matrix products of fewer columns round in another way on the CPU.
    ///
    /// # Errors
    /// Gates that are no spikes.
    pub fn of(r: &Tensor) -> Result<Self> {
        let c = r.channels();
        if r.expect_bits("channels")? != 1 {
            return Err(Error::shape("channels", format!("gates {r:?}")));
        }
        let u = ListU { rows: r.rows() as u32, c: c as u32, least: LEAST };
        let outs = launch(r.device(), &List, &u, &[r], &[(&[c, 32], WORDS), (&[c, 32], WORDS), (&[1, 32], WORDS)])?;
        let [slots, list, count]: [Tensor; 3] = outs.try_into().map_err(|_| Error::shape("channels", "no output"))?;
        let room = r.device().at_hand(count.storage()).map_or(c, |n| n as usize);
        Ok(Channels { first: 0, c, slots, list, count, room })
    }
    /// Of these channels of a map (w `[Ci, Co]`, and optionally bias `[Co]`) and the batch norm behind it (gamma, beta, mean, var `[Co]`, and what
    /// is added to the variance) those at which neurons may fire, whatever spikes of so many planes arrive: at the others the current
    /// stays below zero. The neurons' threshold must be above their rest. And a few more, as [`Channels::of`].
    ///
    /// # Errors
    /// Channels that the map has not.
    pub fn that_may_fire(
        channels: Range<usize>,
        planes: usize,
        w: &Tensor,
        bias: Option<&Tensor>,
        norm: [&Tensor; 4],
        eps: f32,
    ) -> Result<Self> {
        let &[cin, cout] = w.shape() else { return Err(Error::shape("channels", format!("weight {:?}", w.shape()))) };
        if channels.end > cout || norm.iter().any(|p| p.shape() != [cout]) {
            return Err(Error::shape("channels", format!("{channels:?} of weight [{cin}, {cout}]")));
        }
        let u = MayFireU {
            cin: cin as u32,
            cout: cout as u32,
            first: channels.start as u32,
            c: channels.len() as u32,
            planes: planes as u32,
            has_bias: u32::from(bias.is_some()),
            eps,
        };
        let empty = none(w.device())?;
        let [gamma, beta, mean, var] = norm;
        let inputs = [w, bias.unwrap_or(&empty), gamma, beta, mean, var];
        let may = launch1(&MayFire, &u, &inputs, &[1, channels.len()], WORDS)?;
        Ok(Channels { first: channels.start, ..Channels::of(&may)? })
    }
    /// How many, where nobody waits to know: one word, zero only where there are none.
    pub(super) fn count(&self) -> &Tensor {
        &self.count
    }
    /// Which they are, from 0 at the first channel looked at on; reads them back.
    pub fn list(&self) -> Result<Vec<u32>> {
        let mut list = self.list.words()?;
        list.truncate(self.count.words()?.first().map_or(0, |n| *n as usize));
        Ok(list)
    }
}

/// x spikes `[T, .., Ci]`, w `[Ci, Co]`, and optionally bias `[Co]` -> y `[T, .., listed]` of the listed channels alone.
pub struct ChannelLinear(pub Channels);

impl Op for ChannelLinear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w, a) = (x[0], x[1], &self.0);
        let (planes, cin) = (input.expect_bits(self.name())?, input.channels());
        let cout = match w.shape() {
            &[ci, co] if ci == cin && a.first + a.c <= co => co,
            shape => return Err(Error::shape(self.name(), format!("input {input:?} for weight {shape:?}"))),
        };
        let empty = none(input.device())?;
        let u = LinearU {
            rows: input.rows() as u32,
            planes: planes as u32,
            cin: cin as u32,
            cout: cout as u32,
            first: a.first as u32,
            c: a.c as u32,
            has_bias: u32::from(x.len() > 2),
        };
        let bias = x.get(2).copied().unwrap_or(&empty);
        let shape = [&input.shape()[..input.shape().len() - 1], &[a.room]].concat();
        let y = launch1(&Linear, &u, &[input, &a.list, &a.count, w, bias], &shape, Repr::F32)?;
        Ok(Forward::one(y, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
}

/// Currents `[T, .., listed]` -> spikes `[T, .., c]` from rest, silent at channels that are not listed.
///
/// Inputs: the currents; then gamma, beta, mean, var `[C]` of a batch norm with running statistics where `norm` holds what is added to the
/// variance; then w `[1]` for a neuron that learns tau.
pub struct ChannelNeurons {
    /// The channels.
    pub channels: Channels,
    /// The neuron.
    pub neuron: Neuron,
    /// The norm.
    pub norm: Option<f32>,
}

impl Op for ChannelNeurons {
    fn name(&self) -> &'static str {
        "neuron"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let a = &self.channels;
        let too_few = || Error::shape(self.name(), "too few inputs");
        let (&y, rest) = x.split_first().ok_or_else(too_few)?;
        let empty = none(y.device())?;
        let (gain, shift, rest) = match self.norm {
            None => (empty.clone(), empty.clone(), rest),
            Some(eps) => {
                let (&[gamma, beta, mean, var], rest) = rest.split_first_chunk().ok_or_else(too_few)?;
                let (gain, shift) = Stats { mean: mean.clone(), var: var.clone() }.affine(gamma, beta, eps)?;
                (gain, shift, rest)
            }
        };
        let (steps, lead) = (y.shape().first().copied().unwrap_or(0), &y.shape()[..y.shape().len().saturating_sub(1)]);
        let learns = self.neuron.neuron.learns_tau();
        if y.channels() != a.room || rest.len() != usize::from(learns) || self.norm.is_some() && gain.len() < a.first + a.c {
            return Err(Error::shape(self.name(), format!("{y:?} for {} channels", a.room)));
        }
        let u = FireU::new(&self.neuron, [steps, y.rows().checked_div(steps).unwrap_or(0), a.c], a.first, self.norm.is_some());
        let w = rest.first().copied().unwrap_or(&empty);
        let inputs = [y, &a.slots, &a.count, &gain, &shift, w];
        let s = launch1(&Fire { kind: self.neuron.neuron }, &u, &inputs, &[lead, &[a.c]].concat(), WORDS)?;
        Ok(Forward::one(s, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Err(no_backward(self.name()))
    }
}
