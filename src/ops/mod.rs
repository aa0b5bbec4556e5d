//! Differentiable operations, one a file: forward, backward under it, shapes in the documentation.
//!
//! # How to add one
//! A struct that implements [`crate::ctx::Op`] over kernels, and cases for it in `tests/gradients.rs`, which compares backward with
//! finite differences on every device.

pub mod active;
pub mod attention;
pub mod channels;
pub mod conv;
pub mod delay;
pub mod depthwise;
pub mod dropout;
pub mod fire;
pub mod flatten;
pub mod frames;
pub mod gate;
pub mod linear;
pub mod mean;
pub mod neuron;
pub mod norm;
pub mod pool;
pub mod residual;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernel::reduce::{ColumnSum, ColumnSumU};
use crate::tensor::{Repr, Tensor, launch1};

/// An empty tensor, for bindings that a flag switches off.
pub(crate) fn none(device: &Device) -> Result<Tensor> {
    Tensor::from_f32(device, &[0], &[])
}

/// The shape of x without its values, for backward that wants no more; see [`outlined`].
pub(crate) fn outline(x: &Tensor) -> Result<Tensor> {
    Tensor::from_f32(x.device(), &[&[0], x.shape()].concat(), &[])
}

/// The shape that [`outline`] kept.
pub(crate) fn outlined(outline: &Tensor) -> &[usize] {
    outline.shape().get(1..).unwrap_or_default()
}

/// The gradient that must be there: operations with one output are only asked when it has one.
pub(crate) fn only<'a>(op: &str, dy: &'a [Option<Tensor>]) -> Result<&'a Tensor> {
    dy.first().and_then(Option::as_ref).ok_or_else(|| Error::shape(op, "no gradient"))
}

/// Sum over the first axis: \[splits, ..\] to the shape of one split.
pub(crate) fn sum_splits(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let c: usize = shape.iter().product();
    let rows = x.len() / c.max(1);
    if rows == 1 {
        return x.reshape(shape);
    }
    launch1(&ColumnSum, &ColumnSumU { rows: rows as u32, c: c as u32 }, &[x], shape, Repr::F32)
}

/// The sizes of `[T, B, H, W, C]`: (T x B, H, W, C).
pub(crate) fn image_shape(op: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    match *x.shape() {
        [t, b, h, w, c] => Ok((t * b, h, w, c)),
        _ => Err(Error::shape(op, format!("expected [T, B, H, W, C], got {:?}", x.shape()))),
    }
}

/// Spikes by where they are in the image, for counting what a 3x3 convolution does at its borders: a 3x3 table of counts over
/// (first, inner, last) row and column. On an axis of length 1 everything is in the first.
pub(crate) fn border_counts(x: &Tensor, h: usize, w: usize) -> Result<[u64; 9]> {
    let (rows, c) = (x.rows(), x.channels());
    if !x.is_bits() {
        let mut out = [0; 9];
        for (i, _) in x.to_vec()?.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            out[border_class(i / c, h, w)] += 1;
        }
        return Ok(out);
    }
    let u = crate::kernel::reduce::CountU { rows: rows as u32, c: c as u32, planes: x.planes() as u32, h: h as u32, w: w as u32 };
    let counts = x.device().launch(&crate::kernel::reduce::Count, &u, &[x.storage()], &[9])?;
    let words = x.device().read(&counts[0])?;
    let mut out = [0; 9];
    out.iter_mut().zip(words).for_each(|(o, w)| *o = u64::from(w));
    Ok(out)
}

fn border_class(row: usize, h: usize, w: usize) -> usize {
    let one = |i: usize, n: usize| match i {
        0 => 0,
        i if i + 1 == n => 2,
        _ => 1,
    };
    3 * one(row / w % h, h) + one(row % w, w)
}

/// Spikes times the taps of a 3x3 convolution (padding 1) that they reach.
pub(crate) fn taps_reached(counts: &[u64; 9], h: usize, w: usize) -> u64 {
    let reach = |class: usize, n: usize| match (n, class) {
        (1, _) => 1,
        (_, 1) => 3,
        _ => 2,
    };
    counts.iter().enumerate().map(|(i, &n)| n * reach(i / 3, h) * reach(i % 3, w)).sum()
}

/// Places times taps of a dense 3x3 convolution with padding 1 on h x w.
pub(crate) fn taps_dense(h: usize, w: usize) -> u64 {
    ((3 * h).saturating_sub(2) * (3 * w).saturating_sub(2)) as u64
}
