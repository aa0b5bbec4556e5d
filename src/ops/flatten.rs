//! Places become channels.

use super::{image_shape, only, outline, outlined};
use crate::ctx::{Forward, Op};
use crate::error::Result;
use crate::kernel::spike::{Pack, PackU, Unpack, UnpackU};
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, H, W, C]` (spikes, integer spikes or floats) -> `[T, B, 1, 1, H W C]`, held as x is.
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
            planes => {
                // A plane is as good as a step.
                let [from, to] = [x.shape(), &shape].map(|s| [&[planes], s].concat());
                let u = UnpackU { rows: (planes * x.rows()) as u32, c: c as u32, planes: 1 };
                let f = launch1(&Unpack, &u, &[x], &from, Repr::F32)?.reshape(&to)?;
                let u = PackU { rows: f.rows() as u32, c: f.channels() as u32 };
                launch1(&Pack, &u, &[&f], &shape, x.repr())?
            }
        };
        Ok(Forward::one(y, vec![outline(x)?]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = only(self.name(), dy)?;
        // A tensor of its own: the shape differs, and so must the identity on the tape.
        Ok(vec![Some(Tensor::new(dy.device(), outlined(&saved[0]), Repr::F32, dy.storage().clone())?)])
    }
}
