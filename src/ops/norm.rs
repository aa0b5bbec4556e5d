//! Batch norm over rows: every axis but the last.

use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::norm::{
    Affine, AffineU, Apply, BackwardInput, BackwardInputU, BackwardParams, BackwardReduce, Stats as StatsKernel, StatsU,
};
use crate::padding::Padding;
use crate::tensor::{Repr, Tensor, launch, launch_onto, launch1};
use std::borrow::Cow;

/// Mean and biased variance of each channel.
pub struct Stats {
    /// `[C]`
    pub mean: Tensor,
    /// `[C]`
    pub var: Tensor,
}

fn uniform(x: &Tensor) -> StatsU {
    StatsU { rows: x.rows() as u32, c: x.channels() as u32 }
}

fn two(mut v: Vec<Tensor>) -> Result<(Tensor, Tensor)> {
    match (v.pop(), v.pop()) {
        (Some(b), Some(a)) => Ok((a, b)),
        _ => Err(Error::shape("batch_norm", "no output")),
    }
}

impl Stats {
    /// Over the rows of x, of a padded batch over those of real steps.
    pub fn of(x: &Tensor, padding: Option<&Padding>) -> Result<Stats> {
        let x = &*real(x, padding)?;
        let c = [x.channels()];
        let outs = launch(x.device(), &StatsKernel, &uniform(x), &[x], &[(&c, Repr::F32), (&c, Repr::F32)])?;
        let (mean, var) = two(outs)?;
        Ok(Stats { mean, var })
    }
    /// (a, b) with gamma (x - mean) / sqrt(var + eps) + beta = a x + b.
    pub fn affine(&self, gamma: &Tensor, beta: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        let c = gamma.shape();
        let u = AffineU { c: gamma.len() as u32, eps };
        two(launch(gamma.device(), &Affine, &u, &[gamma, beta, &self.mean, &self.var], &[(c, Repr::F32), (c, Repr::F32)])?)
    }
}

fn real<'a>(x: &'a Tensor, padding: Option<&Padding>) -> Result<Cow<'a, Tensor>> {
    Ok(match padding {
        None => Cow::Borrowed(x),
        Some(p) => Cow::Owned(p.real(x)?),
    })
}

/// Gradients of a batch norm in training.
pub struct NormGrads {
    /// Of its input, where wanted.
    pub dx: Option<Tensor>,
    /// Of its gain.
    pub dgamma: Tensor,
    /// Of its shift.
    pub dbeta: Tensor,
}

/// Backward through batch statistics, of a padded batch those of its real steps; `dz` is the gradient of the normalised output. What
/// comes out for padded steps is zero.
pub fn backward_norm(
    x: &Tensor,
    dz: Tensor,
    gamma: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f32,
    needs_x: bool,
    padding: Option<&Padding>,
) -> Result<NormGrads> {
    let x = &*real(x, padding)?;
    let dz = match padding {
        None => dz,
        Some(p) => p.real(&dz)?,
    };
    let sums = launch1(&BackwardReduce, &uniform(x), &[x, &dz, mean], &[2, x.channels()], Repr::F32)?;
    let mut g = backward_norm_of_sums(x, dz, &sums, gamma, mean, var, eps, needs_x)?;
    if let Some(p) = padding {
        g.dx = g.dx.map(|dx| p.spread(&dx)).transpose()?;
    }
    Ok(g)
}

/// [`backward_norm`] where `sums` `[2, C]` of dz and of dz (x - mean) are there already.
pub fn backward_norm_of_sums(
    x: &Tensor,
    dz: Tensor,
    sums: &Tensor,
    gamma: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f32,
    needs_x: bool,
) -> Result<NormGrads> {
    let (c, StatsU { rows, c: channels }) = (gamma.shape(), uniform(x));
    let both = [(c, Repr::F32), (c, Repr::F32)];
    let u = AffineU { c: channels, eps };
    let (dgamma, dbeta) = two(launch(x.device(), &BackwardParams, &u, &[sums, var], &both)?)?;
    let dx = if needs_x {
        let u = BackwardInputU { rows, c: channels, eps };
        launch_onto(&BackwardInput, &u, &[x, gamma, mean, var, sums], dz, &[(x.shape(), Repr::F32)])?.pop()
    } else {
        None
    };
    Ok(NormGrads { dx, dgamma, dbeta })
}

/// x `[.., C]`, gamma, beta, running mean, running var `[C]` -> y `[.., C]`; in training also the batch's mean and biased variance `[C]`.
pub struct BatchNorm {
    /// Whether the batch's statistics are used.
    pub training: bool,
    /// Added to the variance.
    pub eps: f32,
    /// Which steps of the batch are real; all if none.
    pub padding: Option<Padding>,
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[input, gamma, beta, mean, var] = x else { return Err(Error::shape(self.name(), "five inputs expected")) };
        let s =
            if self.training { Stats::of(input, self.padding.as_ref())? } else { Stats { mean: mean.clone(), var: var.clone() } };
        let (a, b) = s.affine(gamma, beta, self.eps)?;
        let y = launch1(&Apply, &uniform(input), &[input, &a, &b], input.shape(), Repr::F32)?;
        let saved = vec![input.clone(), gamma.clone(), s.mean.clone(), s.var.clone()];
        let outputs = if self.training { vec![y, s.mean, s.var] } else { vec![y] };
        Ok(Forward { outputs, saved })
    }
    fn is_cheap(&self, _: &[&Tensor]) -> bool {
        // Backward keeps x in any case.
        self.training
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        if !self.training {
            return Err(Error::shape(self.name(), "a norm with running statistics has no backward"));
        }
        let Some(dy) = dy.first_mut().and_then(Option::take) else { return Err(Error::shape(self.name(), "no gradient")) };
        let padding = self.padding.as_ref();
        let g = backward_norm(&saved[0], dy, &saved[1], &saved[2], &saved[3], self.eps, needs[0], padding)?;
        Ok(vec![g.dx, Some(g.dgamma), Some(g.dbeta), None, None])
    }
}
