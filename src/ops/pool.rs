//! Max pooling 3x3, stride 2, padding 1. On spikes it is an OR.

use super::{image_shape, only};
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::pool::{Max, MaxBackward, MaxBits, MaxBitsBackward, PoolU};
use crate::tensor::Repr;
use crate::tensor::{Tensor, launch1};

/// x `[T, B, H, W, C]` (spikes or floats) -> `[T, B, (H + 1) / 2, (W + 1) / 2, C]`.
///
/// The gradient goes to the first maximum of a window in row-major order, as in PyTorch.
pub struct MaxPool;

fn uniform(op: &str, x: &Tensor) -> Result<PoolU> {
    let (images, h, w, c) = image_shape(op, x)?;
    Ok(PoolU { images: images as u32, h: h as u32, w: w as u32, c: c as u32 })
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let x = x[0];
        let u = uniform(self.name(), x)?;
        let mut shape = x.shape().to_vec();
        (shape[2], shape[3]) = (shape[2].div_ceil(2), shape[3].div_ceil(2));
        let y = match x.planes() {
            0 => launch1(&Max, &u, &[x], &shape, Repr::F32)?,
            1 => launch1(&MaxBits, &u, &[x], &shape, x.repr())?,
            n => return Err(Error::shape(self.name(), format!("integer spikes of {n} planes"))),
        };
        Ok(Forward::one(y, vec![x.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, dy) = (&saved[0], only(self.name(), dy)?);
        let u = uniform(self.name(), x)?;
        Ok(vec![Some(match x.is_bits() {
            true => launch1(&MaxBitsBackward, &u, &[x, dy], x.shape(), Repr::F32)?,
            false => launch1(&MaxBackward, &u, &[x, dy], x.shape(), Repr::F32)?,
        })])
    }
}
