//! Launches on the CPU, counted always and timed by kernel when asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static LAUNCHES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static ON: AtomicBool = AtomicBool::new(false);
static TOTALS: Mutex<BTreeMap<String, (u64, f64)>> = Mutex::new(BTreeMap::new());

fn totals() -> std::sync::MutexGuard<'static, BTreeMap<String, (u64, f64)>> {
    // Nothing is done under the lock that a panic could leave half done.
    TOTALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a launch, and adds its wall time to kernel `name` where profiling is on.
pub(super) fn run<R>(name: &str, launch: impl FnOnce() -> R) -> R {
    LAUNCHES.fetch_add(1, Ordering::Relaxed);
    if !ON.load(Ordering::Relaxed) {
        return launch();
    }
    let start = Instant::now();
    let result = launch();
    let seconds = start.elapsed().as_secs_f64();
    let mut totals = totals();
    let row = totals.entry(name.to_string()).or_default();
    *row = (row.0 + 1, row.1 + seconds);
    result
}

/// Launches on the CPU since the process began.
pub(super) fn launches() -> u64 {
    LAUNCHES.load(Ordering::Relaxed)
}

/// Counts the words that a launch reads and writes.
pub(super) fn count_words(words: usize) {
    BYTES.fetch_add(4 * words as u64, Ordering::Relaxed);
}

/// Bytes counted by [`count_words`].
pub(super) fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Counts a buffer that is copied out.
pub(super) fn count_read() {
    READS.fetch_add(1, Ordering::Relaxed);
}

/// Buffers copied out since the process began.
pub(super) fn reads() -> u64 {
    READS.load(Ordering::Relaxed)
}

/// Starts or stops timing.
pub(super) fn profile(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// What was timed: kernel, launches, seconds; the longest first. Starts anew.
pub(super) fn take_profile() -> Vec<(String, u64, f64)> {
    let mut rows: Vec<_> = std::mem::take(&mut *totals()).into_iter().map(|(name, (n, s))| (name, n, s)).collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    rows
}
