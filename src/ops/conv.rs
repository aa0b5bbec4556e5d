//! 3x3 convolution, stride 1, padding 1, without bias.

use super::{border_counts, image_shape, only, sum_splits, taps_dense, taps_reached};
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::conv::{Backward, Bits, BitsWeight, ConvU, Forward as Dense, Weight};
use crate::kernel::product::splits;
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, H, W, Ci]` (spikes or floats), w `[3, 3, Ci, Co]` -> y `[T, B, H, W, Co]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conv3x3 {
    /// Whether a batch norm that takes its statistics from y comes next: sums of dyadic numbers need not come out exact then.
    pub before_norm: bool,
}

/// The uniform of a convolution of x `[T, B, H, W, Ci]` with w `[3, 3, Ci, Co]`.
///
/// # Errors
/// Shapes that are not these.
pub(super) fn convolution(op: &str, x: &Tensor, w: &Tensor) -> Result<ConvU> {
    let &[3, 3, wi, cout] = w.shape() else { return Err(Error::shape(op, format!("weight {:?}", w.shape()))) };
    if wi != x.channels() {
        return Err(Error::shape(op, format!("input {:?} for weight {:?}", x.shape(), w.shape())));
    }
    uniform(op, x, cout)
}

fn uniform(op: &str, x: &Tensor, cout: usize) -> Result<ConvU> {
    let (images, h, w, cin) = image_shape(op, x)?;
    Ok(ConvU {
        images: images as u32,
        h: h as u32,
        w: w as u32,
        cin: cin as u32,
        cout: cout as u32,
        planes: x.planes() as u32,
        splits: 1,
        exact: 1,
    })
}

/// x, dy -> dw `[3, 3, Ci, Co]`, the product alone.
pub(super) fn weight_gradient(x: &Tensor, dy: &Tensor, u: &ConvU, shape: &[usize]) -> Result<Tensor> {
    let len = shape.iter().product();
    // The sums of a split are up to 36 / 9 times as large as its result (`kernel::winograd`).
    let s = splits(x.rows(), 4 * len).min(u.images.max(1) as usize);
    let u = ConvU { splits: s as u32, ..*u };
    let parts = match x.is_bits() {
        true => launch1(&BitsWeight, &u, &[x, dy], &[s, len], Repr::F32)?,
        false => launch1(&Weight, &u, &[x, dy], &[s, len], Repr::F32)?,
    };
    sum_splits(&parts, shape)
}

impl Op for Conv3x3 {
    fn name(&self) -> &'static str {
        "conv3x3"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w) = (x[0], x[1]);
        let u = ConvU { exact: u32::from(!self.before_norm), ..convolution(self.name(), input, w)? };
        let mut shape = input.shape().to_vec();
        shape[4] = u.cout as usize;
        let y = match input.is_bits() {
            true => launch1(&Bits, &u, &[input, w], &shape, Repr::F32)?,
            false => launch1(&Dense, &u, &[input, w], &shape, Repr::F32)?,
        };
        Ok(Forward::one(y, vec![input.clone(), w.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, w, dy) = (&saved[0], &saved[1], only(self.name(), dy)?);
        let cout = w.shape()[3];
        let u = uniform(self.name(), x, cout)?;
        let dx = if needs[0] { Some(launch1(&Backward, &u, &[dy, w], x.shape(), Repr::F32)?) } else { None };
        let dw = if needs[1] { Some(weight_gradient(x, dy, &u, w.shape())?) } else { None };
        Ok(vec![dx, dw])
    }
    fn is_cheap(&self, x: &[&Tensor]) -> bool {
        // Event frames: the largest output of a network, from a few multiplications each.
        !x[0].is_bits() && x[0].channels() <= 4
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let (images, h, w, c) = image_shape(self.name(), x[0])?;
        let cout = x[1].shape()[3] as u64;
        let reached = taps_reached(&border_counts(x[0], h, w)?, h, w) * cout;
        let dense = images as u64 * taps_dense(h, w) * c as u64 * cout;
        Ok(match x[0].is_bits() {
            true => Cost { acs: reached, dense, ..Cost::default() },
            false => Cost { macs: reached, dense, ..Cost::default() },
        })
    }
}
