//! Networks, built from a [`Spec`].
//!
//! # How to add one
//! A file with a type that implements [`Module`] from frames `[T, B, H, W, C]` to the logits of each step `[T, B, classes]`, and a name
//! for it in [`Net`] with an arm in [`build`]. The class scores of a clip are the mean of its logits over the steps.

pub mod csnn;
pub mod spec;
pub mod transformer;

pub use spec::{Net, Spec};

use crate::ctx::Module;
use crate::error::Result;
use crate::params::{Build, Params};

/// Builds the network of a spec; its parameters go where `b` leads.
pub fn build(spec: &Spec, b: &mut Build<'_>) -> Result<Box<dyn Module>> {
    spec.validate()?;
    Ok(match spec.net {
        Net::Csnn => Box::new(csnn::Csnn::new(spec, b)?),
        _ => Box::new(transformer::Transformer::new(spec, b)?),
    })
}

/// Builds the network of a spec with fresh parameters on `device`.
pub fn fresh(spec: &Spec, device: &crate::device::Device, seed: u64) -> Result<(Box<dyn Module>, Params)> {
    let mut params = Params::new(device);
    let net = build(spec, &mut Build::new(&mut params, seed))?;
    Ok((net, params))
}
