//! Delays.

use super::only;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::delay::{self, DelayU};
use crate::kernel::spike::{Pack, PackU, Unpack, UnpackU};
use crate::tensor::{Repr, Tensor, launch1};

/// x `[T, B, .., C]` (spikes; or floats or integer spikes, which become floats) and the steps before it `[P, B, .., C]`, P = (taps - 1) stride -> `[T, B, .., taps C]`: each channel
/// with itself `stride`, 2 `stride`, ... steps before; and, where it is wanted, the past of the next call `[P, B, .., C]`.
pub struct Delay {
    /// How many times a channel comes.
    pub taps: usize,
    /// Steps between them.
    pub stride: usize,
    /// Whether the past of the next call is wanted.
    pub wants_past: bool,
}

impl Delay {
    /// P.
    pub fn past(&self) -> usize {
        (self.taps - 1) * self.stride
    }
    /// For y of `steps` steps, the first of which is step `first` of past and x.
    fn uniform(&self, x: &Tensor, steps: usize, taps: usize, first: usize) -> DelayU {
        let c = x.channels();
        let rows = x.rows() / x.shape().first().copied().unwrap_or(1).max(1);
        DelayU::new([steps, rows, c, taps, self.stride, self.past(), first])
    }
}

impl Op for Delay {
    fn name(&self) -> &'static str {
        "delay"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[x, past] = x else { return Err(Error::shape(self.name(), "two inputs expected")) };
        let mut shape = x.shape().to_vec();
        let (t, spikes) = (shape[0], x.planes() == 1);
        shape[0] = self.past();
        if past.is_bits() || past.shape() != shape {
            return Err(Error::shape(self.name(), format!("{x:?} after {past:?}")));
        }
        let u = UnpackU { rows: x.rows() as u32, c: x.channels() as u32, planes: x.planes() as u32 };
        let x = if x.is_bits() { launch1(&Unpack, &u, &[x], x.shape(), Repr::F32)? } else { x.clone() };
        let mut outputs = Vec::new();
        let run = |u: DelayU, shape: &[usize]| launch1(&delay::Forward, &u, &[&x, past], shape, Repr::F32);
        let next = if self.wants_past { Some(run(self.uniform(&x, self.past(), 1, t), &shape)?) } else { None };
        shape[0] = t;
        if let Some(c) = shape.last_mut() {
            *c *= self.taps;
        }
        let y = run(self.uniform(&x, t, self.taps, self.past()), &shape)?;
        outputs.push(if spikes {
            let u = PackU { rows: y.rows() as u32, c: y.channels() as u32 };
            launch1(&Pack, &u, &[&y], &shape, Repr::Bits { planes: 1 })?
        } else {
            y
        });
        outputs.extend(next);
        Ok(Forward { outputs, saved: Vec::new() })
    }
    fn backward(&self, _: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = only(self.name(), dy)?;
        let mut shape = dy.shape().to_vec();
        if let Some(c) = shape.last_mut() {
            *c /= self.taps;
        }
        let u = self.uniform(dy, shape[0], self.taps, self.past());
        let u = DelayU { c: u.c / self.taps as u32, ..u };
        Ok(vec![Some(launch1(&delay::Backward, &u, &[dy], &shape, Repr::F32)?), None])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::rng::Rng;

    #[test]
    fn backward_is_the_transpose_and_the_past_reaches_over() {
        let op = Delay { taps: 3, stride: 2, wants_past: true };
        let mut rng = Rng::new(3);
        let mut random = |shape: &[usize]| {
            let v: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(u8::from(rng.f32() < 0.5))).collect();
            Tensor::from_f32(&Device::Cpu, shape, &v).unwrap()
        };
        let (x, dy) = (random(&[7, 2, 3, 5]), random(&[7, 2, 3, 15]));
        let past = Tensor::zeros(&Device::Cpu, &[4, 2, 3, 5]).unwrap();
        let y = op.forward(&[&x, &past]).unwrap().outputs[0].to_vec().unwrap();
        let dx = op.backward(&[], &mut [Some(dy.clone()), None], &[true, false]).unwrap()[0].clone().unwrap().to_vec().unwrap();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&y, &dy.to_vec().unwrap()), dot(&dx, &x.to_vec().unwrap()));
        assert_eq!(y[5 * 90 + 10..][..5], x.to_vec().unwrap()[30..][..5], "channels 10 to 14 of step 5 are those of step 1");

        // In pieces, as spikes.
        let v = x.to_vec().unwrap();
        let (mut got, mut past) = (Vec::new(), past);
        for (from, n) in [(0, 1), (1, 5), (6, 1)] {
            let part = Tensor::spikes_from_f32(&Device::Cpu, &[n, 2, 3, 5], &v[from * 30..(from + n) * 30]).unwrap();
            let [y, next]: [Tensor; 2] = op.forward(&[&part, &past]).unwrap().outputs.try_into().unwrap();
            assert!(y.is_bits());
            got.extend(y.to_vec().unwrap());
            past = next;
        }
        assert_eq!(got, y);
        let planes =
            Tensor::planes_from_f32(&Device::Cpu, &[7, 2, 3, 5], &v.iter().map(|v| 2.0 * v).collect::<Vec<_>>()).unwrap();
        let past = Tensor::zeros(&Device::Cpu, &[4, 2, 3, 5]).unwrap();
        let twice = &op.forward(&[&planes, &past]).unwrap().outputs[0];
        assert_eq!((planes.planes(), twice.to_vec().unwrap()), (2, y.iter().map(|v| 2.0 * v).collect()));
        assert!(op.forward(&[&x, &x]).is_err());
    }
}
