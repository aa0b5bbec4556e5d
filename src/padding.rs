//! Which steps of a batch are real: samples of different lengths stand side by side in `[T, B, ..]`, the shorter ones padded with zeros at
//! their ends.
//!
//! Networks look at the past only, so that real steps never hear of padded ones, with one exception: the batch statistics of norms in
//! training, which are taken over real rows alone ([`Padding::real`] picks them out, [`Padding::spread`] puts gradients back). Whoever
//! reads steps together - the loss, accuracy, counts of spikes and operations - leaves padded ones out. A padded sample so has the
//! scores, loss and gradients that it has by itself.

use crate::device::{Device, Storage};
use crate::error::{Error, Result};
use crate::kernel::pad::{Gather, GatherU, ScaleRows, ScaleRowsU};
use crate::tensor::{Repr, Tensor, launch1};

/// The lengths of the samples in a padded batch, and what follows from them.
#[derive(Clone, Debug)]
pub struct Padding {
    steps: usize,
    lengths: Vec<usize>,
    /// The (step, sample) pairs that are real, as t B + b.
    real: Vec<u32>,
    /// `[T, B]`: 1 where a step is real, else 0.
    mask: Tensor,
    /// `[B]`: one over the length.
    inverse: Tensor,
}

impl Padding {
    /// Of samples of these `lengths` in a batch of `steps` steps; none where no sample is shorter.
    ///
    /// # Errors
    /// A length that is zero or beyond `steps`; a device's own.
    pub fn new(device: &Device, steps: usize, lengths: &[usize]) -> Result<Option<Self>> {
        if lengths.iter().any(|n| !(1..=steps).contains(n)) {
            return Err(Error::shape("padding", format!("lengths {lengths:?} for {steps} steps")));
        }
        if lengths.iter().all(|&n| n == steps) {
            return Ok(None);
        }
        let each = || (0..steps).flat_map(|t| lengths.iter().map(move |&n| t < n));
        let mask: Vec<f32> = each().map(|r| f32::from(u8::from(r))).collect();
        let inverse: Vec<f32> = lengths.iter().map(|&n| 1.0 / n as f32).collect();
        Ok(Some(Padding {
            steps,
            lengths: lengths.to_vec(),
            real: each().enumerate().filter(|(_, real)| *real).map(|(i, _)| i as u32).collect(),
            mask: Tensor::from_f32(device, &[steps, lengths.len()], &mask)?,
            inverse: Tensor::from_f32(device, &[lengths.len()], &inverse)?,
        }))
    }
    /// Steps of each sample.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
    /// Whether step `t` of sample `b` is real.
    pub fn is_real(&self, t: usize, b: usize) -> bool {
        self.lengths.get(b).is_some_and(|&n| t < n)
    }
    /// `[T, B]`: 1 where a step is real, else 0.
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }
    /// `[B]`: one over the length of each sample.
    pub fn inverse(&self) -> &Tensor {
        &self.inverse
    }
    /// Whether a tensor is `[T, B, ..]`.
    pub fn fits(&self, x: &Tensor) -> bool {
        x.shape().starts_with(&[self.steps, self.lengths.len()])
    }
    /// How many rows of x `[T, B, ..]` are of real steps.
    pub fn real_rows(&self, x: &Tensor) -> usize {
        x.rows() / (self.steps * self.lengths.len()).max(1) * self.real.len()
    }
    /// The real steps of x `[T, B, ..]` one behind the other, `[n, 1, ..]`, in order of time, then of samples.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn real(&self, x: &Tensor) -> Result<Tensor> {
        if !self.fits(x) {
            return Err(Error::shape("padding", format!("{x:?} for {} steps of {} samples", self.steps, self.lengths.len())));
        }
        let mut shape = x.shape().to_vec();
        (shape[0], shape[1]) = (self.real.len(), 1);
        let all = (self.steps * self.lengths.len()) as u32;
        let planes = 0..x.planes().max(1) as u32;
        let indices: Vec<u32> = planes.flat_map(|p| self.real.iter().map(move |i| p * all + i)).collect();
        gather(x, &indices, x.planes().max(1) * all as usize, &shape)
    }
    /// The way back: x `[n, 1, ..]`, floats, to `[T, B, ..]` with zeros at padded steps.
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn spread(&self, x: &Tensor) -> Result<Tensor> {
        if x.shape().first() != Some(&self.real.len()) || x.is_bits() {
            return Err(Error::shape("padding", format!("{x:?} for {} real steps", self.real.len())));
        }
        let mut shape = x.shape().to_vec();
        (shape[0], shape[1]) = (self.steps, self.lengths.len());
        let mut indices = vec![u32::MAX; self.steps * self.lengths.len()];
        self.real.iter().enumerate().for_each(|(to, &i)| indices[i as usize] = to as u32);
        gather(x, &indices, self.real.len(), &shape)
    }
}

/// Groups of x, of which there are `groups`, to a tensor of `shape`.
fn gather(x: &Tensor, indices: &[u32], groups: usize, shape: &[usize]) -> Result<Tensor> {
    let device = x.device();
    let u = GatherU { groups: indices.len() as u32, n: (x.storage().len() / groups.max(1)) as u32 };
    let words: Storage = device.upload(indices)?;
    let mut out = device.launch(&Gather, &u, &[x.storage(), &words], &[indices.len() * u.n as usize])?;
    let storage = out.pop().ok_or_else(|| Error::shape("padding", "no output"))?;
    Tensor::new(device, shape, x.repr(), storage)
}

/// Rows of x `[.., C]` times k, one for each; zeros where k is zero.
///
/// # Errors
/// A device's own.
pub fn scale_rows(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    let rows = k.len();
    let u = ScaleRowsU { rows: rows as u32, c: (x.len() / rows.max(1)) as u32 };
    launch1(&ScaleRows, &u, &[x, k], x.shape(), Repr::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_steps_are_picked_out_and_put_back() {
        let d = Device::Cpu;
        assert!(Padding::new(&d, 3, &[3, 3]).unwrap().is_none());
        assert!(Padding::new(&d, 3, &[0, 3]).is_err() && Padding::new(&d, 3, &[4]).is_err());
        let p = Padding::new(&d, 3, &[1, 3]).unwrap().unwrap();
        let v: Vec<f32> = (1..13).map(|v| v as f32).collect();
        let x = Tensor::from_f32(&d, &[3, 2, 2], &v).unwrap();
        let real = p.real(&x).unwrap();
        assert_eq!((real.shape(), real.to_vec().unwrap()), (&[4, 1, 2][..], vec![1., 2., 3., 4., 7., 8., 11., 12.]));
        let back = p.spread(&real).unwrap();
        assert_eq!((back.shape(), back.to_vec().unwrap()), (x.shape(), vec![1., 2., 3., 4., 0., 0., 7., 8., 0., 0., 11., 12.]));
        // Integer spikes keep their planes.
        let x = Tensor::planes_from_f32(&d, &[3, 2, 2], &[1., 0., 2., 1., 9., 9., 0., 3., 9., 9., 1., 1.]).unwrap();
        assert_eq!(p.real(&x).unwrap().to_vec().unwrap(), [1., 0., 2., 1., 0., 3., 1., 1.]);
        assert!(p.real(&real).is_err() && p.spread(&x).is_err());
        assert!(p.is_real(2, 1) && !p.is_real(1, 0));
    }
}
