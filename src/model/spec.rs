//! A network as data: the `[model]` table of a recipe, stored in every checkpoint.

use super::csnn::{self, Layer};
use crate::error::{Error, Result};
use crate::moe::{Hidden, Semm};
use crate::neuron::Neuron;
use serde::{Deserialize, Serialize};

/// Which backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Net {
    /// Spikformer (Zhou et al., 2023): residuals add spikes.
    Spikformer,
    /// Spikingformer (Zhou et al., 2023): residuals add currents.
    Spikingformer,
    /// Spike-driven Transformer (Yao et al., 2023): membrane shortcuts, masked sums for attention.
    SpikeDriven,
    /// A plain network from the list `layers`; see [`super::csnn`].
    Csnn,
}

/// A network as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Backbone.
    pub net: Net,
    /// Input channels; 2 for the polarities of events.
    pub in_channels: usize,
    /// Classes.
    pub classes: usize,
    /// Layers of a `csnn`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// Height and width of the frames, for a `csnn` that flattens; taken from the data where it is left out.
    #[serde(skip_serializing_if = "is_unset")]
    pub input_size: (usize, usize),
    /// Width D of a transformer, a multiple of 8.
    pub dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads, a divisor of the width (networks without experts).
    pub heads: usize,
    /// Hidden width of the perceptron over D (networks without experts).
    pub mlp_ratio: usize,
    /// Factor of Q K^T V; the backbone's own where it is absent (Spikformer 0.25, Spikingformer 0.125).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Threshold of the attention neurons (networks without experts).
    pub attention_v_threshold: f32,
    /// After which of the four stages of the patch embedding a max pooling halves the image; the backbone's own where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<[bool; 4]>,
    /// The neurons.
    pub neuron: Neuron,
    /// Expert mixtures in place of attention and perceptron.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semm: Option<Semm>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            net: Net::Spikformer,
            in_channels: 2,
            classes: 10,
            layers: Vec::new(),
            input_size: (0, 0),
            dim: 256,
            depth: 2,
            heads: 16,
            mlp_ratio: 4,
            scale: None,
            attention_v_threshold: 0.5,
            pools: None,
            neuron: Neuron::default(),
            semm: None,
        }
    }
}

impl Spec {
    /// Factor of Q K^T V.
    pub fn scale(&self) -> f32 {
        self.scale.unwrap_or(match self.net {
            Net::Spikformer | Net::Csnn => 0.25,
            Net::Spikingformer | Net::SpikeDriven => 0.125,
        })
    }
    /// Where the patch embedding pools.
    pub fn pools(&self) -> [bool; 4] {
        self.pools.unwrap_or(match self.net {
            Net::Spikformer | Net::Spikingformer | Net::Csnn => [true; 4],
            Net::SpikeDriven => [false, false, true, true],
        })
    }
    /// The token grid that images of h x w become.
    pub fn grid(&self, h: usize, w: usize) -> (usize, usize) {
        let halve = |n: usize| self.pools().iter().filter(|p| **p).fold(n, |n, _| n.div_ceil(2));
        (halve(h), halve(w))
    }
    /// Keys that are not as they are by default although they have no effect on this network, each with the reason.
    pub fn idle_keys(&self) -> Vec<(&'static str, String)> {
        let d = Spec::default();
        let (csnn, block) = (self.net == Net::Csnn, self.layers.contains(&Layer::Block));
        let instead =
            |key| self.semm.and(Some(format!("has no effect with [model.semm], where {key} takes its place; leave it out")));
        let no_block = || (csnn && !block).then(|| "has no effect on a csnn without a \"block\" among its layers".to_string());
        let by_layers = || csnn.then(|| "has no effect on a csnn: its layers say how many and how wide they are".to_string());
        let any_size = || (!csnn).then(|| "has no effect on a transformer, which takes frames of any size".to_string());
        let keys = [
            ("dim", self.dim != d.dim, by_layers()),
            ("depth", self.depth != d.depth, by_layers()),
            ("heads", self.heads != d.heads, no_block().or_else(|| instead("semm.experts"))),
            ("mlp_ratio", self.mlp_ratio != d.mlp_ratio, no_block().or_else(|| instead("semm.hidden"))),
            ("scale", self.scale != d.scale, no_block()),
            (
                "attention_v_threshold",
                self.attention_v_threshold != d.attention_v_threshold,
                no_block().or_else(|| instead("semm.v_threshold")),
            ),
            ("input_size", self.input_size != d.input_size, any_size()),
        ];
        keys.into_iter().filter(|k| k.1).filter_map(|(key, _, why)| Some((key, why?))).collect()
    }
    /// What is impossible about attention and perceptron at width `dim`, if anything, as `key: reason`.
    pub fn mixing_problem(&self) -> Option<String> {
        let threshold = |key: &str, v: f32| self.neuron.with_threshold(v).problem().map(|(_, why)| format!("{key}: {why}"));
        let positive = |key: &str, v: f32| (!(v.is_finite() && v > 0.0)).then(|| format!("{key}: {v} must be a positive number"));
        let dim = self.dim;
        let Some(s) = &self.semm else {
            if self.heads == 0 || !dim.is_multiple_of(self.heads) {
                return Some(format!("heads: {} heads do not divide a width of {dim}", self.heads));
            }
            return positive("scale", self.scale()).or_else(|| threshold("attention_v_threshold", self.attention_v_threshold));
        };
        if s.experts == 0 || s.experts > dim {
            return Some(format!("semm.experts: {} must be between 1 and the width {dim}", s.experts));
        }
        if s.gate_window == 0 || s.gate_window > 1_000_000 {
            return Some("semm.gate_window: must be from 1 to 1000000 steps".into());
        }
        if s.expert_dim == Some(0) {
            return Some("semm.expert_dim: must be at least 1".into());
        }
        if s.expert_dim.is_none() && !dim.is_multiple_of(s.experts) {
            return Some(format!("semm.experts: {} experts do not divide a width of {dim}; give semm.expert_dim", s.experts));
        }
        let hidden = match s.hidden {
            Hidden::Channels(n) if n == 0 || !n.is_multiple_of(2) => {
                Some(format!("semm.hidden: {n} must be even and at least 2: half are experts, half route"))
            }
            Hidden::Parity if dim < 3 => Some(format!("semm.hidden: 16 (width div 3) is zero for a width of {dim}")),
            _ => None,
        };
        hidden.or_else(|| positive("semm.scale", s.scale.unwrap_or(1.0))).or_else(|| threshold("semm.v_threshold", s.v_threshold))
    }
    /// Checks every setting.
    ///
    /// # Errors
    /// The first impossible one, by its key.
    pub fn validate(&self) -> Result<()> {
        let bad = |key: &str, why: String| Err(Error::config(format!("model.{key}"), why));
        for (key, v) in [("in_channels", self.in_channels), ("classes", self.classes)] {
            if v == 0 {
                return bad(key, "must be at least 1".into());
            }
        }
        if let Some((key, why)) = self.neuron.problem() {
            return bad(&format!("neuron.{key}"), why);
        }
        if self.net == Net::Csnn {
            if self.layers.is_empty() {
                return bad("layers", "a csnn needs them, for example [\"conv 32\", \"pool\", \"fc 128\"]".into());
            }
            let block = self.layers.contains(&Layer::Block);
            if self.semm.is_some() && !block {
                return bad("semm", "has no effect on a csnn without a \"block\" among its layers".into());
            }
            if self.pools.is_some() {
                return bad("pools", "has no effect on a csnn, which pools where its layers say \"pool\"".into());
            }
            return csnn::problem(self).map_or(Ok(()), |why| bad("layers", why));
        }
        if !self.layers.is_empty() {
            return bad("layers", "only net = \"csnn\" has them".into());
        }
        for (key, v) in [("depth", self.depth), ("mlp_ratio", self.mlp_ratio)] {
            if v == 0 || v > 1024 {
                return bad(key, format!("{v}: from 1 to 1024 are possible"));
            }
        }
        if self.dim == 0 || !self.dim.is_multiple_of(8) {
            return bad(
                "dim",
                format!("{} must be a positive multiple of 8: the patch embedding is D/8, D/4, D/2 and D wide", self.dim),
            );
        }
        match self.mixing_problem() {
            None => Ok(()),
            Some(p) => p.split_once(": ").map_or_else(|| bad("semm", p.clone()), |(key, why)| bad(key, why.to_string())),
        }
    }
}

fn is_unset(size: &(usize, usize)) -> bool {
    *size == (0, 0)
}
