//! Means over tokens, which read out a network, and sums over tokens, which SDSA takes.

use super::{only, outline, outlined};
use crate::counts::{Cost, set_bits};
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
    fn sizes(&self, shape: &[usize]) -> Result<(MeanU, [usize; 3])> {
        let &[t, b, ref tokens @ .., c] = shape else { return Err(Error::shape(self.name(), format!("{shape:?}"))) };
        let n: usize = tokens.iter().product();
        let scale = if self.sum { 1.0 } else { 1.0 / n.max(1) as f32 };
        Ok((MeanU { groups: (t * b) as u32, n: n as u32, c: c as u32, scale }, [t, b, c]))
    }
}

impl Op for TokenMean {
    fn name(&self) -> &'static str {
        if self.sum { "token_sum" } else { "token_mean" }
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let x = x[0];
        let (u, shape) = self.sizes(x.shape())?;
        let y = if x.is_bits() {
            let u = MeanBitsU { groups: u.groups, n: u.n, c: u.c, planes: x.planes() as u32, scale: u.scale };
            launch1(&MeanBits, &u, &[x], &shape, Repr::F32)?
        } else {
            launch1(&Mean, &u, &[x], &shape, Repr::F32)?
        };
        Ok(Forward::one(y, vec![outline(x)?]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let shape = outlined(&saved[0]);
        let (u, _) = self.sizes(shape)?;
        Ok(vec![Some(launch1(&MeanBackward, &u, &[only(self.name(), dy)?], shape, Repr::F32)?)])
    }
    /// Of a sum, an addition for each spike. A mean is no synapse: what it reads out are numbers of the head.
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        Ok(match self.sum {
            true => Cost { acs: set_bits(x)?, dense: x[0].len() as u64, ..Cost::default() },
            false => Cost::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    /// Three tokens of two channels: a sum of four spikes is four additions of six, a mean is none.
    #[test]
    fn costs_by_hand() {
        let x = Tensor::spikes_from_f32(&Device::Cpu, &[1, 1, 3, 2], &[1., 0., 1., 1., 0., 1.]).unwrap();
        let cost = TokenMean { sum: true }.cost(&[&x]).unwrap();
        assert_eq!((cost.acs, cost.dense, cost.macs), (4, 6, 0));
        assert_eq!(TokenMean { sum: false }.cost(&[&x]).unwrap(), Cost::default());
    }
}
