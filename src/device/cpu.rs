//! Buffers in memory, and launches of CPU twins.

use super::Storage;
use super::pool::Block;
use crate::error::{Error, Result};
use crate::kernel::{AnyKernel, Args};
use std::sync::Arc;

/// A buffer of words in memory.
pub struct CpuBuf(Block);

impl CpuBuf {
    /// The block behind `storage`, if nobody else holds it.
    pub fn spent(storage: Storage) -> std::result::Result<Block, Storage> {
        match storage {
            Storage::Cpu(b) => Arc::try_unwrap(b).map(|b| b.0).map_err(Storage::Cpu),
            gpu => Err(gpu),
        }
    }
    /// A copy of `words`.
    ///
    /// # Errors
    /// As [`Block::new`].
    pub fn copy_of(words: &[u32]) -> Result<Self> {
        let mut b = Block::new(words.len())?;
        b.words_mut().copy_from_slice(words);
        Ok(CpuBuf(b))
    }
    /// The content.
    pub fn words(&self) -> &[u32] {
        self.0.words()
    }
}

/// Runs the CPU twin of `k`; see [`super::Device::launch`]. Where there is a block, it holds input [`AnyKernel::onto`] and becomes output 0.
pub fn launch(k: &dyn AnyKernel, u: &[u8], inputs: &[&Storage], outputs: &[usize], onto: Option<Block>) -> Result<Vec<Storage>> {
    let mut inputs = inputs
        .iter()
        .map(|s| match s {
            Storage::Cpu(b) => Ok(b.words()),
            Storage::Gpu(_) => Err(Error::device(format!("{}: a GPU buffer was given to the CPU", k.label()))),
        })
        .collect::<Result<Vec<_>>>()?;
    if let (Some(i), Some(_)) = (k.onto(), &onto) {
        inputs.insert(i, &[]);
    }
    let new = outputs.iter().skip(usize::from(onto.is_some())).map(|&n| Block::new(n));
    let mut blocks = onto.into_iter().map(Ok).chain(new).collect::<Result<Vec<Block>>>()?;
    let outs = blocks.iter_mut().map(Block::words_mut).collect();
    k.cpu(u, &mut Args::new(inputs, outs));
    Ok(blocks.into_iter().map(|b| Storage::Cpu(Arc::new(CpuBuf(b)))).collect())
}
