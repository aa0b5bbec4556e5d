//! Neuron models: how a membrane charges. Firing, reset, detaching, the surrogate and time belong to the shared kernels
//! (`kernel/neuron.rs`); a model is its charge function with its derivatives, in Rust and in WGSL.
//!
//! With V the membrane after the last reset, X the input current and H the membrane before firing (SpikingJelly's arithmetic):
//! S = 1 where H >= `v_threshold`; hard reset V = H (1 - S) + `v_reset` S; soft reset (no `v_reset`) V = H - `v_threshold` S.
//! The leak pulls towards `v_reset`, or towards 0 where the reset is soft.
//!
//! # How to add one
//! A unit struct that implements [`Model`], and its name in [`NeuronKind`] and `with_model!` below. Kernels, parity cases, specs and the
//! training tests then know it; the compiler names the one place besides, `neuron/lazy.rs`, which asks how a membrane moves where
//! nothing arrives, and in the tests the float64 reference of `tests/gradients.rs`, which takes the charge function once more. `tests/lazy.rs` and
//! `tests/fire.rs` run every kind.
//!
//! What fits is one state with a charge function that is affine in V and X (its derivatives are given neither): no quadratic or exponential
//! neurons, no second state such as an adaptive threshold or a synaptic current.

pub mod lazy;

use crate::surrogate::SurrogateKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Constants a charge function may use.
#[derive(Clone, Copy, Debug)]
pub struct Charging {
    /// 1 / tau.
    pub k: f32,
    /// Where the leak pulls to.
    pub rest: f32,
    /// Whether the input is divided by tau as well.
    pub decay_input: bool,
}

/// The charge function H(V, X) and its derivatives; all `#[inline(always)]` and branch-free.
pub trait Model: Copy + Send + Sync + 'static {
    /// H.
    fn charge(v: f32, x: f32, c: Charging) -> f32;
    /// dH/dX.
    fn dh_dx(c: Charging) -> f32;
    /// dH/dV.
    fn dh_dv(c: Charging) -> f32;
    /// dH/dk, for models that learn k = 1/tau.
    fn dh_dk(v: f32, x: f32, c: Charging) -> f32;
    /// The four functions in WGSL: `charge(v, x, k)`, `dh_dx(k)`, `dh_dv(k)`, `dh_dk(v, x)`; `u.rest` and `u.decay_input` are in scope.
    const WGSL: &'static str;
}

/// Leaky integrate-and-fire: H = V + (X - (V - rest)) / tau, or H = V - (V - rest) / tau + X without `decay_input`.
#[derive(Clone, Copy, Debug)]
pub struct Lif;

impl Model for Lif {
    #[inline(always)]
    fn charge(v: f32, x: f32, c: Charging) -> f32 {
        if c.decay_input { v + (x - (v - c.rest)) * c.k } else { v - (v - c.rest) * c.k + x }
    }
    #[inline(always)]
    fn dh_dx(c: Charging) -> f32 {
        if c.decay_input { c.k } else { 1.0 }
    }
    #[inline(always)]
    fn dh_dv(c: Charging) -> f32 {
        1.0 - c.k
    }
    #[inline(always)]
    fn dh_dk(v: f32, x: f32, c: Charging) -> f32 {
        if c.decay_input { x - (v - c.rest) } else { c.rest - v }
    }
    const WGSL: &'static str = "
fn charge(v: f32, x: f32, k: f32) -> f32 {
    if (u.decay_input != 0u) { return v + (x - (v - u.rest)) * k; }
    return v - (v - u.rest) * k + x;
}
fn dh_dx(k: f32) -> f32 { return select(1.0, k, u.decay_input != 0u); }
fn dh_dv(k: f32) -> f32 { return 1.0 - k; }
fn dh_dk(v: f32, x: f32) -> f32 { return select(u.rest - v, x - (v - u.rest), u.decay_input != 0u); }
";
}

/// Integrate-and-fire: H = V + X.
#[derive(Clone, Copy, Debug)]
pub struct If;

impl Model for If {
    #[inline(always)]
    fn charge(v: f32, x: f32, _: Charging) -> f32 {
        v + x
    }
    #[inline(always)]
    fn dh_dx(_: Charging) -> f32 {
        1.0
    }
    #[inline(always)]
    fn dh_dv(_: Charging) -> f32 {
        1.0
    }
    #[inline(always)]
    fn dh_dk(_: f32, _: f32, _: Charging) -> f32 {
        0.0
    }
    const WGSL: &'static str = "
fn charge(v: f32, x: f32, k: f32) -> f32 { return v + x; }
fn dh_dx(k: f32) -> f32 { return 1.0; }
fn dh_dv(k: f32) -> f32 { return 1.0; }
fn dh_dk(v: f32, x: f32) -> f32 { return 0.0; }
";
}

/// Which neuron; the key in recipes and checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeuronKind {
    /// Leaky integrate-and-fire.
    Lif,
    /// LIF that learns w, 1/tau = logistic(w), from w = -ln(tau - 1).
    Plif,
    /// Integrate-and-fire.
    If,
}

impl NeuronKind {
    /// All of them.
    pub const ALL: &'static [NeuronKind] = &[NeuronKind::Lif, NeuronKind::Plif, NeuronKind::If];
    /// The key in recipes and checkpoints.
    pub fn key(self) -> &'static str {
        match self {
            NeuronKind::Lif => "lif",
            NeuronKind::Plif => "plif",
            NeuronKind::If => "if",
        }
    }
    /// The charge functions in WGSL.
    pub fn wgsl(self) -> &'static str {
        match self {
            NeuronKind::Lif | NeuronKind::Plif => Lif::WGSL,
            NeuronKind::If => If::WGSL,
        }
    }
    /// Whether 1/tau is a learned parameter.
    pub fn learns_tau(self) -> bool {
        self == NeuronKind::Plif
    }
}

/// Runs an expression with a name for the model type behind a [`NeuronKind`].
#[macro_export]
macro_rules! with_model {
    ($kind:expr, $m:ident => $e:expr) => {
        match $kind {
            $crate::neuron::NeuronKind::Lif | $crate::neuron::NeuronKind::Plif => {
                type $m = $crate::neuron::Lif;
                $e
            }
            $crate::neuron::NeuronKind::If => {
                type $m = $crate::neuron::If;
                $e
            }
        }
    };
}

/// A neuron layer's settings, under the names of SpikingJelly; stored in every checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neuron {
    /// Model.
    pub neuron: NeuronKind,
    /// Membrane time constant in steps (`init_tau` of a PLIF); at least 1, and above 1 for PLIF. Unused by IF.
    pub tau: f32,
    /// Whether the input is divided by tau too.
    pub decay_input: bool,
    /// Firing threshold.
    pub v_threshold: f32,
    /// Value after a spike; `"none"` for a soft reset (subtract the threshold).
    #[serde(serialize_with = "write_reset", deserialize_with = "read_reset")]
    pub v_reset: Option<f32>,
    /// Whether the spike in the reset is left out of the gradient.
    pub detach_reset: bool,
    /// Surrogate gradient.
    pub surrogate: SurrogateKind,
    /// Its steepness.
    pub alpha: f32,
}

impl Default for Neuron {
    /// The papers' LIF: tau 2, threshold 1, hard reset to 0, detached, sigmoid surrogate of alpha 4.
    fn default() -> Self {
        Neuron {
            neuron: NeuronKind::Lif,
            tau: 2.0,
            decay_input: true,
            v_threshold: 1.0,
            v_reset: Some(0.0),
            detach_reset: true,
            surrogate: SurrogateKind::Sigmoid,
            alpha: 4.0,
        }
    }
}

impl Neuron {
    /// The same with another threshold.
    pub fn with_threshold(self, v_threshold: f32) -> Self {
        Neuron { v_threshold, ..self }
    }
    /// Where a membrane starts and the leak pulls to.
    pub fn rest(&self) -> f32 {
        // -0 is 0 here as in the kernels' sums.
        self.v_reset.unwrap_or(0.0) + 0.0
    }
    /// What is impossible about the settings, if anything: key and reason.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let bad_tau = match self.neuron {
            NeuronKind::Lif => self.tau.is_nan() || self.tau < 1.0,
            NeuronKind::Plif => self.tau.is_nan() || self.tau <= 1.0,
            NeuronKind::If => false,
        };
        if bad_tau || self.tau.is_infinite() {
            return Some(("tau", format!("{} is not a time constant: at least 1 step (above 1 for plif)", self.tau)));
        }
        if !self.v_threshold.is_finite() || self.v_threshold <= self.rest() {
            return Some(("v_threshold", format!("{} must lie above v_reset ({})", self.v_threshold, self.rest())));
        }
        if !self.rest().is_finite() {
            return Some(("v_reset", "must be a finite number or \"none\"".into()));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Some(("alpha", format!("{} must be a positive number", self.alpha)));
        }
        None
    }
}

fn write_reset<S: Serializer>(v: &Option<f32>, s: S) -> Result<S::Ok, S::Error> {
    match v {
        Some(v) => s.serialize_f32(*v),
        None => s.serialize_str("none"),
    }
}

fn read_reset<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Reset {
        Number(f32),
        Word(String),
    }
    match Reset::deserialize(d) {
        Ok(Reset::Number(v)) => Ok(Some(v)),
        Ok(Reset::Word(w)) if w == "none" => Ok(None),
        _ => Err(serde::de::Error::custom("v_reset is a number (hard reset) or \"none\" (soft reset)")),
    }
}
