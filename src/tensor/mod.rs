//! Tensors: a shape, a representation and a buffer on a device. They are immutable; clones share the buffer.
//!
//! Channel last: `[T, B, H, W, C]`, tokens `[T, B, N, C]` with N = H*W in the same memory. A *row* is all channels of one place at one
//! step. PyTorch's layouts are converted at the edges only ([`torch`]).

pub mod torch;

use crate::device::{Device, Storage};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, words};
use ndarray::{ArrayD, IxDyn};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the numbers of a tensor are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// One float each.
    F32,
    /// Spikes, one bit each, rows padded to whole words; the value is the sum over the planes (one plane: 0 or 1).
    Bits {
        /// Number of planes.
        planes: usize,
    },
}

/// An immutable array on a device.
#[derive(Clone)]
pub struct Tensor {
    id: u64,
    shape: Vec<usize>,
    repr: Repr,
    storage: Storage,
    device: Device,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Words that a tensor of this shape and representation takes.
pub fn storage_words(shape: &[usize], repr: Repr) -> usize {
    match repr {
        Repr::F32 => shape.iter().product(),
        Repr::Bits { planes } => {
            let c = shape.last().copied().unwrap_or(1);
            planes * shape[..shape.len().saturating_sub(1)].iter().product::<usize>() * words(c)
        }
    }
}

impl Tensor {
    /// A tensor over a buffer of the right length.
    ///
    /// # Errors
    /// A buffer whose length is not that of the shape.
    pub fn new(device: &Device, shape: &[usize], repr: Repr, storage: Storage) -> Result<Self> {
        let need = storage_words(shape, repr);
        if need != storage.len() {
            return Err(Error::shape(
                "tensor",
                format!("{shape:?} as {repr:?} takes {need} words, the buffer has {}", storage.len()),
            ));
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Tensor { id, shape: shape.to_vec(), repr, storage, device: device.clone() })
    }
    /// Floats from the host.
    pub fn from_f32(device: &Device, shape: &[usize], data: &[f32]) -> Result<Self> {
        Self::new(device, shape, Repr::F32, device.upload(bytemuck::cast_slice(data))?)
    }
    /// Spikes from the host: nonzero is a spike.
    pub fn spikes_from_f32(device: &Device, shape: &[usize], data: &[f32]) -> Result<Self> {
        let c = shape.last().copied().unwrap_or(1);
        let w = words(c);
        let rows = data.len().checked_div(c).unwrap_or(0);
        let mut bits = vec![0u32; rows * w];
        for (i, _) in data.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            bits[i / c * w + i % c / 32] |= 1 << (i % c % 32);
        }
        Self::new(device, shape, Repr::Bits { planes: 1 }, device.upload(&bits)?)
    }
    /// Small non-negative integers from the host as spike planes: plane k has a spike where the value exceeds k.
    pub fn planes_from_f32(device: &Device, shape: &[usize], data: &[f32]) -> Result<Self> {
        let most = data.iter().fold(1.0f32, |m, &v| m.max(v)) as usize;
        let mut all = Vec::new();
        for k in 0..most {
            let plane: Vec<f32> = data.iter().map(|&v| f32::from(u8::from(v > k as f32))).collect();
            all.extend(Self::spikes_from_f32(&Device::Cpu, shape, &plane)?.words()?);
        }
        Self::new(device, shape, Repr::Bits { planes: most }, device.upload(&all)?)
    }
    /// Zeros.
    pub fn zeros(device: &Device, shape: &[usize]) -> Result<Self> {
        Self::from_f32(device, shape, &vec![0.0; shape.iter().product()])
    }

    /// Identity of the value on the tape: clones and reshapes share it.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// The representation.
    pub fn repr(&self) -> Repr {
        self.repr
    }
    /// Number of spike planes; 0 for floats.
    pub fn planes(&self) -> usize {
        match self.repr {
            Repr::F32 => 0,
            Repr::Bits { planes } => planes,
        }
    }
    /// Whether this holds packed spikes.
    pub fn is_bits(&self) -> bool {
        self.planes() > 0
    }
    /// The buffer.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// Size of the last axis.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
    /// Product of all axes but the last.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The same value in another shape; spikes keep their last axis.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let same_rows = !self.is_bits() || shape.last() == self.shape.last();
        if shape.iter().product::<usize>() != self.len() || !same_rows {
            return Err(Error::shape("reshape", format!("{:?} to {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }
    /// The raw words.
    pub fn words(&self) -> Result<Vec<u32>> {
        self.device.read(&self.storage)
    }
    /// The raw words as they lie, where nobody has to be waited for: on the CPU; else a copy.
    pub fn view(&self) -> Result<Cow<'_, [u32]>> {
        match &self.storage {
            Storage::Cpu(b) => Ok(Cow::Borrowed(b.words())),
            Storage::Gpu(_) => self.words().map(Cow::Owned),
        }
    }
    /// The values on the host, spikes unpacked and summed over planes.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        let raw = self.words()?;
        let Repr::Bits { planes } = self.repr else { return Ok(bytemuck::cast_slice(&raw).to_vec()) };
        let (rows, c, w) = (self.rows(), self.channels(), words(self.channels()));
        let mut out = vec![0.0; rows * c];
        for p in 0..planes {
            for r in 0..rows {
                for k in 0..c {
                    out[r * c + k] += (raw[(p * rows + r) * w + k / 32] >> (k % 32) & 1) as f32;
                }
            }
        }
        Ok(out)
    }
    /// Spikes of one plane where any plane has one; of one plane the same.
    pub fn any_plane(&self) -> Result<Self> {
        let planes = self.expect_bits("any_plane")?;
        if planes == 1 {
            return Ok(self.clone());
        }
        let words = self.words()?;
        let size = words.len() / planes.max(1);
        let any: Vec<u32> = (0..size).map(|i| (0..planes).fold(0, |w, p| w | words[p * size + i])).collect();
        Self::new(&self.device, &self.shape, Repr::Bits { planes: 1 }, self.device.upload(&any)?)
    }
    /// The values as an array of this shape.
    pub fn to_array(&self) -> Result<ArrayD<f32>> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.to_vec()?).map_err(|e| Error::shape("to_array", e.to_string()))
    }
    /// The value of a tensor with one element.
    pub fn item(&self) -> Result<f32> {
        match self.to_vec()?.as_slice() {
            [v] => Ok(*v),
            v => Err(Error::shape("item", format!("{} elements", v.len()))),
        }
    }
    /// A copy on `device` (itself where it is there already).
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        match (&self.device, device) {
            (Device::Cpu, Device::Cpu) => Ok(self.clone()),
            _ => Self::new(device, &self.shape, self.repr, device.upload(&self.words()?)?),
        }
    }
    /// Fraction of the neurons that fire (mean of the values); reads the buffer back.
    pub fn rate(&self) -> Result<f64> {
        if self.is_empty() {
            return Ok(0.0);
        }
        let sum: f64 = match self.repr {
            Repr::F32 => self.to_vec()?.iter().map(|&v| f64::from(v)).sum(),
            Repr::Bits { .. } => self.words()?.iter().map(|w| f64::from(w.count_ones())).sum(),
        };
        Ok(sum / self.len() as f64)
    }
    /// Fails unless the representation is packed spikes; `op` names who asks.
    pub fn expect_bits(&self, op: &str) -> Result<usize> {
        match self.repr {
            Repr::Bits { planes } => Ok(planes),
            Repr::F32 => Err(Error::shape(op, format!("expected packed spikes, got floats {:?}", self.shape))),
        }
    }
    /// Fails unless the representation is floats.
    pub fn expect_f32(&self, op: &str) -> Result<()> {
        match self.repr {
            Repr::F32 => Ok(()),
            Repr::Bits { .. } => Err(Error::shape(op, format!("expected floats, got packed spikes {:?}", self.shape))),
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?} {:?})", self.shape, self.repr)
    }
}

/// Runs a kernel on tensors and wraps its outputs, given as (shape, representation).
pub fn launch<K: Kernel>(
    device: &Device,
    k: &K,
    u: &K::Uniform,
    inputs: &[&Tensor],
    outputs: &[(&[usize], Repr)],
) -> Result<Vec<Tensor>> {
    let ins: Vec<&Storage> = inputs.iter().map(|t| &t.storage).collect();
    let lens: Vec<usize> = outputs.iter().map(|(s, r)| storage_words(s, *r)).collect();
    let outs = device.launch(k, u, &ins, &lens)?;
    outs.into_iter().zip(outputs).map(|(st, (s, r))| Tensor::new(device, s, *r, st)).collect()
}

/// [`launch`] of a kernel that can write over one of its inputs ([`Kernel::onto`]), which is `spent`; `inputs` are the others.
pub fn launch_onto<K: Kernel>(
    k: &K,
    u: &K::Uniform,
    inputs: &[&Tensor],
    spent: Tensor,
    outputs: &[(&[usize], Repr)],
) -> Result<Vec<Tensor>> {
    let device = spent.device.clone();
    let ins: Vec<&Storage> = inputs.iter().map(|t| &t.storage).collect();
    let lens: Vec<usize> = outputs.iter().map(|(s, r)| storage_words(s, *r)).collect();
    let outs = device.launch_onto(k, u, &ins, spent.storage, &lens)?;
    outs.into_iter().zip(outputs).map(|(st, (s, r))| Tensor::new(&device, s, *r, st)).collect()
}

/// [`launch`] of a kernel with one output.
pub fn launch1<K: Kernel>(k: &K, u: &K::Uniform, inputs: &[&Tensor], shape: &[usize], repr: Repr) -> Result<Tensor> {
    let device = inputs.first().map(|t| t.device.clone()).unwrap_or(Device::Cpu);
    let mut v = launch(&device, k, u, inputs, &[(shape, repr)])?;
    v.pop().ok_or_else(|| Error::shape(k.name(), "no output"))
}
