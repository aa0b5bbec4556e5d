//! Means over tokens, which read out a network, and sums over tokens.

use super::only;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::reduce::{Mean, MeanBackward, MeanBits, MeanBitsU, MeanU};
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, N.., C]` (spikes or floats) -> `[T, B, C]`: the mean over the axes between, or their sum.
pub struct TokenMean {
    /// Sum instead of mean.
    pub sum: bool,
}

impl TokenMean {
    fn sizes(&self, x: &Tensor) -> Result<(MeanU, [usize; 3])> {
        let &[t, b, ..] = x.shape() else { return Err(Error::shape(self.name(), format!("{:?}", x.shape()))) };
        let n = x.rows().checked_div(t * b).unwrap_or(1);
        let scale = if self.sum { 1.0 } else { 1.0 / n.max(1) as f32 };
        Ok((MeanU { groups: (t * b) as u32, n: n as u32, c: x.channels() as u32, scale }, [t, b, x.channels()]))
    }
}

impl Op for TokenMean {
    fn name(&self) -> &'static str {
        "token_mean"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let x = x[0];
        let (u, shape) = self.sizes(x)?;
        let y = if x.is_bits() {
            let u = MeanBitsU { groups: u.groups, n: u.n, c: u.c, planes: x.planes() as u32, scale: u.scale };
            launch1(&MeanBits, &u, &[x], &shape, Repr::F32)?
        } else {
            launch1(&Mean, &u, &[x], &shape, Repr::F32)?
        };
        Ok(Forward::one(y, vec![x.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (u, _) = self.sizes(&saved[0])?;
        Ok(vec![Some(launch1(&MeanBackward, &u, &[only(self.name(), dy)?], saved[0].shape(), Repr::F32)?)])
    }
}
