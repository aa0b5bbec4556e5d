//! A plain convolutional or fully connected spiking network from a list of layers, for small sensors and spike trains.
//!
//! ```toml
//! [model]
//! net = "csnn"
//! layers = ["conv 32", "pool", "conv 64", "pool", "flatten", "fc 128"]
//! ```
//!
//! | layer | does |
//! |---|---|
//! | `conv N` | 3x3 Conv-BN-neurons to N channels |
//! | `fc N` | linear-BN-neurons to N channels at each place |
//! | `pool` | max pooling 3x3, stride 2 |
//! | `flatten` | all places of a step become channels of one |
//! | `delay N S` | each channel comes N times, delayed by 0, S, 2 S, ... steps: what was is seen beside what is |
//! | `norm` | batch norm of each channel of values that are no spikes yet: inputs of unlike size weigh alike |
//! | `dropout P` | in training a share P of the channels at each place is silent in all steps |
//! | `block` | a transformer block at the width at hand: SSA and MLP, or EMSA and EMSP with `[model.semm]` |
//!
//! Spike trains are images of one pixel, `[T, B, 1, 1, units]`. The head reads the mean over places, at every step.

use super::spec::{Net, Spec};
use super::transformer::{Block, attention, perceptron};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::nn::{BatchNormLayer, ConvBn, Head, Kind, Neurons};
use crate::ops::delay::Delay;
use crate::ops::dropout::Dropout;
use crate::ops::flatten::Flatten;
use crate::ops::mean::TokenMean;
use crate::ops::pool::MaxPool;
use crate::params::Build;
use crate::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// `conv N`
    Conv(usize),
    /// `fc N`
    Fc(usize),
    /// `pool`
    Pool,
    /// `flatten`
    Flatten,
    /// `delay N S`
    Delay(usize, usize),
    /// `norm`
    Norm,
    /// `dropout P`
    Dropout(f32),
    /// `block`
    Block,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Layer::Conv(n) => write!(f, "conv {n}"),
            Layer::Fc(n) => write!(f, "fc {n}"),
            Layer::Pool => f.write_str("pool"),
            Layer::Flatten => f.write_str("flatten"),
            Layer::Delay(n, s) => write!(f, "delay {n} {s}"),
            Layer::Norm => f.write_str("norm"),
            Layer::Dropout(p) => write!(f, "dropout {p}"),
            Layer::Block => f.write_str("block"),
        }
    }
}

impl std::str::FromStr for Layer {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let words: Vec<&str> = s.split_whitespace().collect();
        let number = |n: &str| n.parse().ok().filter(|&n| n > 0);
        match words.as_slice() {
            ["conv", n] => number(n).map(Layer::Conv),
            ["fc", n] => number(n).map(Layer::Fc),
            ["pool"] => Some(Layer::Pool),
            ["flatten"] => Some(Layer::Flatten),
            ["delay", n, s] => number(n).zip(number(s)).map(|(n, s)| Layer::Delay(n, s)),
            ["norm"] => Some(Layer::Norm),
            ["dropout", p] => p.parse().ok().filter(|p| *p > 0.0 && *p < 1.0).map(Layer::Dropout),
            ["block"] => Some(Layer::Block),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "layer {s:?} is none of \"conv N\", \"fc N\", \"pool\", \"flatten\", \"delay N S\", \"norm\", \"dropout P\" (0 < P < 1), \
                 \"block\""
            )
        })
    }
}

impl Serialize for Layer {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Channels of a layer, and steps that a delay reaches back, at most: what no network has is a slip of the pen.
const MOST: usize = 1 << 20;

/// Checks a list of layers; the message says which is impossible.
pub fn problem(spec: &Spec) -> Option<String> {
    // Whether there are spikes, and whether they are integers, as behind a block.
    let (mut packed, mut integer) = (false, false);
    let (h, w) = spec.input_size;
    let (mut h, mut w, mut c) = (h.max(1), w.max(1), spec.in_channels);
    for (i, l) in spec.layers.iter().enumerate() {
        let wrong = |why: String| Some(format!("layer {i} ({l}): {why}"));
        match *l {
            Layer::Conv(n) | Layer::Fc(n) if n > MOST => return wrong(format!("at most {MOST} channels are possible")),
            Layer::Delay(n, s) if n > MOST || (n - 1).saturating_mul(s) > MOST => {
                return wrong(format!("at most {MOST} steps can be looked back"));
            }
            Layer::Conv(n) | Layer::Fc(n) => (c, packed, integer) = (n, true, false),
            Layer::Pool => (h, w) = (h.div_ceil(2), w.div_ceil(2)),
            Layer::Flatten if spec.input_size == (0, 0) => {
                return wrong("model.input_size = [height, width] is needed to know how many channels it makes".into());
            }
            Layer::Flatten => (h, w, c) = (1, 1, h * w * c),
            Layer::Delay(n, _) => (c, packed) = (c.saturating_mul(n), packed && !integer),
            Layer::Norm if packed => {
                return wrong("spikes have a norm behind conv and fc already; this one is for what comes in".into());
            }
            Layer::Norm => {}
            Layer::Dropout(_) => packed = false,
            Layer::Block if !packed => return wrong("a block works on spikes: put a conv or fc right before it".into()),
            Layer::Block => {
                if let Some(why) = (Spec { net: Net::Spikformer, dim: c, layers: Vec::new(), ..spec.clone() }).mixing_problem() {
                    return wrong(why);
                }
                integer = true;
            }
        }
    }
    None
}

enum Stage {
    Map(ConvBn, Neurons),
    Pool,
    Flatten,
    Delay(usize, usize),
    Norm(BatchNormLayer),
    Dropout(f32),
    Block(Block),
}

/// Frames `[T, B, H, W, C]` to the logits of each step `[T, B, classes]`.
pub struct Csnn {
    stages: Vec<Stage>,
    head: Head,
}

impl Csnn {
    /// Names `layers.i` (`layers.i.conv`, `layers.i.bn`, `layers.i.attn`, ...), `lifs.i` and `head`.
    pub fn new(spec: &Spec, b: &mut Build<'_>) -> Result<Self> {
        let (mut h, mut w) = (spec.input_size.0.max(1), spec.input_size.1.max(1));
        let mut c = spec.in_channels;
        let mut stages = Vec::new();
        for (i, l) in spec.layers.iter().enumerate() {
            let name = format!("layers.{i}");
            let mut map = |kind, n: usize, c: usize| -> Result<Stage> {
                Ok(Stage::Map(ConvBn::new(b, &name, kind, c, n)?, Neurons::new(b, &format!("lifs.{i}"), spec.neuron)?))
            };
            stages.push(match *l {
                Layer::Conv(n) => map(Kind::Conv3x3, n, c)?,
                Layer::Fc(n) => map(Kind::Pointwise, n, c)?,
                Layer::Pool => {
                    (h, w) = (h.div_ceil(2), w.div_ceil(2));
                    Stage::Pool
                }
                Layer::Flatten => {
                    (h, w, c) = (1, 1, h * w * c);
                    Stage::Flatten
                }
                Layer::Delay(n, s) => {
                    c *= n;
                    Stage::Delay(n, s)
                }
                Layer::Norm => Stage::Norm(BatchNormLayer::new(&mut b.scope(&name).scope("norm"), c)?),
                Layer::Dropout(p) => Stage::Dropout(p),
                Layer::Block => {
                    let s = Spec { net: Net::Spikformer, dim: c, ..spec.clone() };
                    let mut b = b.scope(&name);
                    let attn = attention(&s, &mut b.scope("attn"))?;
                    Stage::Block(Block::new(name.clone(), attn, perceptron(&s, &mut b.scope("mlp"))?))
                }
            });
            if let Layer::Conv(n) | Layer::Fc(n) = *l {
                c = n;
            }
        }
        Ok(Csnn { stages, head: Head::new(b, "head", c, spec.classes)? })
    }
}

impl Module for Csnn {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, stage) in self.stages.iter().enumerate() {
            let name = format!("layers.{i}");
            x = match stage {
                Stage::Map(map, lif) => map.spikes(&x, lif, cx)?,
                Stage::Pool => cx.apply1(&name, MaxPool, &[&x])?,
                Stage::Flatten => cx.apply1(&name, Flatten, &[&x])?,
                &Stage::Delay(taps, stride) => delayed(&name, &x, Delay { taps, stride, wants_past: cx.carries_state() }, cx)?,
                Stage::Norm(norm) => norm.forward(&x, cx)?,
                &Stage::Dropout(share) if cx.is_training() => {
                    let rng = cx.rng(&name);
                    cx.apply1(&name, Dropout { share, rng }, &[&x])?
                }
                Stage::Dropout(_) => x,
                Stage::Block(b) => b.forward(&x, cx)?,
            };
        }
        if x.shape().len() < 3 {
            return Err(Error::shape("csnn", format!("{:?}", x.shape())));
        }
        let y = cx.apply1("head", TokenMean { sum: false }, &[&x])?;
        self.head.forward(&y, cx)
    }
}

/// Runs a delay; what came before is silence, or the context's where it carries state.
fn delayed(name: &str, x: &Tensor, op: Delay, cx: &mut Ctx<'_>) -> Result<Tensor> {
    let past = match cx.take_state(name) {
        Some(past) => past,
        None => {
            let mut shape = x.shape().to_vec();
            shape[0] = op.past();
            Tensor::zeros(x.device(), &shape)?
        }
    };
    let mut outs = cx.apply(name, op, &[x, &past])?.into_iter();
    let y = outs.next().ok_or_else(|| Error::shape(name, "no output"))?;
    outs.next().into_iter().for_each(|past| cx.put_state(name, past));
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_and_written() {
        for text in ["conv 3", "fc 7", "pool", "flatten", "delay 3 8", "norm", "dropout 0.25", "block"] {
            assert_eq!(text.parse::<Layer>().map(|l| l.to_string()), Ok(text.to_string()));
        }
        for text in
            ["", "fc 0", "conv", "delay 3", "delay 0 1", "delay 2 0", "dropout 0", "dropout 1", "dropout -1", "dropout nan"]
        {
            assert!(text.parse::<Layer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_block_wants_spikes() {
        let why = |layers: &[&str]| {
            let layers = layers.iter().map(|l| l.parse().unwrap()).collect();
            problem(&Spec { net: Net::Csnn, layers, input_size: (4, 4), ..Spec::default() })
        };
        assert_eq!(why(&["delay 2 1", "conv 16", "delay 2 1", "block"]), None);
        assert!(why(&["block"]).unwrap().starts_with("layer 0 (block): "));
        assert_eq!(why(&["fc 16", "block", "block", "delay 2 1"]), None);
        assert!(why(&["fc 16", "block", "delay 2 1", "block"]).unwrap().starts_with("layer 3 (block): "));
        assert_eq!(why(&["norm", "dropout 0.5", "norm", "fc 16", "block"]), None);
        assert!(why(&["fc 16", "norm", "block"]).unwrap().starts_with("layer 1 (norm): "));
        assert!(why(&["fc 16", "dropout 0.5", "block"]).unwrap().starts_with("layer 2 (block): "));
    }
}
