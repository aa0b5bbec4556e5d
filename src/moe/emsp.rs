//! EMSP: experts mixture spiking perceptron. Half of the hidden channels are experts (each its own depth-wise convolution), the other half
//! route them, channel by channel.

use super::{Semm, gated};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::kernel::words;
use crate::neuron::Neuron;
use crate::nn::attention::{Entry, Exit, Residual};
use crate::nn::{ConvBn, Kind, Neurons};
use crate::ops::channels::Channels;
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
    /// Spikes `[T, B, H, W, D]` to the experts' spikes and their gates, `[T, B, H, W, half]` each.
    fn halves(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<(Tensor, Tensor)> {
        let u = self.fc1.0.spikes(x, &self.fc1.1, cx)?;
        let halves = cx.apply(&self.name, Halves { first: self.half }, &[&u])?;
        let [mut e, r]: [Tensor; 2] = halves.try_into().map_err(|_| Error::shape(self.name.clone(), "no halves"))?;
        if let Some((conv, lif)) = &self.depthwise {
            if self.routed {
                gated::depthwise(cx, &self.name, &e, &r)?;
            }
            e = conv.spikes(&e, lif, cx)?;
        }
        Ok((e, r))
    }
    /// Whether the host is to look at gates: where it need not wait for them, and where operations are counted, for which all is read back.
    fn by_host(x: &Tensor, cx: &Ctx<'_>) -> bool {
        x.device().at_hand(x.storage()).is_some() || cx.counts_work()
    }
    /// The channels at which the weights allow gates to open.
    fn may_open(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Channels> {
        self.fc1.0.may_fire(x, self.half..2 * self.half, &self.fc1.1, cx)
    }
    /// Spikes `[T, B, H, W, D]` to the experts whose gates the weights allow to open, and those gates, spikes `[T, B, H, W, listed]`.
    fn gates_by_host(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<(Vec<u32>, Tensor)> {
        let ((fc1, lif), half) = (&self.fc1, self.half as u32);
        let may = self.may_open(x, cx)?.list()?;
        let never: Vec<u32> = (0..half).filter(|c| may.binary_search(c).is_err()).map(|c| half + c).collect();
        fc1.skipped(x, &never, cx)?;
        let r = fc1.channel_spikes(x, &may.iter().map(|c| half + c).collect::<Vec<_>>(), lif, cx)?;
        Ok((may, r))
    }
    /// Spikes `[T, B, H, W, D]` to all gates `[T, B, H, W, half]`; of those that the weights keep shut nothing is computed.
    fn gates_on_device(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let may = self.may_open(x, cx)?;
        self.fc1.0.listed_spikes(x, &may, &self.fc1.1, cx)
    }
    /// The gates of spikes `[T, B, H, W, D]` and nothing else: for measurements.
    pub fn gates(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        if Self::by_host(x, cx) { Ok(self.gates_by_host(x, cx)?.1) } else { self.gates_on_device(x, cx) }
    }
    /// E AND U_r of [`Emsp::halves`] where the host does not look at gates: the device lists the channels at which any opens and computes
    /// those experts, and each depth-wise neuron looks at its own gate.
    fn gated_on_device(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let r = self.gates_on_device(x, cx)?;
        let open = cx.aside(&self.name, "list", || Channels::of(&r))?;
        let e = self.fc1.0.listed_spikes(x, &open, &self.fc1.1, cx)?;
        match &self.depthwise {
            Some((conv, lif)) => conv.depthwise_behind(&e, &r, open, lif, cx),
            None => cx.apply1(&self.name, Both, &[&e, &r]),
        }
    }
    /// E AND U_r of [`Emsp::halves`] where only those experts are computed whose gate opens anywhere in the batch. Gates come first then, and are
    /// looked at by the host: on the CPU, and where operations are counted, for which all is read back in any case. Nothing where no gate
    /// opens, unless that is to be counted.
    fn gated_by_host(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Option<Tensor>> {
        let ((fc1, lif), half) = (&self.fc1, self.half);
        let (may, r) = self.gates_by_host(x, cx)?;
        let used = cx.aside(&self.name, "list", || Channels::of(&r)?.list())?;
        if used.is_empty() && cx.counts().is_none() {
            return Ok(None);
        }
        let r = match used.len() == may.len() {
            true => r,
            false => {
                let mut to = vec![u32::MAX; may.len()];
                used.iter().enumerate().for_each(|(i, &c)| to[c as usize] = i as u32);
                move_channels(&r, &to, used.len())?
            }
        };
        let experts: Vec<u32> = used.iter().map(|&c| may[c as usize]).collect();
        let missing: Vec<u32> = (0..half as u32).filter(|c| experts.binary_search(c).is_err()).collect();
        let mut e = fc1.channel_spikes(x, &experts, lif, cx)?;
        fc1.skipped(x, &missing, cx)?;
        if cx.counts().is_some() {
            let gates: Vec<u32> = experts.iter().map(|c| c + half as u32).collect();
            let [a, b] = [(&e, &experts), (&r, &gates)].map(|(x, c)| move_channels(x, c, 2 * half));
            let (a, b) = (a?, b?);
            let both: Vec<u32> = a.words()?.iter().zip(b.words()?).map(|(a, b)| a | b).collect();
            cx.emitted(lif.name(), &Tensor::new(a.device(), a.shape(), a.repr(), a.device().upload(&both)?)?)?;
        }
        if let Some((conv, lif)) = &self.depthwise {
            if cx.counts().is_some() {
                gated::depthwise(cx, &self.name, &move_channels(&e, &experts, half)?, &move_channels(&r, &experts, half)?)?;
            }
            e = conv.channel_spikes(&e, &experts, lif, cx)?;
            conv.skipped(&e, &missing, cx)?;
            if cx.counts().is_some() {
                cx.emitted(lif.name(), &move_channels(&e, &experts, half)?)?;
            }
        }
        let y = cx.apply1(&self.name, Both, &[&e, &r])?;
        move_channels(&y, &experts, half).map(Some)
    }
}

/// Spikes `[.., n]`, each at place `to` of its channel among `c`; those whose place is `u32::MAX` are left out.
fn move_channels(x: &Tensor, to: &[u32], c: usize) -> Result<Tensor> {
    let (from, pitch) = (words(to.len()), words(c));
    let mut out = vec![0u32; x.rows() * pitch];
    let bits = x.view()?;
    for (row, out) in bits.chunks_exact(from.max(1)).zip(out.chunks_exact_mut(pitch.max(1))) {
        for (i, &word) in row.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let to = to[i * 32 + word.trailing_zeros() as usize];
                if to != u32::MAX {
                    out[to as usize / 32] |= 1 << (to % 32);
                }
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
        let skips = self.routed && cx.skips() && !cx.carries_state() && x.is_bits();
        let y = match (skips, Self::by_host(&x, cx)) {
            (true, true) => match self.gated_by_host(&x, cx)? {
                Some(y) => y,
                None => return self.exit.silent(x.shape(), cx),
            },
            (true, false) => self.gated_on_device(&x, cx)?,
            (false, _) => {
                let (e, r) = self.halves(&x, cx)?;
                if self.routed { cx.apply1(&self.name, Both, &[&e, &r])? } else { e }
            }
        };
        if self.routed { self.exit.behind_gates(&y, cx) } else { self.exit.forward(&y, cx) }
    }
}
