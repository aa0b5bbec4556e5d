//! Depth-wise 3x3 convolution of spikes.

use super::{border_counts, image_shape, only, sum_splits, taps_dense, taps_reached};
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::depthwise::{DepthwiseU, Forward as Kernel, Input, Weight};
use crate::kernel::product::splits;
use crate::tensor::{Repr, Tensor, launch1};

/// x spikes `[T, B, H, W, C]`, w `[3, 3, C]` -> y `[T, B, H, W, C]`.
pub struct Depthwise3x3;

fn uniform(op: &str, x: &Tensor) -> Result<DepthwiseU> {
    let (images, h, w, c) = image_shape(op, x)?;
    Ok(DepthwiseU { images: images as u32, h: h as u32, w: w as u32, c: c as u32, splits: 1 })
}

impl Op for Depthwise3x3 {
    fn name(&self) -> &'static str {
        "depthwise3x3"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w) = (x[0], x[1]);
        if input.expect_bits(self.name())? != 1 || w.shape() != [3, 3, input.channels()] {
            return Err(Error::shape(self.name(), format!("input {input:?} for weight {:?}", w.shape())));
        }
        let y = launch1(&Kernel, &uniform(self.name(), input)?, &[input, w], input.shape(), Repr::F32)?;
        Ok(Forward::one(y, vec![input.clone(), w.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, w, dy) = (&saved[0], &saved[1], only(self.name(), dy)?);
        let u = uniform(self.name(), x)?;
        let dx = if needs[0] { Some(launch1(&Input, &u, &[dy, w], x.shape(), Repr::F32)?) } else { None };
        let dw = if needs[1] {
            let s = splits(x.rows(), w.len());
            let u = DepthwiseU { splits: s as u32, ..u };
            let parts = launch1(&Weight, &u, &[x, dy], &[s, w.len()], Repr::F32)?;
            Some(sum_splits(&parts, w.shape())?)
        } else {
            None
        };
        Ok(vec![dx, dw])
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let (images, h, w, c) = image_shape(self.name(), x[0])?;
        let acs = taps_reached(&border_counts(x[0], h, w)?, h, w);
        Ok(Cost { acs, dense: images as u64 * taps_dense(h, w) * c as u64, ..Cost::default() })
    }
}
