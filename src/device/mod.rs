//! Where tensors live and kernels run: the CPU (rayon) or a GPU (wgpu). Only [`Device::launch`] and its neighbours here know which.

mod cpu;
mod gpu;
mod host;
mod pool;

use crate::error::{Error, Result};
use crate::kernel::{AnyKernel, Kernel};
use std::sync::Arc;

pub use cpu::CpuBuf;
pub use gpu::{AdapterRow, Checks, Gpu, GpuBuf, adapters};

/// Where work is done.
#[derive(Clone)]
pub enum Device {
    /// Native threads of this machine (rayon's current pool).
    Cpu,
    /// An adapter that wgpu reached.
    Gpu(Arc<Gpu>),
}

/// A buffer of 32-bit words on a device; clones share it. It returns to its device's pool when the last clone is dropped.
#[derive(Clone)]
pub enum Storage {
    /// In this process's memory.
    Cpu(Arc<CpuBuf>),
    /// On a GPU.
    Gpu(Arc<GpuBuf>),
}

impl Storage {
    /// Length in 32-bit words.
    pub fn len(&self) -> usize {
        match self {
            Storage::Cpu(b) => b.words().len(),
            Storage::Gpu(b) => b.len(),
        }
    }
    /// A number that clones of one buffer share and two buffers do not.
    pub fn address(&self) -> usize {
        match self {
            Storage::Cpu(b) => Arc::as_ptr(b).addr(),
            Storage::Gpu(b) => Arc::as_ptr(b).addr(),
        }
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes of a device's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Now.
    pub live: u64,
    /// At most, since [`Device::reset_peak`].
    pub peak: u64,
}

/// Holds a launch's numbers of buffers against the kernel's bindings, and counts the words that it moves.
fn prepare(k: &dyn AnyKernel, inputs: usize, outputs: usize, words: usize) -> Result<()> {
    let outs = k.bindings().iter().filter(|b| b.1.is_output()).count();
    if inputs + outs != k.bindings().len() || outs != outputs {
        let message = format!("{inputs} inputs and {outputs} outputs given for {} bindings", k.bindings().len());
        return Err(Error::shape(k.label(), message));
    }
    host::count_words(words);
    Ok(())
}

impl Device {
    /// Opens `auto`, `cpu`, `gpu` or `gpu:N`. `auto` is the first real GPU, else the CPU; a software adapter is taken only when its
    /// number is named.
    ///
    /// # Errors
    /// A name that is none of these (usage), or an adapter that is not there.
    pub fn open(name: &str) -> Result<Device> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "auto" => Ok(Gpu::first_real()?.map_or(Device::Cpu, |g| Device::Gpu(Arc::new(g)))),
            "gpu" => Gpu::first_real()?.map(|g| Device::Gpu(Arc::new(g))).ok_or_else(|| {
                Error::device(
                    "no GPU found; `spikemix devices` lists the adapters, and a software one is used when named as gpu:N",
                )
            }),
            _ => {
                let n = name.strip_prefix("gpu:").and_then(|n| n.parse().ok()).ok_or_else(|| {
                    Error::usage(format!("device {name:?} is none of auto, cpu, gpu, gpu:N (N as `spikemix devices` lists them)"))
                })?;
                Ok(Device::Gpu(Arc::new(Gpu::open(n)?)))
            }
        }
    }

    /// What a person calls this device.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => match rayon::current_num_threads() {
                1 => "cpu (1 thread)".into(),
                n => format!("cpu ({n} threads)"),
            },
            Device::Gpu(g) => g.describe(),
        }
    }

    /// Runs kernel `k` on `inputs` and returns its outputs, whose lengths in words are `outputs`.
    ///
    /// # Errors
    /// A buffer of another device, a number of buffers other than the kernel's, a tensor beyond the adapter's limits, a lost device.
    pub fn launch<K: Kernel>(&self, k: &K, u: &K::Uniform, inputs: &[&Storage], outputs: &[usize]) -> Result<Vec<Storage>> {
        self.launch_any(k, bytemuck::bytes_of(u), inputs, outputs)
    }

    /// [`Device::launch`] with the uniform as bytes.
    ///
    /// # Errors
    /// As [`Device::launch`].
    pub fn launch_any(&self, k: &dyn AnyKernel, u: &[u8], inputs: &[&Storage], outputs: &[usize]) -> Result<Vec<Storage>> {
        let words = inputs.iter().map(|b| b.len()).sum::<usize>() + outputs.iter().sum::<usize>();
        prepare(k, inputs.len(), outputs.len(), words)?;
        match self {
            Device::Cpu => host::run(k.name(), || cpu::launch(k, u, inputs, outputs, None)),
            Device::Gpu(g) => g.launch(k, u, inputs, outputs),
        }
    }

    /// [`Device::launch`] of a kernel that can write over one of its inputs ([`Kernel::onto`]), which is `spent`: `inputs` are the others. On
    /// the CPU, and where nobody else holds it, output 0 takes its memory.
    ///
    /// # Errors
    /// As [`Device::launch`], and a kernel that cannot.
    pub fn launch_onto<K: Kernel>(
        &self,
        k: &K,
        u: &K::Uniform,
        inputs: &[&Storage],
        spent: Storage,
        outputs: &[usize],
    ) -> Result<Vec<Storage>> {
        let Some(i) = Kernel::onto(k).filter(|i| *i <= inputs.len() && outputs.first() == Some(&spent.len())) else {
            return Err(Error::shape(k.label(), "no input of the first output's length is written over"));
        };
        let spent = match (self, spent) {
            (Device::Cpu, spent) => CpuBuf::spent(spent),
            (_, spent) => Err(spent),
        };
        match spent {
            Ok(block) => {
                let words = inputs.iter().map(|b| b.len()).sum::<usize>() + outputs[0] + outputs.iter().sum::<usize>();
                prepare(k, inputs.len() + 1, outputs.len(), words)?;
                host::run(k.name(), || cpu::launch(k, bytemuck::bytes_of(u), inputs, outputs, Some(block)))
            }
            Err(shared) => {
                let mut inputs = inputs.to_vec();
                inputs.insert(i, &shared);
                self.launch(k, u, &inputs, outputs)
            }
        }
    }

    /// Runs `f`, which launches a lot, where that is cheap: on the CPU on one of the threads that kernels run on. Any other thread hands each
    /// launch over and is woken up again, which takes longer than many a kernel.
    pub fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match self {
            Device::Cpu => rayon::scope(|_| f()),
            Device::Gpu(_) => f(),
        }
    }

    /// Copies words to the device.
    pub fn upload(&self, words: &[u32]) -> Result<Storage> {
        match self {
            Device::Cpu => Ok(Storage::Cpu(Arc::new(CpuBuf::copy_of(words)?))),
            Device::Gpu(g) => g.upload(words),
        }
    }

    /// Copies words back; on a GPU this submits what is queued and waits for it.
    pub fn read(&self, s: &Storage) -> Result<Vec<u32>> {
        match (self, s) {
            (_, Storage::Cpu(b)) => {
                host::count_read();
                Ok(b.words().to_vec())
            }
            (Device::Gpu(g), Storage::Gpu(b)) => g.read(b),
            (Device::Cpu, Storage::Gpu(_)) => Err(Error::device("a GPU buffer was read through the CPU device")),
        }
    }

    /// The first word of a buffer where nobody has to be waited for: on the CPU.
    pub fn at_hand(&self, s: &Storage) -> Option<u32> {
        match s {
            Storage::Cpu(b) => b.words().first().copied(),
            Storage::Gpu(_) => None,
        }
    }

    /// Waits until everything launched so far has run.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(g) => g.synchronize(),
        }
    }

    /// Launches so far: of the process on the CPU, of the adapter on a GPU.
    pub fn launches(&self) -> u64 {
        match self {
            Device::Cpu => host::launches(),
            Device::Gpu(g) => g.launches(),
        }
    }

    /// Bytes that launches of this process have moved so far, on any device: every buffer counts once for each launch that reads or
    /// writes it, whatever part of it is touched and however often.
    pub fn bytes_moved(&self) -> u64 {
        host::bytes()
    }

    /// Memory of the buffers of this device (of the process, on the CPU).
    pub fn held(&self) -> Held {
        match self {
            Device::Cpu => pool::held(),
            Device::Gpu(g) => g.held(),
        }
    }

    /// Measures [`Held::peak`] from now on.
    pub fn reset_peak(&self) {
        match self {
            Device::Cpu => pool::reset_peak(),
            Device::Gpu(g) => g.reset_peak(),
        }
    }

    /// Buffers read back so far: by the process on the CPU, from the adapter on a GPU.
    pub fn reads(&self) -> u64 {
        match self {
            Device::Cpu => host::reads(),
            Device::Gpu(g) => g.reads(),
        }
    }

    /// Starts or stops timing every launch by kernel; on the CPU for the whole process.
    pub fn profile(&self, on: bool) {
        match self {
            Device::Cpu => host::profile(on),
            Device::Gpu(g) => g.profile(on),
        }
    }

    /// What was timed since [`Device::profile`] or the last call: kernel, launches, seconds; the longest first.
    ///
    /// # Errors
    /// A lost GPU.
    pub fn take_profile(&self) -> Result<Vec<(String, u64, f64)>> {
        match self {
            Device::Cpu => Ok(host::take_profile()),
            Device::Gpu(g) => g.take_profile(),
        }
    }
}
