//! Places become channels.

use super::{image_shape, only};
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::spike::{Pack, PackU, Unpack, UnpackU};
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, H, W, C]` (spikes or floats) -> `[T, B, 1, 1, H W C]`.
///
/// Spikes are packed anew, because rows are padded to whole words.
pub struct Flatten;

impl Op for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let x = x[0];
        let (_, h, w, c) = image_shape(self.name(), x)?;
        let shape = [x.shape()[0], x.shape()[1], 1, 1, h * w * c];
        let y = match x.planes() {
            0 => Tensor::new(x.device(), &shape, Repr::F32, x.storage().clone())?,
            1 => {
                let u = UnpackU { rows: x.rows() as u32, c: c as u32, planes: 1 };
                let f = launch1(&Unpack, &u, &[x], x.shape(), Repr::F32)?.reshape(&shape)?;
                let u = PackU { rows: f.rows() as u32, c: f.channels() as u32 };
                launch1(&Pack, &u, &[&f], &shape, Repr::Bits { planes: 1 })?
            }
            n => return Err(Error::shape(self.name(), format!("integer spikes of {n} planes"))),
        };
        Ok(Forward::one(y, vec![x.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = only(self.name(), dy)?;
        // A tensor of its own: the shape differs, and so must the identity on the tape.
        Ok(vec![Some(Tensor::new(dy.device(), saved[0].shape(), Repr::F32, dy.storage().clone())?)])
    }
}
