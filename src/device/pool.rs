//! Memory for CPU buffers, kept from launch to launch.
//!
//! Memory fresh from the system costs a page fault every 4 KiB, more than most kernels cost, and a training step needs the same memory each
//! time. So buffers are cut from slabs that stay: the lowest free range that is long enough, joined with its neighbours again when it is
//! given back. Long buffers and short ones have slabs of their own: gradients, which stay until the optimiser has run, would else be
//! strewn over the room that the longest tensors of backward need. What a slab never lent was never touched and takes no memory. Small buffers are left to the system's allocator.

use super::Held;
use crate::error::{Error, Result};
use crate::kernel::par::{PAGE, ask_for_large_pages};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Words of a slab: 1 GiB of addresses.
const SLAB: usize = 1 << 28;
/// Ranges are multiples of this many words: a cache line.
const GRAIN: usize = 16;
/// Words from which a buffer is a long one.
const LONG: usize = 1 << 20;
/// Words below which a buffer comes from the system's allocator.
const SMALL: usize = 1 << 14;

/// A range of zero-initialised words that hold whatever their last owner left.
pub struct Block {
    ptr: *mut u32,
    len: usize,
    home: Home,
}

enum Home {
    /// In the slab at this address, from this word on.
    Slab { base: usize, start: usize },
    /// By itself.
    Own(Layout),
}

// SAFETY: a block owns its words alone, like a `Box<[u32]>`.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

struct Slab {
    /// Where its words begin: a multiple of a large page.
    base: usize,
    /// What the allocator gave: `words` and a large page.
    origin: *mut u32,
    layout: Layout,
    words: usize,
    /// Whether it is for long buffers.
    long: bool,
    /// Words up to which there was memory when that was last looked up: the system gives it only for what was ever lent.
    looked: usize,
    /// Start to length of each free range; neighbours are always joined.
    free: BTreeMap<usize, usize>,
}

// SAFETY: a slab owns what it points to.
unsafe impl Send for Slab {}

static SLABS: Mutex<Vec<Slab>> = Mutex::new(Vec::new());
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Bytes that blocks hold now, and the most they held since [`reset_peak`].
pub fn held() -> Held {
    Held { live: LIVE.load(Relaxed), peak: PEAK.load(Relaxed) }
}

/// Forgets the most that was held before.
pub fn reset_peak() {
    PEAK.store(LIVE.load(Relaxed), Relaxed);
}

fn slabs() -> MutexGuard<'static, Vec<Slab>> {
    // Nothing between lock and unlock panics half-way through a change.
    SLABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// None for a length that fits no address space.
fn layout(words: usize) -> Option<Layout> {
    // A small buffer begins a cache line, for a vector that straddles two takes twice as long. Not a slab, which does so by itself: for
    // larger alignments the standard library clears the memory, which touches all of it.
    Layout::from_size_align(words.checked_mul(4)?, if words < SMALL { 4 * GRAIN } else { 16 }).ok()
}

/// Zeros, and the layout to free them by; none where the system refuses.
fn zeroed(words: usize) -> Option<(*mut u32, Layout)> {
    let layout = layout(words)?;
    // SAFETY: `words` is at least one grain.
    let ptr = unsafe { alloc_zeroed(layout) };
    (!ptr.is_null()).then_some((ptr.cast(), layout))
}

fn out_of_memory(words: usize, left: &str) -> Error {
    let (wanted, live) = (words as u64 * 4, LIVE.load(Relaxed));
    let what = format!("cpu: out of memory: {wanted} bytes wanted beside {live} in use{left}");
    Error::device(format!("{what}; use a smaller batch, fewer steps or a smaller network"))
}

impl Slab {
    fn take(&mut self, words: usize) -> Option<usize> {
        let (&start, &len) = self.free.iter().find(|(_, len)| **len >= words)?;
        self.free.remove(&start);
        if len > words {
            self.free.insert(start + words, len - words);
        }
        Some(start)
    }
    fn give(&mut self, mut start: usize, mut words: usize) {
        if let Some((&before, &len)) = self.free.range(..start).next_back().filter(|(s, l)| *s + *l == start) {
            self.free.remove(&before);
            (start, words) = (before, words + len);
        }
        if let Some(len) = self.free.remove(&(start + words)) {
            words += len;
        }
        self.free.insert(start, words);
    }
    fn is_free(&self) -> bool {
        self.free.get(&0) == Some(&self.words)
    }
}

/// Fails where the machine has no memory for so many more words. It is Linux that says how much there is; elsewhere, and of the limit of a
/// container, nothing is known before it is asked for.
fn expect_memory(words: usize) -> Result<()> {
    match available_memory() {
        Some(left) if words as u64 * 4 > left => Err(out_of_memory(words, &format!(", and the machine has {left} left"))),
        _ => Ok(()),
    }
}

/// Bytes that the system can still give without swapping.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

impl Block {
    /// `len` words that hold anything.
    ///
    /// # Errors
    /// More than the machine has memory for.
    pub fn new(len: usize) -> Result<Block> {
        let words = len.next_multiple_of(GRAIN).max(GRAIN);
        let (ptr, home) = match words < SMALL {
            true => zeroed(words).map(|(ptr, layout)| (ptr, Home::Own(layout))).ok_or_else(|| out_of_memory(words, ""))?,
            false => Self::from_slab(words)?,
        };
        let live = LIVE.fetch_add(4 * words as u64, Relaxed) + 4 * words as u64;
        PEAK.fetch_max(live, Relaxed);
        Ok(Block { ptr, len, home })
    }
    fn from_slab(words: usize) -> Result<(*mut u32, Home)> {
        let mut slabs = slabs();
        let long = words >= LONG;
        let found = slabs.iter_mut().enumerate().filter(|(_, s)| s.long == long).find_map(|(i, s)| Some((i, s.take(words)?)));
        let (i, start) = match found {
            Some(found) => found,
            None => {
                expect_memory(words)?;
                // Less where there is no room for so many addresses.
                let made = [words.max(SLAB), words].into_iter().find_map(|size| Some((size, zeroed(size + PAGE)?)));
                let (size, (origin, layout)) = made.ok_or_else(|| out_of_memory(words, ""))?;
                let base = (origin as usize).next_multiple_of(4 * PAGE);
                ask_for_large_pages(base as *mut u32, size);
                let free = if size > words { BTreeMap::from([(words, size - words)]) } else { BTreeMap::new() };
                slabs.push(Slab { base, origin, layout, words: size, long, looked: 0, free });
                (slabs.len() - 1, 0)
            }
        };
        let slab = &mut slabs[i];
        let grown = (start + words).saturating_sub(slab.looked);
        if grown >= LONG {
            if let Err(e) = expect_memory(grown) {
                slab.give(start, words);
                return Err(e);
            }
            slab.looked = start + words;
        }
        // SAFETY: the range lies inside the slab.
        Ok((unsafe { (slab.base as *mut u32).add(start) }, Home::Slab { base: slab.base, start }))
    }
    /// The words.
    pub fn words(&self) -> &[u32] {
        // SAFETY: the block owns `len` initialised words at `ptr`.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
    /// The words, to be written.
    pub fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let words = self.len.next_multiple_of(GRAIN).max(GRAIN);
        LIVE.fetch_sub(4 * words as u64, Relaxed);
        match self.home {
            // SAFETY: allocated by `zeroed` with this layout, and dropped once.
            Home::Own(layout) => unsafe { dealloc(self.ptr.cast(), layout) },
            Home::Slab { base, start } => {
                let mut slabs = slabs();
                let long = words >= LONG;
                if let Some(s) = slabs.iter_mut().find(|s| s.base == base) {
                    s.give(start, words);
                }
                // One empty slab of a kind is kept for the next step, a second goes back.
                let empty: Vec<usize> = (0..slabs.len()).filter(|&i| slabs[i].long == long && slabs[i].is_free()).collect();
                if let [_, .., last] = empty[..] {
                    let s = slabs.swap_remove(last);
                    // SAFETY: allocated by `zeroed` with this layout; no block of it is left.
                    unsafe { dealloc(s.origin.cast(), s.layout) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_split_and_join() {
        let mut s = Slab {
            base: 0,
            origin: std::ptr::null_mut(),
            layout: Layout::new::<u32>(),
            words: 100,
            long: true,
            looked: 0,
            free: BTreeMap::from([(0, 100)]),
        };
        assert_eq!((s.take(30), s.take(30), s.take(30), s.take(30)), (Some(0), Some(30), Some(60), None));
        s.give(30, 30);
        assert_eq!(s.take(20), Some(30));
        s.give(60, 30);
        assert_eq!(s.free, BTreeMap::from([(50, 50)]));
        s.give(0, 30);
        s.give(30, 20);
        assert!(s.is_free());
    }

    /// What no machine has is refused, and not counted as held.
    #[test]
    fn too_much_is_an_error() {
        if available_memory().is_some() {
            let before = held().live;
            let e = Block::new(1 << 50).err().unwrap().to_string();
            assert!(e.starts_with("device: cpu: out of memory: 4503599627370496 bytes wanted beside"), "{e}");
            assert!(held().live < before + (1 << 50));
        }
    }

    #[test]
    fn blocks_do_not_overlap() {
        let sizes = [1, 15, SMALL, SMALL + 1, 3 * SMALL, 5, 2 * SMALL];
        let mut blocks: Vec<Block> = sizes.iter().map(|&n| Block::new(n).unwrap()).collect();
        for round in 0..50u32 {
            let i = round as usize % blocks.len();
            blocks[i] = Block::new(sizes[(i + round as usize) % sizes.len()]).unwrap();
            for (k, b) in blocks.iter_mut().enumerate() {
                b.words_mut().fill(k as u32);
            }
            for (k, b) in blocks.iter().enumerate() {
                assert!(b.words().iter().all(|&w| w == k as u32), "round {round} block {k}");
            }
        }
    }
}
