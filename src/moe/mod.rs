//! Spiking experts mixture (SEMM; Zhou et al., "Spiking Transformer with Experts Mixture", 2024): routers and experts both emit spikes, and
//! a gate is a product of spikes. No softmax, no top-k: any number of experts, none included, may be open for a token at a step.
//!
//! # What closed gates save
//! In inference over whole clips the router runs first, for all T, and then, with the same results to the bit:
//! - rows of an expert's queries and attention are computed up to the last step at which their gate is open ([`Active`](crate::ops::active)):
//!   before it a neuron's membrane needs every step, behind it nobody listens. Keys and values are computed up to the last step at which
//!   any gate of the sample is open;
//! - EMSP computes its gates first, and then the experts (columns of the first map, depth-wise channels) that some gate of the batch
//!   opens. A channel that is open anywhere is computed everywhere: single places are too fine to save time on a CPU.
//!   Gates that the weights keep shut, whatever arrives, are not computed either ([`ConvBn::may_fire`](crate::nn::ConvBn::may_fire));
//! - behind the mixture, rows that closed gates left without spikes have one current, and places without any through the whole clip one
//!   course of membranes: one of each is computed for all ([`Active::alike`](crate::ops::active::Active::alike)), on the CPU where
//!   there are enough of them. Where operations are counted each is computed by itself.
//!
//! Not in training, where batch norms take their statistics from every row; nor in streams, where a gate may open in the next chunk.
//! [`Skip::Lazy`] makes another network whose closed rows can always be left out, in streams too; in whole clips
//! nothing is computed behind the last open step. [`Ctx::without_skipping`](crate::ctx::Ctx) computes
//! everything.
//!
//! On a GPU the numbers of active rows and of channels stay on the device, which is told to dispatch as many groups as it counted
//! ([`Kernel::counted`](crate::kernel::Kernel::counted)): nobody waits. EMSP's depth-wise neurons are computed there up to the last step at which
//! their own gate is open, which is less than what is counted: where operations are counted all is read back, and the host looks at
//! the gates as on the CPU.
//!
//! # How to add a router
//! A file beside `router.rs` with a type that implements [`Router`], its `mod` line here, and a name for it in [`router::RouterKind`] with an arm in
//! its `build`. What [`router::SpikingRouter`] does any router must: give spikes `[T, B, N.., experts]`; tell them to
//! [`Ctx::count_router`](crate::ctx::Ctx::count_router), or no report shows it; keep what it knows from chunk to chunk by `take_state` and
//! `put_state`, or streams differ from whole clips; and hold gates for `gate_window` steps. EMSA asks it; EMSP's gates are its own channels.
//! `tests/skip.rs` runs every network with every router of [`router::RouterKind::ALL`], with gates as they come and forced shut and open: that
//! it does by the bias of `router.bn`, so that a router whose gates have no such parameter needs its way to be forced there. `tests/oracle.rs`
//! compares what has fixtures.

pub mod emsa;
pub mod emsp;
mod gated;
pub mod router;

pub use router::Router;

use serde::{Deserialize, Serialize};

/// Width of the values in EMSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Width {
    /// The full width D.
    Base,
    /// The width of an expert.
    Small,
}

/// Hidden width of EMSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// 16 (D div 3): as many parameters as an MLP of ratio 4.
    Parity,
    /// 4 D.
    FourD,
    /// A number of channels, even.
    Channels(usize),
}

impl Hidden {
    /// Channels for width D.
    pub fn channels(self, dim: usize) -> usize {
        match self {
            Hidden::Parity => 16 * (dim / 3),
            Hidden::FourD => 4 * dim,
            Hidden::Channels(n) => n,
        }
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Hidden::Parity => s.serialize_str("parity"),
            Hidden::FourD => s.serialize_str("4d"),
            Hidden::Channels(n) => s.serialize_u64(*n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(usize),
            Word(String),
        }
        match Either::deserialize(d) {
            Ok(Either::Number(n)) => Ok(Hidden::Channels(n)),
            Ok(Either::Word(w)) if w == "4d" => Ok(Hidden::FourD),
            Ok(Either::Word(w)) if w == "parity" => Ok(Hidden::Parity),
            _ => Err(serde::de::Error::custom("hidden is \"parity\" (16 (D div 3)), \"4d\" or a number of channels")),
        }
    }
}

/// What a closed gate of EMSA means for the expert behind it, and so what may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skip {
    /// The paper's: gates are products. The expert's neurons hear every step; what is left out is what nobody can hear any more: rows of
    /// places whose gate does not open at this step or later. That is known for whole clips only, so that a stream skips nothing.
    Exact,
    /// A closed step is one without input: the expert's queries and attention neurons get no current but the norm's shift, and leak. It is
    /// **another network** than the paper's, in training too. Every closed row is left out in inference, in streams as well.
    Lazy,
}

/// The switches of SEMM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Semm {
    /// m, number of attention experts.
    pub experts: usize,
    /// Width of an expert's queries and of the keys; D / m where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_dim: Option<usize>,
    /// Width of the values.
    pub width: Width,
    /// Factor of Q K^T V; the backbone's where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Threshold of the experts' attention neurons.
    pub v_threshold: f32,
    /// Hidden width of EMSP.
    pub hidden: Hidden,
    /// Whether EMSP's experts are depth-wise convolutions (else the spikes of the first half themselves).
    pub depthwise: bool,
    /// What decides about the gates.
    pub router: router::RouterKind,
    /// What a closed gate of EMSA means.
    pub skip: Skip,
    /// Steps for which a router of EMSA decides at once, by its spikes at the first of them. Another network than the paper's unless it is 1.
    pub gate_window: usize,
}

impl Default for Semm {
    fn default() -> Self {
        Semm {
            experts: 4,
            expert_dim: None,
            width: Width::Base,
            scale: None,
            v_threshold: 0.5,
            hidden: Hidden::Parity,
            depthwise: true,
            router: router::RouterKind::Spiking,
            skip: Skip::Exact,
            gate_window: 1,
        }
    }
}
