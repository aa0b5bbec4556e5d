//! Buffers that outlive the tensors in them.
//!
//! All work goes through one queue, so a buffer can hold a new tensor as soon as the last handle of the old one is gone: whatever still
//! reads it was encoded earlier. Only uploads are different, because the queue writes them *before* the commands that are being
//! encoded; an upload therefore takes a buffer that no command of the open encoder has touched.

use crate::device::Held;
use crate::kernel::grid::GridU;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wgpu::{Buffer, BufferDescriptor, BufferUsages, Device};

/// Buffers that lie idle, with the number of the submission that was open when each was freed.
#[derive(Default)]
struct Idle {
    free: BTreeMap<u64, Vec<(u64, Buffer)>>,
    idle: u64,
    live: u64,
    /// The most that was in use since the last reset.
    peak: u64,
    /// The number of the submission that is being encoded.
    open: u64,
}

/// Idle buffers by size class.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    max_bytes: u64,
    usage: BufferUsages,
}

/// Idle bytes that are never worth giving back.
const KEEP: u64 = 64 << 20;

/// The size of buffer that holds `bytes`: four classes between powers of two, so that at most a quarter is wasted.
fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 8).max(64);
    bytes.next_multiple_of(step)
}

impl Pool {
    /// Of buffers that also say how large a launch is, where the adapter can be told so.
    pub fn new(max_bytes: u64, indirect: bool) -> Self {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let usage = if indirect { usage | BufferUsages::INDIRECT } else { usage };
        Pool { idle: Mutex::default(), max_bytes, usage }
    }
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A buffer of at least `words`, idle or new; for an upload, one that the open encoder does not touch.
    pub fn take(self: &Arc<Self>, device: &Device, words: usize, upload: bool) -> GpuBuf {
        let size = class(words as u64 * 4).min(self.max_bytes.max(words as u64 * 4));
        let mut idle = self.lock();
        let open = idle.open;
        let list = idle.free.get_mut(&size);
        let found = list.and_then(|list| {
            let at = if upload { list.iter().rposition(|b| b.0 < open) } else { list.len().checked_sub(1) };
            at.map(|at| list.remove(at).1)
        });
        idle.live += size;
        idle.peak = idle.peak.max(idle.live);
        let buffer = match found {
            Some(b) => {
                idle.idle -= size;
                b
            }
            None => {
                // Sizes have changed: what lies idle beyond a quarter of what is in use goes back to the driver, largest first.
                while idle.idle > KEEP.max(idle.live / 4) {
                    let Some((class, list)) = idle.free.pop_last() else { break };
                    idle.idle -= class * list.len() as u64;
                }
                drop(idle);
                device.create_buffer(&BufferDescriptor { label: None, size, usage: self.usage, mapped_at_creation: false })
            }
        };
        GpuBuf { buffer, size, len: words, pool: self.clone(), grids: Mutex::default() }
    }
    /// Says that another submission is being encoded from now on.
    pub fn submitted(&self) {
        self.lock().open += 1;
    }
    /// Gives everything idle back to the driver.
    pub fn clear(&self) {
        let mut idle = self.lock();
        idle.free.clear();
        idle.idle = 0;
    }
    /// Bytes in use now, and the most since [`Pool::reset_peak`].
    pub fn held(&self) -> Held {
        let idle = self.lock();
        Held { live: idle.live, peak: idle.peak }
    }
    /// Forgets the most that was in use before.
    pub fn reset_peak(&self) {
        let mut idle = self.lock();
        idle.peak = idle.live;
    }
    /// Bytes in use and bytes idle.
    pub fn bytes(&self) -> [u64; 2] {
        let idle = self.lock();
        [idle.live, idle.idle]
    }
}

/// A buffer of words on a GPU, from its pool.
pub struct GpuBuf {
    pub(super) buffer: Buffer,
    size: u64,
    len: usize,
    pool: Arc<Pool>,
    /// Where this is a count: the grids that were made of it.
    pub(super) grids: Mutex<Vec<(GridU, Arc<GpuBuf>)>>,
}

impl GpuBuf {
    /// Length in words.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Bytes to bind: an empty tensor still needs something to bind, and pooled buffers always have that much.
    pub(super) fn binding_bytes(&self) -> u64 {
        (self.len as u64 * 4).max(16)
    }
    /// Whether it belongs to the device whose pool this is.
    pub(super) fn is_from(&self, pool: &Arc<Pool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }
}

impl Drop for GpuBuf {
    fn drop(&mut self) {
        let mut idle = self.pool.lock();
        idle.live -= self.size;
        idle.idle += self.size;
        let open = idle.open;
        idle.free.entry(self.size).or_default().push((open, self.buffer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn classes_hold_what_they_should() {
        for bytes in (0..5000).chain([65_537, 1 << 20, (1 << 27) + 4, (1 << 31) - 4]) {
            let c = class(bytes);
            assert!(c >= bytes && c >= 256 && c.is_multiple_of(4) && c <= bytes.max(256) + bytes.max(256) / 4, "{bytes} {c}");
            assert_eq!(class(c), c);
        }
    }
}
