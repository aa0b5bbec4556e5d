//! Gates: products of spikes with spikes, which are ANDs.

use super::{only, outline, outlined};
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::elementwise::{Interleave, InterleaveU, JoinColumns, SplitColumnsU};
use crate::kernel::gate::{Hold as HoldKernel, HoldBackward, HoldU, Rows, RowsBackward};
use crate::kernel::spike::{
    And, AndBackward, AndBackwardU, AndRow, AndRowBackward, AndRowU, AndU, Concat, ConcatU, MaskBackward, MaskU,
    Mixture as MixtureKernel, MixtureU, Split, SplitU,
};
use crate::tensor::{Repr, Tensor, launch, launch1};

const SPIKES: Repr = Repr::Bits { planes: 1 };

fn spikes(op: &str, x: &Tensor) -> Result<()> {
    match x.expect_bits(op)? {
        1 => Ok(()),
        n => Err(Error::shape(op, format!("integer spikes of {n} planes"))),
    }
}

/// r spikes `[.., m]` and m expert outputs, spikes `[.., D]` -> sum over i of r_i A_i, integer spikes of m planes `[.., D]`.
pub struct Mixture;

impl Op for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (r, experts) = x.split_first().ok_or_else(|| Error::shape(self.name(), "no router"))?;
        if r.channels() != experts.len() || experts.iter().any(|a| a.rows() != r.rows()) {
            return Err(Error::shape(self.name(), format!("router {r:?} for {} experts {:?}", experts.len(), experts.first())));
        }
        x.iter().try_for_each(|t| spikes(self.name(), t))?;
        let empty = super::none(r.device())?;
        let mut sum: Option<Tensor> = None;
        for (i, four) in experts.chunks(4).enumerate() {
            let (c, shape) = (four[0].channels() as u32, four[0].shape());
            let (first, n) = (4 * i as u32, four.len() as u32);
            let u = MixtureU { rows: r.rows() as u32, c, experts: experts.len() as u32, first, n };
            let [a0, a1, a2, a3] = std::array::from_fn(|i| four.get(i).copied().unwrap_or(&empty));
            let gated = launch1(&MixtureKernel, &u, &[r, a0, a1, a2, a3], shape, Repr::Bits { planes: four.len() })?;
            sum = Some(match sum {
                None => gated,
                Some(s) => {
                    let u = ConcatU { na: s.storage().len() as u32, nb: gated.storage().len() as u32 };
                    launch1(&Concat, &u, &[&s, &gated], shape, Repr::Bits { planes: s.planes() + four.len() })?
                }
            });
        }
        let y = sum.ok_or_else(|| Error::shape(self.name(), "no experts"))?;
        Ok(Forward::one(y, x.iter().map(|&t| t.clone()).collect()))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = only(self.name(), dy)?;
        let (r, experts) = saved.split_first().ok_or_else(|| Error::shape(self.name(), "no router"))?;
        let (rows, m) = (r.rows() as u32, experts.len() as u32);
        let mut dr = Tensor::zeros(r.device(), r.shape())?;
        let mut grads = Vec::new();
        for (i, a) in experts.iter().enumerate() {
            let u = MaskU { rows, c: a.channels() as u32, experts: m, expert: i as u32 };
            let one = [r.rows()];
            let outs = launch(r.device(), &MaskBackward, &u, &[r, a, dy], &[(a.shape(), Repr::F32), (&one, Repr::F32)])?;
            let [da, d]: [Tensor; 2] = outs.try_into().map_err(|_| Error::shape(self.name(), "no output"))?;
            dr = launch1(&Interleave, &InterleaveU { rows, m, i: i as u32 }, &[&dr, &d], r.shape(), Repr::F32)?;
            grads.push(Some(da));
        }
        grads.insert(0, Some(dr));
        Ok(grads)
    }
}

/// r spikes `[.., m]` and x `[.., C]` -> the rows of x where expert `expert` of r is open, and zeros.
pub struct RowGate {
    /// The expert.
    pub expert: usize,
}

impl RowGate {
    fn uniform(&self, r: &Tensor, x: &Tensor) -> MaskU {
        MaskU { rows: r.rows() as u32, c: x.channels() as u32, experts: r.channels() as u32, expert: self.expert as u32 }
    }
}

impl Op for RowGate {
    fn name(&self) -> &'static str {
        "row_gate"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[r, x] = x else { return Err(Error::shape(self.name(), "two inputs expected")) };
        spikes(self.name(), r)?;
        x.expect_f32(self.name())?;
        if r.rows() != x.rows() || self.expert >= r.channels() {
            return Err(Error::shape(self.name(), format!("gate {} of {r:?} for {x:?}", self.expert)));
        }
        let y = launch1(&Rows, &self.uniform(r, x), &[r, x], x.shape(), Repr::F32)?;
        Ok(Forward::one(y, vec![r.clone(), x.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (r, x, dy) = (&saved[0], &saved[1], only(self.name(), dy)?);
        let out = [(x.shape(), Repr::F32), (&[r.rows()][..], Repr::F32)];
        let outs = launch(r.device(), &RowsBackward, &self.uniform(r, x), &[r, x, dy], &out)?;
        let [dx, d]: [Tensor; 2] = outs.try_into().map_err(|_| Error::shape(self.name(), "no output"))?;
        let u = InterleaveU { rows: r.rows() as u32, m: r.channels() as u32, i: self.expert as u32 };
        let dr = launch1(&Interleave, &u, &[&Tensor::zeros(r.device(), r.shape())?, &d], r.shape(), Repr::F32)?;
        Ok(vec![Some(dr), Some(dx)])
    }
}

/// r spikes `[T, .., m]` -> the spikes of the first step of each window of `window` steps, for all of it, `[T, .., m]`.
///
/// Where a window began before, its gates come as a second input `[steps of it so far, .., m]`; such a tensor for the steps to come is the
/// second output where it is wanted, with no steps where the last window is complete. Training starts at the beginning of a window.
pub struct Hold {
    /// Steps.
    pub window: usize,
    /// Whether the second output is wanted.
    pub wants_open: bool,
}

impl Hold {
    fn uniform(&self, r: &Tensor, before: usize, words: usize) -> HoldU {
        let steps = r.shape().first().copied().unwrap_or(0);
        HoldU {
            steps: steps as u32,
            size: words.checked_div(steps).unwrap_or(0) as u32,
            window: self.window as u32,
            before: before as u32,
        }
    }
}

impl Op for Hold {
    fn name(&self) -> &'static str {
        "hold"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let r = x[0];
        spikes(self.name(), r)?;
        let before = x.get(1).map_or(0, |e| e.shape()[0]);
        let steps = r.shape().get(1..).unwrap_or_default();
        if self.window == 0 || before >= self.window || x.get(1).is_some_and(|e| !e.is_bits() || e.shape()[1..] != *steps) {
            return Err(Error::shape(self.name(), format!("windows of {} over {r:?} behind {:?}", self.window, x.get(1))));
        }
        let u = self.uniform(r, before, r.storage().len());
        let empty = super::none(r.device())?;
        let open = [&[u.after()], steps].concat();
        let inputs = [r, x.get(1).copied().unwrap_or(&empty)];
        let mut outputs = launch(r.device(), &HoldKernel, &u, &inputs, &[(r.shape(), SPIKES), (&open, SPIKES)])?;
        outputs.truncate(1 + usize::from(self.wants_open));
        Ok(Forward { outputs, saved: vec![r.clone()] })
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let r = &saved[0];
        let dr = launch1(&HoldBackward, &self.uniform(r, 0, r.len()), &[only(self.name(), dy)?], r.shape(), Repr::F32)?;
        Ok(vec![Some(dr)])
    }
}

/// a and b, spikes of one shape -> a AND b.
pub struct Both;

impl Op for Both {
    fn name(&self) -> &'static str {
        "and"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[a, b] = x else { return Err(Error::shape(self.name(), "two inputs expected")) };
        spikes(self.name(), a)?;
        spikes(self.name(), b)?;
        if a.shape() != b.shape() {
            return Err(Error::shape(self.name(), format!("{a:?} and {b:?}")));
        }
        let y = launch1(&And, &AndU { words: a.storage().len() as u32 }, &[a, b], a.shape(), SPIKES)?;
        Ok(Forward::one(y, vec![a.clone(), b.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (a, b) = (&saved[0], &saved[1]);
        let u = AndBackwardU { rows: a.rows() as u32, c: a.channels() as u32 };
        let out = [(a.shape(), Repr::F32), (a.shape(), Repr::F32)];
        Ok(launch(a.device(), &AndBackward, &u, &[a, b, only(self.name(), dy)?], &out)?.into_iter().map(Some).collect())
    }
}

/// a spikes `[T, B, N.., C]` and g spikes `[T, B, C]` -> a AND g, the same g for every token.
pub struct TokenGate;

impl TokenGate {
    fn uniform(a: &Tensor, g: &Tensor) -> AndRowU {
        AndRowU { groups: g.rows() as u32, n: (a.rows() / g.rows().max(1)) as u32, c: a.channels() as u32 }
    }
}

impl Op for TokenGate {
    fn name(&self) -> &'static str {
        "token_gate"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[a, g] = x else { return Err(Error::shape(self.name(), "two inputs expected")) };
        spikes(self.name(), a)?;
        spikes(self.name(), g)?;
        if a.channels() != g.channels() || a.shape().get(..2) != g.shape().get(..2) {
            return Err(Error::shape(self.name(), format!("{a:?} and {g:?}")));
        }
        let y = launch1(&AndRow, &Self::uniform(a, g), &[a, g], a.shape(), SPIKES)?;
        Ok(Forward::one(y, vec![a.clone(), g.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (a, g) = (&saved[0], &saved[1]);
        let out = [(a.shape(), Repr::F32), (g.shape(), Repr::F32)];
        let inputs = [a, g, only(self.name(), dy)?];
        Ok(launch(a.device(), &AndRowBackward, &Self::uniform(a, g), &inputs, &out)?.into_iter().map(Some).collect())
    }
}

/// x spikes `[.., C]` -> its first `first` channels and the others.
pub struct Halves {
    /// Channels of the first output.
    pub first: usize,
}

impl Op for Halves {
    fn name(&self) -> &'static str {
        "split"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let x = x[0];
        spikes(self.name(), x)?;
        let c = x.channels();
        if self.first > c {
            return Err(Error::shape(self.name(), format!("{} channels of {x:?}", self.first)));
        }
        let shape = |n: usize| x.shape()[..x.shape().len() - 1].iter().copied().chain([n]).collect::<Vec<_>>();
        let (a, b) = (shape(self.first), shape(c - self.first));
        let u = SplitU { rows: x.rows() as u32, c: c as u32, first: self.first as u32 };
        let outputs = launch(x.device(), &Split, &u, &[x], &[(&a, SPIKES), (&b, SPIKES)])?;
        Ok(Forward { outputs, saved: vec![outline(x)?] })
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = outlined(&saved[0]);
        let c = shape.last().copied().unwrap_or(0);
        let rows = shape.iter().product::<usize>().checked_div(c).unwrap_or(0);
        let zeros = |n: usize| Tensor::zeros(saved[0].device(), &[rows, n]);
        let a = dy[0].clone().map_or_else(|| zeros(self.first), Ok)?;
        let b = dy[1].clone().map_or_else(|| zeros(c - self.first), Ok)?;
        let u = SplitColumnsU { rows: rows as u32, c: c as u32, first: self.first as u32 };
        Ok(vec![Some(launch1(&JoinColumns, &u, &[&a, &b], shape, Repr::F32)?)])
    }
}
