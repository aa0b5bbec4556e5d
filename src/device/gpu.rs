//! GPUs through wgpu (placeholder interface, being written).

use super::Storage;
use crate::error::{Error, Result};
use crate::kernel::AnyKernel;

/// An opened adapter.
pub struct Gpu {}
/// A buffer on a GPU.
pub struct GpuBuf {}
/// A row of `spikemix devices`.
pub struct AdapterRow {}

/// Every adapter of this machine.
pub fn adapters() -> Vec<AdapterRow> {
    Vec::new()
}

impl GpuBuf {
    /// Length in words.
    pub fn len(&self) -> usize {
        0
    }
}

impl Gpu {
    /// The first adapter that is a real GPU.
    pub fn first_real() -> Result<Option<Gpu>> {
        Ok(None)
    }
    /// Opens adapter `n`.
    pub fn open(n: usize) -> Result<Gpu> {
        Err(Error::device(format!("no adapter {n}")))
    }
    /// What a person calls it.
    pub fn describe(&self) -> String {
        String::new()
    }
    /// Queues a launch.
    pub fn launch(&self, _k: &dyn AnyKernel, _u: &[u8], _inputs: &[&Storage], _outputs: &[usize]) -> Result<Vec<Storage>> {
        Err(Error::device("not written"))
    }
    /// Copies words up.
    pub fn upload(&self, _words: &[u32]) -> Result<Storage> {
        Err(Error::device("not written"))
    }
    /// Copies words back.
    pub fn read(&self, _b: &GpuBuf) -> Result<Vec<u32>> {
        Err(Error::device("not written"))
    }
    /// Waits.
    pub fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
