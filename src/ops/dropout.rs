//! Dropout.

use super::only;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::elementwise::{Dropout as Kernel, DropoutU};
use crate::kernel::spike::{Unpack, UnpackU};
use crate::rng::Rng;
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, .., C]` (spikes or floats) -> floats of that shape: a share of the places is 0 at all T steps, the others are divided by what
/// is kept on average. One mask for all steps, as SpikingJelly's `layer.Dropout` has it.
pub struct Dropout {
    /// The share that is lost, above 0 and below 1.
    pub share: f32,
    /// Which places: a function of this stream alone.
    pub rng: Rng,
}

impl Dropout {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let period = x.len() / x.shape().first().copied().unwrap_or(1).max(1);
        let [key0, key1] = self.rng.key();
        let keep = 1.0 - f64::from(self.share);
        let limit = (keep * 4_294_967_296.0) as u32;
        let u = DropoutU { n: x.len() as u32, period: period as u32, key0, key1, limit, scale: (1.0 / keep) as f32 };
        launch1(&Kernel, &u, &[x], x.shape(), Repr::F32)
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[x] = x else { return Err(Error::shape(self.name(), "one input expected")) };
        let y = if x.is_bits() {
            let u = UnpackU { rows: x.rows() as u32, c: x.channels() as u32, planes: x.planes() as u32 };
            self.apply(&launch1(&Unpack, &u, &[x], x.shape(), Repr::F32)?)?
        } else {
            self.apply(x)?
        };
        Ok(Forward::one(y, Vec::new()))
    }
    fn backward(&self, _: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.apply(only(self.name(), dy)?)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    #[test]
    fn one_mask_for_all_steps_and_the_mean_stays() {
        let (t, n) = (3, 20_000);
        let x = Tensor::from_f32(&Device::Cpu, &[t, 2, n / 2], &vec![1.0; t * n]).unwrap();
        let run = |seed| {
            let op = Dropout { share: 0.3, rng: Rng::new(seed) };
            op.forward(&[&x]).unwrap().outputs[0].to_vec().unwrap()
        };
        let y = run(1);
        assert!(y[..n] == y[n..2 * n] && y[..n] == y[2 * n..]);
        let lost = y[..n].iter().filter(|v| **v == 0.0).count() as f64 / n as f64;
        assert!((lost - 0.3).abs() < 0.02, "{lost}");
        assert!(y.iter().all(|v| *v == 0.0 || *v == 1.0 / 0.7));
        assert_eq!(y, run(1));
        assert_ne!(y, run(2));
    }
}
