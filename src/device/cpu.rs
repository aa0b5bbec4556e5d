//! Buffers in memory, and launches of CPU twins.
//!
//! Freed buffers are kept for the next launch of that size: a training step asks for the same sizes each time, and memory fresh from
//! the system costs a page fault every 4 KiB, more than most kernels cost.

use super::Storage;
use crate::error::{Error, Result};
use crate::kernel::{AnyKernel, Args};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A buffer of words in memory, from the pool.
pub struct CpuBuf {
    data: Vec<u32>,
    len: usize,
}

#[derive(Default)]
struct Pool {
    free: BTreeMap<usize, Vec<Vec<u32>>>,
    /// Words in buffers that wait.
    idle: usize,
    /// Words in buffers that are in use.
    live: usize,
    /// The most that was in use at one time.
    peak: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), idle: 0, live: 0, peak: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    // A panic elsewhere leaves the pool consistent: it only loses buffers.
    POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl CpuBuf {
    /// A buffer of `len` words that hold anything.
    fn dirty(len: usize) -> Self {
        let mut pool = pool();
        // The smallest idle buffer that fits without wasting more than a quarter.
        let fit = pool.free.range(len..=len + len / 4).next().map(|(&size, _)| size);
        let data = fit.and_then(|size| {
            let list = pool.free.get_mut(&size)?;
            let data = list.pop();
            if list.is_empty() {
                pool.free.remove(&size);
            }
            data
        });
        let data = match data {
            Some(d) => {
                pool.idle -= d.len();
                pool.live += d.len();
                pool.peak = pool.peak.max(pool.live);
                d
            }
            None => {
                // Sizes have changed: idle buffers go back to the system, largest first, while the whole would exceed what was once in
                // use at one time by more than a quarter.
                pool.live += len;
                pool.peak = pool.peak.max(pool.live);
                while pool.live + pool.idle > pool.peak + pool.peak / 4 {
                    let Some((&size, _)) = pool.free.iter().next_back() else { break };
                    pool.free.remove(&size).into_iter().flatten().for_each(|v| pool.idle -= v.len());
                }
                drop(pool);
                vec![0; len]
            }
        };
        CpuBuf { data, len }
    }
    /// A copy of `words`.
    pub fn copy_of(words: &[u32]) -> Self {
        let mut b = Self::dirty(words.len());
        b.data[..words.len()].copy_from_slice(words);
        b
    }
    /// The content.
    pub fn words(&self) -> &[u32] {
        &self.data[..self.len]
    }
}

impl Drop for CpuBuf {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut pool = pool();
        pool.live -= data.len();
        pool.idle += data.len();
        pool.free.entry(data.len()).or_default().push(data);
    }
}

pub fn launch(k: &dyn AnyKernel, u: &[u8], inputs: &[&Storage], outputs: &[usize]) -> Result<Vec<Storage>> {
    let inputs = inputs
        .iter()
        .map(|s| match s {
            Storage::Cpu(b) => Ok(b.words()),
            Storage::Gpu(_) => Err(Error::device(format!("{}: a GPU buffer was given to the CPU", k.label()))),
        })
        .collect::<Result<Vec<_>>>()?;
    let mut bufs: Vec<CpuBuf> = outputs.iter().map(|&n| CpuBuf::dirty(n)).collect();
    let outs = bufs.iter_mut().map(|b| &mut b.data[..b.len]).collect();
    k.cpu(u, &mut Args::new(inputs, outs));
    Ok(bufs.into_iter().map(|b| Storage::Cpu(Arc::new(b))).collect())
}
