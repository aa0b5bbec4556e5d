//! Writing disjoint parts of one buffer from several threads, scratch memory for each, and what is asked of the system about memory.

use std::cell::RefCell;
use std::marker::PhantomData;

/// Floats of a cache line.
const LINE: usize = 16;
/// Words of a large page: 2 MiB.
pub(crate) const PAGE: usize = 1 << 19;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = RefCell::default();
}

/// Asks the system for pages of 2 MiB where these words have not been touched: a fault for each 512 of the usual ones, and fewer
/// addresses to look up, which costs most in a virtual machine.
pub(crate) fn ask_for_large_pages(words: *mut u32, len: usize) {
    #[cfg(target_os = "linux")]
    {
        // Advice about an address that begins no page is refused.
        let (first, end) = ((words as usize).next_multiple_of(4 * PAGE), (words as usize + 4 * len) / (4 * PAGE) * 4 * PAGE);
        if first < end {
            // SAFETY: advice about memory that the caller owns; it changes no content, and a kernel that does not take it changes nothing.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (words, len);
}

/// Lends this thread's scratch of `len` floats, which hold anything; not to be asked for again inside `f`.
pub fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|s| f(lines(s, len)))
}

/// `len` floats of `room`, which hold anything, from the start of a cache line, so that no vector straddles two.
pub fn lines(room: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if room.len() < len + LINE {
        // Anew rather than grown: what it held is of no use, and large pages are asked for before anything is touched.
        *room = Vec::new();
        room.reserve_exact(len + LINE);
        ask_for_large_pages(room.as_mut_ptr().cast(), room.capacity());
        room.resize(len + LINE, 0.0);
    }
    let start = room.as_ptr().align_offset(4 * LINE).min(LINE);
    &mut room[start..start + len]
}

/// A mutable slice that threads cut disjoint pieces from, where the pieces are not contiguous runs that `par_chunks_mut` could hand out
/// (a tile of rows at every time step, for example).
pub struct Shared<'a, T> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: the pieces handed out are disjoint (the contract of `slice`), so sending them to threads is sending `&mut [T]`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Borrows the slice for as long as pieces are used.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shared { ptr: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }
    /// The piece of `len` elements from `start`.
    ///
    /// # Safety
    /// No two pieces alive at once may overlap.
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    #[inline(always)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len);
        // SAFETY: in bounds by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}

impl Shared<'_, f32> {
    /// [`prefetch`] of some, whoever writes to them now.
    #[inline(always)]
    pub fn prefetch(&self, first: usize, n: usize) {
        ask(self.ptr, first, n);
    }
}

/// Rows of `c` elements that one task takes. It depends on the problem alone, never on the number of threads.
pub fn task_rows(c: usize) -> usize {
    ((1 << 14) / c.max(1)).max(1)
}

/// Writes an output past the caches, line by line, where it is so long that hardly any of it would still be there when it is read next. A
/// usual store first fetches the line that it overwrites, and in a virtual machine took three times as long (134 MB by two threads:
/// 12 to 14 ms, past the caches 4).
pub struct Stream {
    past: bool,
}

impl Stream {
    /// Floats of an output from which it is written past the caches: 16 MiB.
    pub const FROM: usize = 1 << 22;

    /// For a task that writes a part of an output of `len` floats. What it wrote is seen by other threads once this has been dropped.
    pub fn new(len: usize) -> Self {
        Stream { past: cfg!(target_arch = "x86_64") && len >= Self::FROM }
    }
    /// Writes `from` to `to`: past the caches where that was wanted and these are whole lines.
    #[inline(always)]
    pub fn write(&self, to: &mut [f32], from: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if self.past && to.as_ptr().addr().is_multiple_of(4 * LINE) && to.len().is_multiple_of(LINE) {
            use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
            assert!(to.len() == from.len());
            for at in (0..to.len()).step_by(4) {
                // SAFETY: four floats from `at` on are there, and they begin at a multiple of 16 bytes; SSE is part of x86-64.
                unsafe { _mm_stream_ps(to.as_mut_ptr().add(at), _mm_loadu_ps(from.as_ptr().add(at))) };
            }
            return;
        }
        to.copy_from_slice(from);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.past {
            // Such stores are not ordered before those that tell other threads that this one is done.
            // SAFETY: SSE is part of x86-64.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// Asks for the cache lines of `n` floats of `x` from `first` on, wherever it ends: what is read next but lies far from what was read last,
/// where processors do not look ahead.
#[inline(always)]
pub fn prefetch(x: &[f32], first: usize, n: usize) {
    ask(x.as_ptr(), first, n);
}

#[inline(always)]
fn ask(x: *const f32, first: usize, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (first..first + n).step_by(LINE) {
        // SAFETY: a hint, of SSE, which is part of x86-64; it reads nothing and takes any address.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(x.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, first, n);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever a line begins.
    #[test]
    fn what_is_streamed_is_there() {
        let from: Vec<f32> = (0..4 * LINE).map(|i| i as f32).collect();
        for len in [LINE, Stream::FROM] {
            for at in [0, 1, 4, LINE] {
                let mut room = Vec::new();
                let to = lines(&mut room, 6 * LINE);
                to.fill(-1.0);
                Stream::new(len).write(&mut to[at..at + from.len()], &from);
                assert!(to[at..at + from.len()] == from && to[..at].iter().chain(&to[at + from.len()..]).all(|x| *x == -1.0));
            }
        }
    }
}
