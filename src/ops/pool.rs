//! Max pooling 3x3, stride 2, padding 1. On spikes it is an OR, on sorted planes of integer spikes an OR of each.

use super::{image_shape, only};
use crate::ctx::{Forward, Op};
use crate::error::Result;
use crate::kernel::pool::{Max, MaxBackward, MaxBits, MaxBitsBackward, PoolU};
use crate::kernel::spike::{Sort, SortU};
use crate::tensor::Repr;
use crate::tensor::{Tensor, launch1};

/// x `[T, B, H, W, C]` (spikes, integer spikes or floats) -> `[T, B, (H + 1) / 2, (W + 1) / 2, C]`, held as x is.
///
/// The gradient goes to the first maximum of a window in row-major order, as in PyTorch.
pub struct MaxPool;

fn uniform(op: &str, x: &Tensor) -> Result<PoolU> {
    let (images, h, w, c) = image_shape(op, x)?;
    Ok(PoolU { images: images as u32, h: h as u32, w: w as u32, c: c as u32, planes: x.planes().max(1) as u32 })
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let mut x = x[0].clone();
        let u = uniform(self.name(), &x)?;
        let mut shape = x.shape().to_vec();
        (shape[2], shape[3]) = (shape[2].div_ceil(2), shape[3].div_ceil(2));
        if x.planes() > 1 {
            let words = x.storage().len().checked_div(x.planes()).unwrap_or(0);
            x = launch1(&Sort, &SortU { n: words as u32, planes: u.planes }, &[&x], x.shape(), x.repr())?;
        }
        let y = match x.is_bits() {
            true => launch1(&MaxBits, &PoolU { images: u.images * u.planes, planes: 1, ..u }, &[&x], &shape, x.repr())?,
            false => launch1(&Max, &u, &[&x], &shape, Repr::F32)?,
        };
        Ok(Forward::one(y, vec![x]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::ops::residual::Residual;
    use crate::rng::Rng;

    /// Sums of spikes, whose planes come in no order, pool as the floats of their values; so do the gradients.
    #[test]
    fn integer_spikes() {
        let mut rng = Rng::new(1);
        let shape = [2, 1, 5, 6, 40];
        let mut spikes = || {
            let v: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(u8::from(rng.f32() < 0.4))).collect();
            Tensor::spikes_from_f32(&Device::Cpu, &shape, &v).unwrap()
        };
        let sum = |a: &Tensor, b: &Tensor| Residual.forward(&[a, b]).unwrap().outputs.remove(0);
        let x = sum(&sum(&spikes(), &spikes()), &spikes());
        let floats = Tensor::from_f32(&Device::Cpu, &shape, &x.to_vec().unwrap()).unwrap();
        let [a, b] = [&x, &floats].map(|x| MaxPool.forward(&[x]).unwrap());
        assert_eq!((a.outputs[0].planes(), a.outputs[0].to_vec().unwrap()), (3, b.outputs[0].to_vec().unwrap()));
        let dy: Vec<f32> = (0..b.outputs[0].len()).map(|_| rng.f32()).collect();
        let back = |f: &Forward| {
            let dy = Tensor::from_f32(&Device::Cpu, f.outputs[0].shape(), &dy).unwrap();
            MaxPool.backward(&f.saved, &mut [Some(dy)], &[true]).unwrap()[0].as_ref().unwrap().to_vec().unwrap()
        };
        assert_eq!(back(&a), back(&b));
    }
}
