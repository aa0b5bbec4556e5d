//! Products of spiking attention, without softmax. Tokens are `[T, B, N.., C]`, C cut into `heads` runs of neighbouring channels.
//!
//! [`KeyValue`] and then [`Query`] are Q (K^T V); [`Scores`] and then [`Mix`] are (Q K^T) V. Both are sums of integers, exact in float32, so
//! that a network may take whichever is cheaper.

use super::only;
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::attention::{Product, ProductU};
use crate::kernel::words;
use crate::tensor::{Repr, Tensor, launch1};

/// One matrix for each group (T x B) and head, as strides into a tensor.
#[derive(Clone, Copy)]
struct View<'a> {
    t: &'a Tensor,
    rows: usize,
    cols: usize,
    group: usize,
    head: usize,
    row: usize,
    col: usize,
}

impl<'a> View<'a> {
    /// Tokens `[T, B, N.., heads x d]` as \[N, d\].
    fn tokens(t: &'a Tensor, heads: usize) -> Self {
        let groups = t.shape()[0] * t.shape()[1];
        let pitch = if t.is_bits() { words(t.channels()) * 32 } else { t.channels() };
        let n = t.rows() / groups.max(1);
        let d = t.channels() / heads;
        View { t, rows: n, cols: d, group: n * pitch, head: d, row: pitch, col: 1 }
    }
    /// `[T, B, heads, rows, cols]` as \[rows, cols\].
    fn matrix(t: &'a Tensor) -> Self {
        let (rows, cols) = (t.shape()[3], t.shape()[4]);
        View { t, rows, cols, group: t.shape()[2] * rows * cols, head: rows * cols, row: cols, col: 1 }
    }
    fn transposed(self) -> Self {
        View { rows: self.cols, cols: self.rows, row: self.col, col: self.row, ..self }
    }
}

/// scale A B for every group and head, as tokens `[lead.., heads x cols]` or as matrices `[T, B, heads, rows, cols]`.
fn product(a: View<'_>, b: View<'_>, heads: usize, scale: f32, shape: &[usize], as_tokens: bool) -> Result<Tensor> {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if b.rows != k {
        return Err(Error::shape("attention", format!("[{m}, {k}] times [{}, {n}]", b.rows)));
    }
    let groups = a.t.shape()[0] * a.t.shape()[1];
    let (y_head, y_row) = if as_tokens { (n, heads * n) } else { (m * n, n) };
    let u = ProductU {
        groups: groups as u32,
        heads: heads as u32,
        m: m as u32,
        n: n as u32,
        k: k as u32,
        a_bits: u32::from(a.t.is_bits()),
        b_bits: u32::from(b.t.is_bits()),
        a_group: a.group as u32,
        a_head: a.head as u32,
        a_row: a.row as u32,
        a_col: a.col as u32,
        b_group: b.group as u32,
        b_head: b.head as u32,
        b_row: b.row as u32,
        b_col: b.col as u32,
        y_group: (m * n * heads) as u32,
        y_head: y_head as u32,
        y_row: y_row as u32,
        scale,
    };
    let none = super::none(a.t.device())?;
    let pick = |t: &Tensor| if t.is_bits() { (none.clone(), t.clone()) } else { (t.clone(), none.clone()) };
    let ((af, ab), (bf, bb)) = (pick(a.t), pick(b.t));
    launch1(&Product, &u, &[&af, &ab, &bf, &bb], shape, Repr::F32)
}

fn check(op: &str, t: &Tensor, heads: usize) -> Result<()> {
    if t.shape().len() < 4 || heads == 0 || !t.channels().is_multiple_of(heads) || t.planes() > 1 {
        return Err(Error::shape(op, format!("{t:?} in {heads} heads")));
    }
    Ok(())
}

fn lead(t: &Tensor, c: usize) -> Vec<usize> {
    t.shape()[..t.shape().len() - 1].iter().copied().chain([c]).collect()
}

/// How many spikes each row of x `[.., C]` holds in each head: \[rows, heads\].
fn head_counts(x: &Tensor, heads: usize) -> Result<Vec<u64>> {
    let (v, d) = (x.to_vec()?, x.channels() / heads);
    Ok(v.chunks(d.max(1)).map(|c| c.iter().filter(|v| **v != 0.0).count() as u64).collect())
}

/// k `[T, B, N.., heads x dk]`, v `[T, B, N.., heads x dv]` -> K^T V `[T, B, heads, dk, dv]`.
pub struct KeyValue {
    /// Heads.
    pub heads: usize,
}

impl Op for KeyValue {
    fn name(&self) -> &'static str {
        "key_value"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (k, v) = (x[0], x[1]);
        check(self.name(), k, self.heads)?;
        check(self.name(), v, self.heads)?;
        let shape = [k.shape()[0], k.shape()[1], self.heads, k.channels() / self.heads, v.channels() / self.heads];
        let (kt, vt) = (View::tokens(k, self.heads).transposed(), View::tokens(v, self.heads));
        Ok(Forward::one(product(kt, vt, self.heads, 1.0, &shape, false)?, vec![k.clone(), v.clone()]))
    }
    fn is_cheap(&self, _: &[&Tensor]) -> bool {
        // Floats from spikes, which are kept in any case.
        true
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (k, v, d) = (&saved[0], &saved[1], View::matrix(only(self.name(), dy)?));
        let dk = product(View::tokens(v, self.heads), d.transposed(), self.heads, 1.0, k.shape(), true)?;
        let dv = product(View::tokens(k, self.heads), d, self.heads, 1.0, v.shape(), true)?;
        Ok(vec![Some(dk), Some(dv)])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // Each key spike adds its token's value spikes.
        let (k, v) = (head_counts(x[0], self.heads)?, head_counts(x[1], self.heads)?);
        let dense = x[0].len() as u64 * (x[1].channels() / self.heads) as u64;
        Ok(Cost { acs: k.iter().zip(&v).map(|(k, v)| k * v).sum(), dense, ..Cost::default() })
    }
}

/// q `[T, B, N.., heads x dk]`, kv `[T, B, heads, dk, dv]` -> scale Q (K^T V) `[T, B, N.., heads x dv]`.
pub struct Query {
    /// Heads.
    pub heads: usize,
    /// Factor.
    pub scale: f32,
}

impl Op for Query {
    fn name(&self) -> &'static str {
        "query"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (q, kv) = (x[0], x[1]);
        check(self.name(), q, self.heads)?;
        let shape = lead(q, self.heads * kv.shape()[4]);
        let y = product(View::tokens(q, self.heads), View::matrix(kv), self.heads, self.scale, &shape, true)?;
        Ok(Forward::one(y, vec![q.clone(), kv.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (q, kv, d) = (&saved[0], &saved[1], View::tokens(only(self.name(), dy)?, self.heads));
        let dq = product(d, View::matrix(kv).transposed(), self.heads, self.scale, q.shape(), true)?;
        let dkv = product(View::tokens(q, self.heads).transposed(), d, self.heads, self.scale, kv.shape(), false)?;
        Ok(vec![Some(dq), Some(dkv)])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // Each query spike adds a row of dv integers.
        let dv = x[1].shape()[4] as u64;
        let spikes: u64 = head_counts(x[0], self.heads)?.iter().sum();
        Ok(Cost { acs: spikes * dv, dense: x[0].len() as u64 * dv, ..Cost::default() })
    }
}

/// q, k `[T, B, N.., heads x d]` -> Q K^T `[T, B, heads, N, N]`.
pub struct Scores {
    /// Heads.
    pub heads: usize,
}

impl Op for Scores {
    fn name(&self) -> &'static str {
        "scores"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (q, k) = (x[0], x[1]);
        check(self.name(), q, self.heads)?;
        check(self.name(), k, self.heads)?;
        let (qv, kv) = (View::tokens(q, self.heads), View::tokens(k, self.heads));
        let shape = [q.shape()[0], q.shape()[1], self.heads, qv.rows, kv.rows];
        Ok(Forward::one(product(qv, kv.transposed(), self.heads, 1.0, &shape, false)?, vec![q.clone(), k.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (q, k, d) = (&saved[0], &saved[1], View::matrix(only(self.name(), dy)?));
        let dq = product(d, View::tokens(k, self.heads), self.heads, 1.0, q.shape(), true)?;
        let dk = product(d.transposed(), View::tokens(q, self.heads), self.heads, 1.0, k.shape(), true)?;
        Ok(vec![Some(dq), Some(dk)])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // A coincidence of spikes in a channel is an addition: sum over channels of (query spikes) x (key spikes).
        let (q, k, c) = (x[0].to_vec()?, x[1].to_vec()?, x[0].channels());
        let n = x[0].rows() / (x[0].shape()[0] * x[0].shape()[1]).max(1);
        let columns = |v: &[f32]| {
            v.chunks(c).fold(vec![0u64; c], |mut s, r| {
                s.iter_mut().zip(r).for_each(|(s, v)| *s += u64::from(*v != 0.0));
                s
            })
        };
        let groups = q.chunks((n * c).max(1)).zip(k.chunks((n * c).max(1)));
        let acs = groups.map(|(q, k)| columns(q).iter().zip(columns(k)).map(|(a, b)| a * b).sum::<u64>()).sum();
        Ok(Cost { acs, dense: x[0].len() as u64 * n as u64, ..Cost::default() })
    }
}

/// a `[T, B, heads, N, N]`, v `[T, B, N.., heads x d]` -> scale A V `[T, B, N.., heads x d]`.
pub struct Mix {
    /// Heads.
    pub heads: usize,
    /// Factor.
    pub scale: f32,
}

impl Op for Mix {
    fn name(&self) -> &'static str {
        "mix"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (a, v) = (x[0], x[1]);
        check(self.name(), v, self.heads)?;
        let y = product(View::matrix(a), View::tokens(v, self.heads), self.heads, self.scale, v.shape(), true)?;
        Ok(Forward::one(y, vec![a.clone(), v.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (a, v, d) = (&saved[0], &saved[1], View::tokens(only(self.name(), dy)?, self.heads));
        let da = product(d, View::tokens(v, self.heads).transposed(), self.heads, self.scale, a.shape(), false)?;
        let dv = product(View::matrix(a).transposed(), d, self.heads, self.scale, v.shape(), true)?;
        Ok(vec![Some(da), Some(dv)])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        // Each value spike adds its column of N integer scores.
        let spikes: u64 = head_counts(x[1], self.heads)?.iter().sum();
        let n = x[0].shape()[3] as u64;
        Ok(Cost { acs: spikes * n, dense: x[1].len() as u64 * n, ..Cost::default() })
    }
}
