//! Modules: layers that hold the names of their parameters. Parameter names are those of the PyTorch reference
//! (`block.0.attn.q.conv.weight`), so that checkpoints of both can be compared name by name.
//!
//! A module is built by a function that takes a [`Build`] and returns it; the name given there is the key in the checkpoint, the row in
//! the profile and the path in an error.

pub mod attention;
pub mod fold;
pub mod mlp;
pub mod patch;

use crate::counts::{Cost, Keep};
use crate::ctx::{Ctx, Op};
use crate::error::Result;
use crate::kernel::norm::{Running, RunningU};
use crate::neuron::Neuron;
use crate::ops::active::{Active, ActiveLinear, SharedCurrents};
use crate::ops::channels::{ChannelLinear, ChannelNeurons, Channels};
use crate::ops::conv::Conv3x3;
use crate::ops::depthwise::{Depthwise3x3, GatedDepthwise};
use crate::ops::fire::{self, ConvFire};
use crate::ops::frames::{self, FrameNeurons};
use crate::ops::gate::RowGate;
use crate::ops::linear::Linear;
use crate::ops::neuron::{NeuronLayer, Norm, Wants};
use crate::ops::norm::BatchNorm;
use crate::params::{Build, Init, ParamId, Role};
use crate::tensor::torch::Layout;
use crate::tensor::{Repr, Tensor, launch};
use std::ops::Range;

/// Added to the variance of batch norms, as in PyTorch.
const EPS: f32 = 1e-5;
/// Weight of the newest batch in running statistics, as in PyTorch.
const MOMENTUM: f32 = 0.1;

/// What a layer is run for.
#[derive(Clone, Copy)]
enum Part<'a> {
    All,
    Rows(&'a Active),
    Channels(&'a [u32]),
}

/// Some places of the last axis, in this order. By way of the host: for parameters.
fn pick(t: &Tensor, channels: &[u32]) -> Result<Tensor> {
    t.expect_f32("pick")?;
    let words = t.view()?;
    let mut picked = Vec::with_capacity(words.len() / t.channels().max(1) * channels.len());
    for row in words.chunks_exact(t.channels().max(1)) {
        picked.extend(channels.iter().map(|&c| row[c as usize]));
    }
    let mut shape = t.shape().to_vec();
    shape.last_mut().into_iter().for_each(|c| *c = channels.len());
    Tensor::new(t.device(), &shape, t.repr(), t.device().upload(&picked)?)
}

/// A layer of neurons.
pub struct Neurons {
    name: String,
    neuron: Neuron,
    /// w, 1/tau = logistic(w), where it is learned.
    w: Option<ParamId>,
}

impl Neurons {
    /// A layer under `name`.
    pub fn new(b: &mut Build<'_>, name: &str, neuron: Neuron) -> Result<Self> {
        let w = if neuron.neuron.learns_tau() {
            let start = -(neuron.tau - 1.0).ln();
            Some(b.scope(name).param("w", &[1], Role::Norm, Layout::Plain, Init::Constant(start))?)
        } else {
            None
        };
        Ok(Neurons { name: b.name(name), neuron, w })
    }
    /// The path of the layer.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Currents `[T, .., C]` to spikes `[T, .., C]`.
    pub fn fire(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        self.run(x, None, Part::All, cx)
    }
    /// Currents of some rows, `[rows, C]`, to spikes of all, `[T, .., C]`.
    pub fn fire_active(&self, x: &Tensor, active: &Active, cx: &mut Ctx<'_>) -> Result<Tensor> {
        self.run(x, None, Part::Rows(active), cx)
    }
    /// Whether these can be trained without their currents: where tau is not learned, all steps are real and nothing is counted but spikes and
    /// operations.
    fn trains_on_frames(&self, cx: &mut Ctx<'_>) -> bool {
        cx.is_training()
            && !self.neuron.neuron.learns_tau()
            && cx.padding().is_none()
            && cx.counts().is_none_or(|c| c.keep == Keep::default())
    }
    fn run(&self, x: &Tensor, norm: Option<&BatchNormLayer>, part: Part<'_>, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut inputs = vec![x.clone()];
        if let Some(n) = norm {
            let params = n.params(cx);
            inputs.extend(match part {
                Part::Channels(c) => params.iter().map(|p| pick(p, c)).collect::<Result<Vec<_>>>()?,
                _ => params.to_vec(),
            });
        }
        inputs.extend(self.w.map(|w| cx.param(w)));
        let v0 = cx.take_state(&self.name);
        let carries = cx.carries_state();
        let training = cx.is_training();
        let v_seq = cx.counts().is_some_and(|c| c.keep.membranes);
        let op = NeuronLayer {
            neuron: self.neuron,
            norm: norm.map(|_| Norm { training, eps: EPS, padding: cx.padding().cloned() }),
            has_v0: v0.is_some(),
            wants: Wants { v: carries, v_seq },
            active: match part {
                Part::Rows(active) => Some(active.clone()),
                _ => None,
            },
            is_part: matches!(part, Part::Channels(_)),
        };
        inputs.extend(v0);
        let outs = cx.apply(&self.name, op, &inputs.iter().collect::<Vec<_>>())?;
        let mut outs = outs.into_iter();
        let spikes = outs.next();
        if carries {
            outs.next().into_iter().for_each(|v| cx.put_state(&self.name, v));
        }
        if v_seq {
            outs.next().map_or(Ok(()), |v| cx.count_membranes(&self.name, &v))?;
        }
        if let (Some(n), true) = (norm, training) {
            n.track(outs.next(), outs.next(), x, cx)?;
        }
        spikes.ok_or_else(|| crate::error::Error::shape(self.name.clone(), "no spikes"))
    }
}

/// A batch norm's parameters and running statistics.
pub struct BatchNormLayer {
    name: String,
    weight: ParamId,
    bias: ParamId,
    mean: ParamId,
    var: ParamId,
}

impl BatchNormLayer {
    /// For `c` channels, under the path of `b`.
    pub fn new(b: &mut Build<'_>, c: usize) -> Result<Self> {
        let mut p = |name: &str, role: Role, v: f32| b.param(name, &[c], role, Layout::Plain, Init::Constant(v));
        let weight = p("weight", Role::Norm, 1.0)?;
        let bias = p("bias", Role::Norm, 0.0)?;
        let mean = p("running_mean", Role::Buffer, 0.0)?;
        let var = p("running_var", Role::Buffer, 1.0)?;
        Ok(BatchNormLayer { name: b.path().to_string(), weight, bias, mean, var })
    }
    fn params(&self, cx: &Ctx<'_>) -> [Tensor; 4] {
        [self.weight, self.bias, self.mean, self.var].map(|id| cx.param(id))
    }
    /// Moves the running statistics towards a batch's; the variance there is the unbiased one.
    fn track(&self, mean: Option<Tensor>, var: Option<Tensor>, x: &Tensor, cx: &mut Ctx<'_>) -> Result<()> {
        let (Some(mean), Some(var)) = (mean, var) else { return Ok(()) };
        let rows = cx.padding().map_or(x.rows(), |p| p.real_rows(x));
        let u = RunningU { c: mean.len() as u32, momentum: MOMENTUM, unbias: rows as f32 / rows.saturating_sub(1).max(1) as f32 };
        let c = mean.shape().to_vec();
        let inputs = [&cx.param(self.mean), &cx.param(self.var), &mean, &var];
        let new = launch(mean.device(), &Running, &u, &inputs, &[(&c, Repr::F32), (&c, Repr::F32)])?;
        for (id, v) in [self.mean, self.var].into_iter().zip(new) {
            cx.update(id, v);
        }
        Ok(())
    }
    /// Values `[T, .., C]` normalised, by the batch's statistics in training.
    pub fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let [weight, bias, mean, var] = self.params(cx);
        let training = cx.is_training();
        let op = BatchNorm { training, eps: EPS, padding: cx.padding().cloned() };
        let mut outs = cx.apply(&self.name, op, &[x, &weight, &bias, &mean, &var])?.into_iter();
        let y = outs.next().ok_or_else(|| crate::error::Error::shape(self.name.clone(), "no output"))?;
        if training {
            self.track(outs.next(), outs.next(), x, cx)?;
        }
        Ok(y)
    }
}

/// Which convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1x1: the token-wise linear map.
    Pointwise,
    /// 1x1 with a bias.
    PointwiseBias,
    /// 3x3, padding 1.
    Conv3x3,
    /// 3x3 for each channel by itself.
    Depthwise,
}

/// A convolution and the batch norm behind it, under the names `conv` and `bn`.
pub struct ConvBn {
    name: String,
    kind: Kind,
    weight: ParamId,
    bias: Option<ParamId>,
    bn: BatchNormLayer,
}

impl ConvBn {
    /// `name.conv` and `name.bn`.
    pub fn new(b: &mut Build<'_>, name: impl std::fmt::Display, kind: Kind, cin: usize, cout: usize) -> Result<Self> {
        let mut b = b.scope(name);
        let (shape, layout, fan_in) = match kind {
            Kind::Pointwise | Kind::PointwiseBias => (vec![cin, cout], Layout::Pointwise, cin),
            Kind::Conv3x3 => (vec![3, 3, cin, cout], Layout::Conv, 9 * cin),
            Kind::Depthwise => (vec![3, 3, cout], Layout::Depthwise, 9),
        };
        let mut conv = b.scope("conv");
        let weight = conv.param("weight", &shape, Role::Weight, layout, Init::FanIn(fan_in))?;
        let bias = match kind {
            Kind::PointwiseBias => Some(conv.param("bias", &[cout], Role::Bias, Layout::Plain, Init::FanIn(fan_in))?),
            _ => None,
        };
        let name = conv.path().to_string();
        let bn = BatchNormLayer::new(&mut b.scope("bn"), cout)?;
        Ok(ConvBn { name, kind, weight, bias, bn })
    }
    /// The convolution with this bias.
    fn conv(&self, x: &Tensor, bias: Option<ParamId>, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let w = cx.param(self.weight);
        let before_norm = cx.is_training();
        let map = Linear { before_norm };
        match self.kind {
            Kind::Conv3x3 => cx.apply1(&self.name, Conv3x3 { before_norm }, &[x, &w]),
            Kind::Depthwise => cx.apply1(&self.name, Depthwise3x3, &[x, &w]),
            Kind::Pointwise | Kind::PointwiseBias => match bias.map(|b| cx.param(b)) {
                None => cx.apply1(&self.name, map, &[x, &w]),
                Some(b) => cx.apply1(&self.name, map, &[x, &w, &b]),
            },
        }
    }
    /// Whether the norm is nothing but a bias that the convolution can add itself.
    fn norm_is_bias(&self, cx: &Ctx<'_>) -> bool {
        let pointwise = matches!(self.kind, Kind::Pointwise | Kind::PointwiseBias);
        pointwise && cx.is_folded() && !cx.is_training()
    }
    /// The normalised current `[T, .., Co]`.
    pub fn current(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        if self.norm_is_bias(cx) {
            return self.conv(x, Some(self.bn.bias), cx);
        }
        let y = self.conv(x, self.bias, cx)?;
        self.bn.forward(&y, cx)
    }
    /// The spikes `[T, .., Co]` of `neurons` behind it; the norm is fused into them.
    pub fn spikes(&self, x: &Tensor, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        if self.norm_is_bias(cx) {
            let y = self.conv(x, Some(self.bn.bias), cx)?;
            return neurons.run(&y, None, Part::All, cx);
        }
        // At inference the engine is clocked where counts are kept, for they tell a convolution from its neurons and count every update.
        if self.kind == Kind::Conv3x3 && !cx.is_training() && cx.counts().is_none() && fire::pays(x, &cx.param(self.weight)) {
            return self.fire(x, neurons, cx);
        }
        if self.kind == Kind::Conv3x3 && neurons.trains_on_frames(cx) && !cx.wants(x) && frames::pays(x, &cx.param(self.weight)) {
            return self.fire_in_training(x, neurons, cx);
        }
        let y = self.conv(x, self.bias, cx)?;
        neurons.run(&y, Some(&self.bn), Part::All, cx)
    }
    /// [`ConvBn::spikes`] where nothing arrives in the rows that an expert's gate (of r, `[T, .., experts]`) closes.
    pub fn gated_spikes(&self, x: &Tensor, r: &Tensor, expert: usize, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let y = self.conv(x, self.bias, cx)?;
        let y = cx.apply1(&self.name, RowGate { expert }, &[r, &y])?;
        neurons.run(&y, Some(&self.bn), Part::All, cx)
    }
    /// [`ConvBn::spikes`] of a pointwise convolution, for some rows of x alone; there are no spikes in the others, or those of the row
    /// that stands for them ([`Active::alike`]).
    pub fn active_spikes(&self, x: &Tensor, active: &Active, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        // A row that is left out gets the norm's shift too, where time passes there.
        let folded = self.norm_is_bias(cx) && !active.idles();
        let y = self.active_map(x, active, folded, cx)?;
        neurons.run(&y, (!folded).then_some(&self.bn), Part::Rows(active), cx)
    }
    /// [`ConvBn::current`] of a pointwise convolution, computed for the rows that differ ([`Active::alike`]).
    pub fn shared_current(&self, x: &Tensor, rows: &Active, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let folded = self.norm_is_bias(cx);
        let mut y = self.active_map(x, rows, folded, cx)?;
        if !folded {
            y = self.bn.forward(&y, cx)?;
        }
        cx.apply1(&self.name, SharedCurrents(rows.clone()), &[&y])
    }
    /// The map of some rows, with the norm's shift for a bias where that is all there is to the norm.
    fn active_map(&self, x: &Tensor, active: &Active, folded: bool, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let bias = if folded { Some(self.bn.bias) } else { self.bias };
        let inputs: Vec<Tensor> = [Some(self.weight), bias].into_iter().flatten().map(|id| cx.param(id)).collect();
        let inputs: Vec<&Tensor> = std::iter::once(x).chain(&inputs).collect();
        cx.apply1(&self.name, ActiveLinear(active.clone()), &inputs)
    }
    /// [`ConvBn::spikes`] of some output channels alone: `[T, .., channels.len()]`. Of a depth-wise convolution x holds the same channels. The
    /// layer's spikes are not counted here, for they are not all there: see [`Ctx::emitted`].
    pub fn channel_spikes(&self, x: &Tensor, channels: &[u32], neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let folded = self.norm_is_bias(cx);
        let bias = if folded { Some(self.bn.bias) } else { self.bias };
        let params = [Some(self.weight), bias].into_iter().flatten().map(|id| pick(&cx.param(id), channels));
        let params: Vec<Tensor> = params.collect::<Result<_>>()?;
        let inputs: Vec<&Tensor> = std::iter::once(x).chain(&params).collect();
        let y = match self.kind {
            Kind::Depthwise => cx.apply1(&self.name, Depthwise3x3, &inputs)?,
            Kind::Conv3x3 => cx.apply1(&self.name, Conv3x3::default(), &inputs)?,
            Kind::Pointwise | Kind::PointwiseBias => cx.apply1(&self.name, Linear::default(), &inputs)?,
        };
        neurons.run(&y, (!folded).then_some(&self.bn), Part::Channels(channels), cx)
    }
    /// [`ConvBn::spikes`] of a pointwise convolution at the listed channels, silent at the others of `channels`; for whole clips at inference.
    /// What [`ConvBn::channel_spikes`] does where the host does not know which they are; nothing but its time is counted.
    pub fn listed_spikes(&self, x: &Tensor, channels: &Channels, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let folded = self.norm_is_bias(cx);
        let bias = if folded { Some(self.bn.bias) } else { self.bias };
        let params: Vec<Tensor> = [Some(self.weight), bias].into_iter().flatten().map(|id| cx.param(id)).collect();
        let inputs: Vec<&Tensor> = std::iter::once(x).chain(&params).collect();
        let mut inputs = vec![cx.apply1(&self.name, ChannelLinear(channels.clone()), &inputs)?];
        if !folded {
            inputs.extend(self.bn.params(cx));
        }
        inputs.extend(neurons.w.map(|w| cx.param(w)));
        let op = ChannelNeurons { channels: channels.clone(), neuron: neurons.neuron, norm: (!folded).then_some(EPS) };
        cx.apply1(&neurons.name, op, &inputs.iter().collect::<Vec<_>>())
    }
    /// The channels among `channels` of a pointwise convolution at which `neurons`, at rest, may fire when x, spikes, arrives: see
    /// [`Channels::that_may_fire`].
    pub fn may_fire(&self, x: &Tensor, channels: Range<usize>, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Channels> {
        let planes = x.expect_bits(&self.name)?;
        if neurons.neuron.rest() >= neurons.neuron.v_threshold {
            return Channels::all(x.device(), channels);
        }
        let bias = self.bias.map(|b| cx.param(b));
        let norm = self.bn.params(cx);
        let w = cx.param(self.weight);
        cx.aside(&self.name, "list", || Channels::that_may_fire(channels, planes, &w, bias.as_ref(), norm.each_ref(), EPS))
    }
    /// Counts what these output channels would have cost as skipped. A depth-wise convolution was not given their spikes: of it only the
    /// dense network's part is known.
    pub fn skipped(&self, x: &Tensor, channels: &[u32], cx: &mut Ctx<'_>) -> Result<()> {
        if cx.counts().is_none_or(|c| !c.keep.operations) || channels.is_empty() {
            return Ok(());
        }
        let w = pick(&cx.param(self.weight), channels)?;
        let (name, c) = match self.kind {
            Kind::Depthwise => {
                let shape = [&x.shape()[..x.shape().len() - 1], &[channels.len()]].concat();
                let silent = Tensor::spikes_from_f32(x.device(), &shape, &vec![0.0; shape.iter().product()])?;
                (Depthwise3x3.name(), Depthwise3x3.cost(&[&silent, &w])?)
            }
            Kind::Conv3x3 => (Conv3x3::default().name(), Conv3x3::default().cost(&[x, &w])?),
            Kind::Pointwise | Kind::PointwiseBias => (Linear::default().name(), Linear::default().cost(&[x, &w])?),
        };
        let cost = Cost { skipped: c.acs, dense: c.dense, ..Cost::default() }.by_input(x);
        cx.counts().into_iter().for_each(|counts| counts.operation(&self.name, name, cost));
        Ok(())
    }
    /// [`ConvBn::spikes`] of a depth-wise convolution AND `gates`, of the same shape, which are open somewhere at `open` channels: what no
    /// gate lets out is not computed. For whole clips at inference.
    pub fn depthwise_behind(
        &self,
        x: &Tensor,
        gates: &Tensor,
        open: Channels,
        neurons: &Neurons,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor> {
        let mut inputs = vec![x.clone(), gates.clone(), cx.param(self.weight)];
        inputs.extend(self.bn.params(cx));
        inputs.extend(neurons.w.map(|w| cx.param(w)));
        let op = GatedDepthwise { open, neuron: neurons.neuron, eps: EPS };
        cx.apply1(&self.name, op, &inputs.iter().collect::<Vec<_>>())
    }
    /// [`ConvBn::spikes`] of a 3x3 convolution and its neurons in one kernel ([`ConvFire`]).
    fn fire(&self, x: &Tensor, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut inputs = vec![x.clone(), cx.param(self.weight)];
        inputs.extend(self.bn.params(cx));
        inputs.extend(neurons.w.map(|w| cx.param(w)));
        let v0 = cx.take_state(&neurons.name);
        let op = ConvFire { neuron: neurons.neuron, eps: EPS, has_v0: v0.is_some(), wants_v: cx.carries_state() };
        inputs.extend(v0);
        let mut outs = cx.apply(&self.name, op, &inputs.iter().collect::<Vec<_>>())?.into_iter();
        let spikes = outs.next().ok_or_else(|| crate::error::Error::shape(self.name.clone(), "no spikes"))?;
        outs.next().into_iter().for_each(|v| cx.put_state(&neurons.name, v));
        Ok(spikes)
    }
    /// [`ConvBn::spikes`] of a 3x3 convolution of event frames in training, whose currents are never stored.
    fn fire_in_training(&self, x: &Tensor, neurons: &Neurons, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let (w, [gamma, beta, ..]) = (cx.param(self.weight), self.bn.params(cx));
        let op = FrameNeurons { neuron: neurons.neuron, eps: EPS };
        let mut outs = cx.apply(&self.name, op, &[x, &w, &gamma, &beta])?.into_iter();
        let spikes = outs.next().ok_or_else(|| crate::error::Error::shape(self.name.clone(), "no spikes"))?;
        self.bn.track(outs.next(), outs.next(), x, cx)?;
        // The operation counts the convolution.
        if let Some(counts) = cx.counts() {
            counts.operation(&neurons.name, "neuron", Cost { neuron_updates: spikes.len() as u64, ..Cost::default() });
            cx.emitted(&neurons.name, &spikes)?;
        }
        Ok(spikes)
    }
}

/// A linear layer with bias: the head.
pub struct Head {
    name: String,
    weight: ParamId,
    bias: ParamId,
}

impl Head {
    /// `name.weight` and `name.bias`.
    pub fn new(b: &mut Build<'_>, name: &str, cin: usize, cout: usize) -> Result<Self> {
        let mut b = b.scope(name);
        Ok(Head {
            weight: b.param("weight", &[cin, cout], Role::Weight, Layout::Linear, Init::FanIn(cin))?,
            bias: b.param("bias", &[cout], Role::Bias, Layout::Plain, Init::FanIn(cin))?,
            name: b.path().to_string(),
        })
    }
    /// `[.., Ci]` to `[.., Co]`.
    pub fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let (w, b) = (cx.param(self.weight), cx.param(self.bias));
        cx.apply1(&self.name, Linear::default(), &[x, &w, &b])
    }
}
