//! A network as data: the `[model]` table of a recipe, stored in every checkpoint.

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
    /// Width D, a multiple of 8.
    pub dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads (networks without experts).
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
            Net::Spikformer => 0.25,
            Net::Spikingformer | Net::SpikeDriven => 0.125,
        })
    }
    /// Where the patch embedding pools.
    pub fn pools(&self) -> [bool; 4] {
        self.pools.unwrap_or(match self.net {
            Net::Spikformer | Net::Spikingformer => [true; 4],
            Net::SpikeDriven => [false, false, true, true],
        })
    }
    /// The token grid that images of h x w become.
    pub fn grid(&self, h: usize, w: usize) -> (usize, usize) {
        let halve = |n: usize| self.pools().iter().filter(|p| **p).fold(n, |n, _| n.div_ceil(2));
        (halve(h), halve(w))
    }
    /// Checks every setting.
    ///
    /// # Errors
    /// The first impossible one, by its key.
    pub fn validate(&self) -> Result<()> {
        let bad = |key: &str, why: String| Err(Error::config(format!("model.{key}"), why));
        for (key, v) in
            [("in_channels", self.in_channels), ("classes", self.classes), ("depth", self.depth), ("mlp_ratio", self.mlp_ratio)]
        {
            if v == 0 {
                return bad(key, "must be at least 1".into());
            }
        }
        if self.dim == 0 || !self.dim.is_multiple_of(8) {
            return bad(
                "dim",
                format!("{} must be a positive multiple of 8: the patch embedding is D/8, D/4, D/2 and D wide", self.dim),
            );
        }
        if self.semm.is_none() && (self.heads == 0 || !self.dim.is_multiple_of(self.heads)) {
            return bad("heads", format!("{} heads do not divide dim {}", self.heads, self.dim));
        }
        if !(self.scale().is_finite() && self.scale() > 0.0) {
            return bad("scale", format!("{} must be a positive number", self.scale()));
        }
        if let Some((key, why)) = self.neuron.problem() {
            return bad(&format!("neuron.{key}"), why);
        }
        let threshold = |key: &str, v: f32| match self.neuron.with_threshold(v).problem() {
            Some((_, why)) => bad(key, why),
            None => Ok(()),
        };
        threshold("attention_v_threshold", self.attention_v_threshold)?;
        let Some(s) = &self.semm else { return Ok(()) };
        if s.experts == 0 || s.experts > self.dim {
            return bad("semm.experts", format!("{} must be between 1 and dim {}", s.experts, self.dim));
        }
        if s.expert_dim == Some(0) {
            return bad("semm.expert_dim", "must be at least 1".into());
        }
        if s.expert_dim.is_none() && !self.dim.is_multiple_of(s.experts) {
            return bad("semm.experts", format!("{} experts do not divide dim {}; give semm.expert_dim", s.experts, self.dim));
        }
        if s.scale.is_some_and(|v| !(v.is_finite() && v > 0.0)) {
            return bad("semm.scale", "must be a positive number".into());
        }
        threshold("semm.v_threshold", s.v_threshold)?;
        match s.hidden {
            Hidden::Channels(n) if n == 0 || !n.is_multiple_of(2) => {
                bad("semm.hidden", format!("{n} must be even and at least 2: half are experts, half route"))
            }
            Hidden::Parity if self.dim < 3 => bad("semm.hidden", "16 (dim div 3) is zero".into()),
            _ => Ok(()),
        }
    }
}
