//! The CPU side of every product with a weight matrix: linear maps and convolutions, of floats and of packed spikes.
//!
//! All of them are a matrix A \[rows, k\] that is described rather than stored ([`Rows`]) times a dense one. A is either filled into a
//! block in cache and given to `gemm`, or walked: for every nonzero of a row one row of the dense matrix is added. Which of the two
//! depends on how full A is ([`WALK_BELOW`], measured by `spikemix bench crossover`); the results differ only by rounding, and the
//! choice by the data at hand, so that the same input gives the same bits.

use super::bits::keep;
use super::par::{prefetch, scratch};
use super::{simd, words};
use rayon::prelude::*;

/// Fullness below which a forward product walks the nonzeros.
pub const WALK_BELOW: f64 = 0.4;
/// The same for weight gradients.
pub const WALK_WEIGHT_BELOW: f64 = 0.35;

/// The same on a GPU for a forward product, where each tile of 64 rows decides for itself (`shaders/common/walk.wgsl`), and for a weight
/// gradient, where each split does (`walk_weight.wgsl`). On Mesa's llvmpipe the ways cross near 0.4 and 0.1 (`spikemix bench crossover`);
/// counted by instructions and loads from a first-level cache, those of a forward product should cross near 0.3 on a card, which has not
/// been measured.
pub const GPU_WALK_BELOW: [f64; 2] = [0.25, 0.1];

/// The constant as the shaders have it.
pub(super) fn gpu_walk_below(weight: bool) -> Vec<(&'static str, f64)> {
    vec![("WALK_BELOW", GPU_WALK_BELOW[usize::from(weight)])]
}

/// A matrix \[rows, k\] that can be filled in.
pub trait Rows: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Length of a row.
    fn k(&self) -> usize;
    /// Rows that a split does not cut: the pixels of an image.
    fn unit(&self) -> usize;
    /// Writes rows `first..first + n` into `out` \[n, k\].
    fn fill(&self, first: usize, n: usize, out: &mut [f32]);
}

/// C \[m, n\] (+)= A B with `gemm`, single-threaded; strides are (row, column) in elements.
#[allow(clippy::too_many_arguments)]
pub fn gemm(
    c: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    add: bool,
) {
    gemm_scaled(c, n, (m, n, k), a, a_strides, b, b_strides, add, 1.0);
}

/// [`gemm`] into rows `c_stride` apart, the product times `scale`.
#[allow(clippy::too_many_arguments)]
pub fn gemm_scaled(
    c: &mut [f32],
    c_stride: usize,
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    add: bool,
    scale: f32,
) {
    let last = |rows: usize, cols: usize, s: (usize, usize)| (rows.max(1) - 1) * s.0 + (cols.max(1) - 1) * s.1;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            (0..m).for_each(|i| c[i * c_stride..i * c_stride + n].fill(0.0));
        }
        return;
    }
    assert!(
        c_stride >= n
            && c.len() > last(m, n, (c_stride, 1))
            && a.len() > last(m, k, a_strides)
            && b.len() > last(k, n, b_strides)
    );
    // C is asked for as its transpose, B^T A^T, for columns of results are written fastest.
    // SAFETY: the assertion keeps every access inside the three slices, and `c` is borrowed mutably.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            n,
            m,
            k,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
            add,
            b.as_ptr(),
            b_strides.0 as isize,
            b_strides.1 as isize,
            a.as_ptr(),
            a_strides.0 as isize,
            a_strides.1 as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

/// Rows of a block: what keeps \[block, k\] floats within half of a second-level cache of 1 MiB.
fn block_rows(k: usize) -> usize {
    ((1 << 17) / k.max(1) / 16 * 16).clamp(16, 512)
}

/// How a product is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A row of the dense matrix is added for each nonzero.
    Walk,
    /// Blocks are filled in and given to `gemm`.
    Dense,
}

impl Way {
    /// By the share of nonzeros.
    pub fn of(density: f64, walk_below: f64) -> Self {
        if density < walk_below { Way::Walk } else { Way::Dense }
    }
}

/// Columns of w that a walk takes at once.
const COLUMNS: usize = 64;

/// y \[rows, n\] = A w \[k, n\] (+ bias \[n\] where it is not empty) of packed spikes.
pub fn product(way: Way, a: &BitMatrix<'_>, w: &[f32], bias: &[f32], y: &mut [f32]) {
    if way == Way::Dense {
        return dense(a, w, bias, y);
    }
    let (k, rows) = (a.k(), a.rows());
    if rows == 0 || y.is_empty() {
        return;
    }
    let n = y.len() / rows;
    let block = block_rows(k);
    y.par_chunks_mut(block * n).enumerate().for_each(|(i, y)| {
        let rows = y.len() / n;
        let room = rows * a.planes * k + 32;
        scratch(room + k * COLUMNS, |s| {
            let (list, packed) = s.split_at_mut(room);
            let list = bytemuck::cast_slice_mut(list);
            // The spikes first, then the sums: tight loops beat one that does both.
            let mut starts = vec![0; rows + 1];
            simd(
                #[inline(always)]
                || {
                    for r in 0..rows {
                        starts[r + 1] = starts[r] + a.spikes(i * block + r, &mut list[starts[r]..]);
                    }
                    // Some columns of w for all rows, where spikes are enough to pay for that.
                    let whole = if n > COLUMNS && starts[rows] > 8 * k { n / COLUMNS * COLUMNS } else { 0 };
                    for c0 in (0..whole).step_by(COLUMNS) {
                        pack(w, n, c0, packed);
                        for (r, ends) in starts.windows(2).enumerate() {
                            // Some columns of each row are written, which lie far apart.
                            let ahead = (r + 8) * n + c0;
                            prefetch(y.get(ahead..ahead + COLUMNS).unwrap_or_default());
                            let y = &mut y[r * n..(r + 1) * n];
                            let sums = sum_rows::<COLUMNS>(&list[ends[0]..ends[1]], packed, COLUMNS, 0);
                            y[c0..c0 + COLUMNS].copy_from_slice(&sums);
                        }
                    }
                    for (y, ends) in y.chunks_exact_mut(n).zip(starts.windows(2)) {
                        add_rows(&list[ends[0]..ends[1]], w, whole, &mut y[whole..]);
                        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                },
            );
        });
    });
}

/// [`product`] of any matrix, filled in block by block.
pub fn dense(a: &impl Rows, w: &[f32], bias: &[f32], y: &mut [f32]) {
    let (k, rows) = (a.k(), a.rows());
    if rows == 0 || y.is_empty() {
        return;
    }
    let n = y.len() / rows;
    let block = block_rows(k);
    y.par_chunks_mut(block * n).enumerate().for_each(|(i, y)| {
        let m = y.len() / n;
        scratch(m * k, |filled| {
            a.fill(i * block, m, filled);
            for y in y.chunks_exact_mut(n).filter(|_| !bias.is_empty()) {
                y.copy_from_slice(bias);
            }
            gemm(y, (m, n, k), filled, (k, 1), w, (n, 1), !bias.is_empty());
        });
    });
}

/// y = the columns from `first` on of the sum of the rows of `w` that `list` names, in blocks whose sums stay in registers.
#[inline(always)]
pub(super) fn add_rows(list: &[u32], w: &[f32], first: usize, y: &mut [f32]) {
    let n = first + y.len();
    let mut c0 = 0;
    // 32 registers of 16 floats hold 128 sums with ease, 16 of 8 floats 64.
    while wide() && y.len() - c0 >= 128 {
        y[c0..c0 + 128].copy_from_slice(&sum_rows::<128>(list, w, n, first + c0));
        c0 += 128;
    }
    while y.len() - c0 >= 64 {
        y[c0..c0 + 64].copy_from_slice(&sum_rows::<64>(list, w, n, first + c0));
        c0 += 64;
    }
    while y.len() - c0 >= 16 {
        y[c0..c0 + 16].copy_from_slice(&sum_rows::<16>(list, w, n, first + c0));
        c0 += 16;
    }
    // A router has as many columns as experts.
    while y.len() - c0 >= 4 {
        y[c0..c0 + 4].copy_from_slice(&sum_rows::<4>(list, w, n, first + c0));
        c0 += 4;
    }
    if c0 < y.len() {
        let (at, y) = (first + c0, &mut y[c0..]);
        y.fill(0.0);
        for &k in list {
            let row = &w[k as usize * n + at..(k as usize + 1) * n];
            y.iter_mut().zip(row).for_each(|(y, w)| *y += w);
        }
    }
}

/// The sum of columns `c0..c0 + N` of the rows of `w` \[.., n\] that `list` names.
#[inline(always)]
fn sum_rows<const N: usize>(list: &[u32], w: &[f32], n: usize, c0: usize) -> [f32; N] {
    let mut sums = [0.0f32; N];
    for &k in list {
        let at = k as usize * n + c0;
        let row = &w[at..at + N];
        for j in 0..N {
            sums[j] += row[j];
        }
    }
    sums
}

/// Adds to columns `to..to + N` of each row k of `dw` \[.., n_to\] columns `from..from + N` of the rows of `dy` \[.., n\] that
/// `list[starts[k]..starts[k + 1]]` names.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn add_columns<const N: usize>(
    list: &[u32],
    starts: &[usize],
    dy: &[f32],
    n: usize,
    from: usize,
    n_to: usize,
    to: usize,
    dw: &mut [f32],
) {
    for (k, ends) in starts.windows(2).enumerate() {
        let sums = sum_rows::<N>(&list[ends[0]..ends[1]], dy, n, from);
        let at = k * n_to + to;
        dw[at..at + N].iter_mut().zip(&sums).for_each(|(dw, s)| *dw += s);
    }
}

/// [`COLUMNS`] columns from `c0` on of x \[.., n\] next to each other: lines a power of two apart share few sets of the cache.
#[inline(always)]
fn pack(x: &[f32], n: usize, c0: usize, packed: &mut [f32]) {
    for (to, from) in packed.chunks_exact_mut(COLUMNS).zip(x.chunks_exact(n)) {
        to.copy_from_slice(&from[c0..c0 + COLUMNS]);
    }
}

/// Whether this machine has AVX-512.
#[inline(always)]
pub(super) fn wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Rows of split `s` of `splits`.
pub fn split_range(rows: usize, splits: usize, s: usize) -> (usize, usize) {
    let chunk = rows.div_ceil(splits.max(1));
    ((s * chunk).min(rows), ((s + 1) * chunk).min(rows))
}

/// Rows of split `s` of `splits`, in whole units.
fn split_rows(a: &impl Rows, splits: usize, s: usize) -> (usize, usize) {
    let (first, end) = split_range(a.rows() / a.unit().max(1), splits, s);
    (first * a.unit(), end * a.unit())
}

/// dw \[splits, k, n\]: A^T dy \[rows, n\] of packed spikes, each split over its own run of rows.
pub fn weight_product(way: Way, a: &BitMatrix<'_>, dy: &[f32], n: usize, splits: usize, dw: &mut [f32]) {
    if way == Way::Dense {
        return dense_weight(a, dy, n, splits, dw);
    }
    if a.k() * n == 0 {
        return;
    }
    dw.par_chunks_mut(a.k() * n).enumerate().for_each(|(s, dw)| {
        let (first, end) = split_rows(a, splits, s);
        dw.fill(0.0);
        a.walk_weight(first, end, dy, n, dw);
    });
}

/// [`weight_product`] of any matrix, filled in block by block.
pub fn dense_weight(a: &impl Rows, dy: &[f32], n: usize, splits: usize, dw: &mut [f32]) {
    let k = a.k();
    if k * n == 0 {
        return;
    }
    let block = block_rows(k);
    dw.par_chunks_mut(k * n).enumerate().for_each(|(s, dw)| {
        let (first, end) = split_rows(a, splits, s);
        dw.fill(0.0);
        for r in (first..end).step_by(block) {
            let m = block.min(end - r);
            scratch(m * k, |filled| {
                a.fill(r, m, filled);
                gemm(dw, (k, n, m), filled, (1, k), &dy[r * n..], (n, 1), true);
            });
        }
    });
}

/// How many splits a sum over `rows` with a result of `size` elements is cut into: enough to keep processors busy, few enough that the
/// partial results stay small. It depends on the problem alone, so that every device cuts alike.
pub fn splits(rows: usize, size: usize) -> usize {
    // A power of two, of which two or four threads have equal shares.
    let small = (((8 << 20) / size.max(1)).max(2)).ilog2();
    (rows / 512).clamp(1, 16).min(1 << small)
}

/// Fraction of set bits.
pub fn bit_density(bits: &[u32], elements: usize) -> f64 {
    let ones: u64 = bits
        .par_chunks(1 << 14)
        .map(|c| {
            simd(
                #[inline(always)]
                || c.iter().map(|w| u64::from(w.count_ones())).sum::<u64>(),
            )
        })
        .sum();
    ones as f64 / elements.max(1) as f64
}

/// Fraction of the values that are not zero.
pub fn float_density(x: &[f32]) -> f64 {
    let some: u64 = x
        .par_chunks(1 << 14)
        .map(|c| {
            simd(
                #[inline(always)]
                || c.iter().map(|v| u32::from(*v != 0.0)).sum::<u32>(),
            )
        })
        .map(u64::from)
        .sum();
    some as f64 / x.len().max(1) as f64
}

/// Adds the spikes of a row's words to `out` \[c\].
#[inline(always)]
pub fn unpack_row(bits: &[u32], out: &mut [f32], add: bool) {
    // A copy of each word, which `out` cannot be seen to change: bits are else tested one by one.
    for (&w, out) in bits.iter().zip(out.chunks_mut(32)) {
        // Whole words by a loop of known length, which vectorises best.
        if let (false, Ok(out)) = (add, <&mut [f32; 32]>::try_from(&mut *out)) {
            for (i, o) in out.iter_mut().enumerate() {
                *o = keep(1.0, w, i);
            }
            continue;
        }
        for (i, o) in out.iter_mut().enumerate() {
            *o = if add { *o } else { 0.0 } + keep(1.0, w, i);
        }
    }
}

/// Which of the rows of packed spikes a matrix has.
#[derive(Clone, Copy)]
pub enum Pick<'a> {
    /// Each as it is.
    Each,
    /// For each pixel of images of this height and width its nine neighbours, for a 3x3 convolution: k = tap * c + channel.
    Neighbours(usize, usize),
    /// Those with these numbers.
    Listed(&'a [u32]),
}

/// Packed spikes \[planes, rows, words(c)\] as a matrix, planes summed.
pub struct BitMatrix<'a> {
    /// The words.
    pub x: &'a [u32],
    /// Rows of x.
    pub rows: usize,
    /// Channels.
    pub c: usize,
    /// Planes.
    pub planes: usize,
    /// The rows of the matrix.
    pub pick: Pick<'a>,
}

impl BitMatrix<'_> {
    /// Calls `f(tap, source row)`.
    #[inline(always)]
    fn each_tap(&self, row: usize, mut f: impl FnMut(usize, usize)) {
        match self.pick {
            Pick::Each => f(0, row),
            Pick::Neighbours(h, w) => each_tap(row, h, w, f),
            Pick::Listed(list) => f(0, list[row] as usize),
        }
    }
    fn taps(&self) -> usize {
        if matches!(self.pick, Pick::Neighbours(..)) { 9 } else { 1 }
    }
    /// Fraction of set bits of all rows of x, whichever the matrix has (a spike counts once for each plane it is in).
    pub fn density(&self) -> f64 {
        bit_density(self.x, self.rows * self.c)
    }
    /// Writes the column of each spike of a row to `list` and returns how many there are; `list` has room for 32 more than fit a row.
    #[inline(always)]
    pub(super) fn spikes(&self, row: usize, list: &mut [u32]) -> usize {
        let c = self.c;
        let mut len = 0;
        match self.pick {
            Pick::Each => self.list(row, 1, 0, list, &mut len),
            Pick::Listed(rows) => self.list(rows[row] as usize, 1, 0, list, &mut len),
            // Neighbours of one line follow each other in memory and, where words are full, in columns.
            Pick::Neighbours(h, w) => each_line(
                row,
                h,
                w,
                #[inline(always)]
                |tap, source, n| match c % 32 {
                    0 => self.list(source, n, tap * c, list, &mut len),
                    _ => (0..n).for_each(|i| self.list(source + i, 1, (tap + i) * c, list, &mut len)),
                },
            ),
        }
        len
    }
    /// Appends the spikes of `n` rows of x as columns from `first` on to the `len` that `list` has.
    #[inline(always)]
    fn list(&self, source: usize, n: usize, first: usize, list: &mut [u32], len: &mut usize) {
        let nw = words(self.c);
        for q in 0..self.planes {
            let at = (q * self.rows + source) * nw;
            let line = &self.x[at..at + n * nw];
            // Planes behind closed gates are empty, and so are rows of silent places.
            if line.iter().all(|w| *w == 0) {
                continue;
            }
            for (w, &word) in line.iter().enumerate() {
                *len += columns_of(word, (first + w * 32) as u32, &mut list[*len..]);
            }
        }
    }
    /// Adds A^T dy over rows `first..end` to `dw` \[k, n\].
    fn walk_weight(&self, first: usize, end: usize, dy: &[f32], n: usize, dw: &mut [f32]) {
        // Rows of a block: 64 columns of their dy stay in cache, and each sum meets enough spikes to be worth its load and store.
        let block = 256;
        let mut masks = vec![0u32; self.k() * block / 32];
        // Where the rows begin in which each column has spikes.
        let mut starts = vec![0usize; self.k() + 1];
        scratch(self.k() * block + 32 + block * COLUMNS, |s| {
            let (list, packed) = s.split_at_mut(self.k() * block + 32);
            let list: &mut [u32] = bytemuck::cast_slice_mut(list);
            for r in (first..end).step_by(block) {
                let m = block.min(end - r);
                let groups = m.div_ceil(32);
                for q in 0..self.planes {
                    simd(
                        #[inline(always)]
                        || {
                            let (masks, dy) = (&mut masks[..self.k() * groups], &dy[r * n..(r + m) * n]);
                            masks.fill(0);
                            self.masks(q, r, m, groups, masks);
                            let mut len = 0;
                            for (masks, start) in masks.chunks_exact(groups).zip(&mut starts[1..]) {
                                for (g, &mask) in masks.iter().enumerate() {
                                    len += columns_of(mask, 32 * g as u32, &mut list[len..]);
                                }
                                *start = len;
                            }
                            let mut c0 = 0;
                            while n - c0 >= COLUMNS {
                                // As in `product`.
                                if n > COLUMNS && len > 8 * m {
                                    pack(dy, n, c0, packed);
                                    add_columns::<COLUMNS>(list, &starts, packed, COLUMNS, 0, n, c0, dw);
                                } else {
                                    add_columns::<COLUMNS>(list, &starts, dy, n, c0, n, c0, dw);
                                }
                                c0 += COLUMNS;
                            }
                            while n - c0 >= 16 {
                                add_columns::<16>(list, &starts, dy, n, c0, n, c0, dw);
                                c0 += 16;
                            }
                            while n - c0 >= 4 {
                                add_columns::<4>(list, &starts, dy, n, c0, n, c0, dw);
                                c0 += 4;
                            }
                            while n - c0 >= 1 {
                                add_columns::<1>(list, &starts, dy, n, c0, n, c0, dw);
                                c0 += 1;
                            }
                        },
                    );
                }
            }
        });
    }
    /// Masks \[taps * c, groups\] over rows `first..first + n` (32 to a word) of one plane.
    #[inline(always)]
    fn masks(&self, plane: usize, first: usize, n: usize, groups: usize, out: &mut [u32]) {
        let nw = words(self.c);
        let mut sources = [[usize::MAX; 32]; 9];
        for g in 0..groups {
            sources.iter_mut().for_each(|s| s.fill(usize::MAX));
            for i in 0..32.min(n - g * 32) {
                self.each_tap(first + g * 32 + i, |tap, source| sources[tap][i] = plane * self.rows + source);
            }
            for (tap, sources) in sources.iter().enumerate().take(self.taps()) {
                for w in 0..nw {
                    let mut square = [0u32; 32];
                    for (s, &source) in square.iter_mut().zip(sources) {
                        if source != usize::MAX {
                            *s = self.x[source * nw + w];
                        }
                    }
                    transpose(&mut square);
                    for (i, mask) in square.iter().enumerate().take(32.min(self.c - w * 32)) {
                        out[(tap * self.c + w * 32 + i) * groups + g] = *mask;
                    }
                }
            }
        }
    }
}

/// The places of the set bits of each byte, the rest anything.
const PLACES: [[u8; 8]; 256] = {
    let mut table = [[0u8; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut len) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 != 0 {
                table[byte][len] = bit as u8;
                len += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// Writes `first` + the place of each set bit to `list`, which has room for 32, and returns how many there are.
#[inline(always)]
fn columns_of(word: u32, first: u32, list: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if wide() {
        assert!(list.len() >= 32);
        // SAFETY: this machine has AVX-512, and the list room for what is written, 16 places each time.
        return unsafe { compress(word, first, list.as_mut_ptr()) };
    }
    // Eight places a byte whether they are there or not: at low rates a branch for each spike costs more.
    let mut len = 0;
    for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
        let first = first + 8 * i as u32;
        let (places, list) = (&PLACES[usize::from(byte)], &mut list[len..len + 8]);
        for k in 0..8 {
            list[k] = first + u32::from(places[k]);
        }
        len += byte.count_ones() as usize;
    }
    len
}

/// [`columns_of`] by compression: at low rates most of the time of a product goes into it, and this halves it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn compress(word: u32, first: u32, list: *mut u32) -> usize {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_maskz_compress_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_storeu_si512,
    };
    let (low, high) = (word as u16, (word >> 16) as u16);
    let places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let columns = _mm512_add_epi32(places, _mm512_set1_epi32(first as i32));
    let len = low.count_ones() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        _mm512_storeu_si512(list.cast(), _mm512_maskz_compress_epi32(low, columns));
        let columns = _mm512_add_epi32(columns, _mm512_set1_epi32(16));
        _mm512_storeu_si512(list.add(len).cast(), _mm512_maskz_compress_epi32(high, columns));
    }
    len + high.count_ones() as usize
}

/// Transposes a square of 32 x 32 bits: bit j of word i becomes bit i of word j.
#[inline(always)]
pub(super) fn transpose(a: &mut [u32; 32]) {
    let (mut half, mut mask) = (16, 0x0000_ffffu32);
    while half != 0 {
        let mut k = 0;
        while k < 32 {
            for i in k..k + half {
                let t = (a[i] >> half ^ a[i + half]) & mask;
                a[i] ^= t << half;
                a[i + half] ^= t;
            }
            k += 2 * half;
        }
        half >>= 1;
        mask ^= mask << half;
    }
}

impl Rows for BitMatrix<'_> {
    fn rows(&self) -> usize {
        if let Pick::Listed(list) = self.pick { list.len() } else { self.rows }
    }
    fn k(&self) -> usize {
        self.taps() * self.c
    }
    fn unit(&self) -> usize {
        if let Pick::Neighbours(h, w) = self.pick { h * w } else { 1 }
    }
    fn fill(&self, first: usize, n: usize, out: &mut [f32]) {
        let (c, nw) = (self.c, words(self.c));
        simd(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(self.taps() * c).enumerate().take(n) {
                    let mut met = 0;
                    self.each_tap(
                        first + i,
                        #[inline(always)]
                        |tap, source| {
                            let out = &mut out[tap * c..(tap + 1) * c];
                            for q in 0..self.planes {
                                let at = (q * self.rows + source) * nw;
                                unpack_row(&self.x[at..at + nw], out, q > 0);
                            }
                            met |= 1 << tap;
                        },
                    );
                    (0..self.taps()).filter(|tap| met >> tap & 1 == 0).for_each(|tap| out[tap * c..(tap + 1) * c].fill(0.0));
                }
            },
        );
    }
}

/// Calls `f(first tap, first input pixel, pixels)` for each of the three lines around output pixel `i` that lie inside images of h x w.
#[inline(always)]
pub(super) fn each_line(i: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize)) {
    // Divisions of 32 bits take a third of the time of those of 64.
    let (i, h, w) = (i as u32, h as u32, w as u32);
    let (line, x) = (i / w, i % w);
    let y = line % h;
    let (left, right) = (x.saturating_sub(1), (x + 2).min(w));
    let n = (right - left) as usize;
    for ky in 0..3 {
        if y + ky >= 1 && y + ky <= h {
            let tap = 3 * ky + left + 1 - x;
            f(tap as usize, ((line + ky - 1) * w + left) as usize, n);
        }
    }
}

/// Calls `f(tap, input pixel)` for the taps (3 ky + kx) of output pixel `i` that lie inside images of h x w.
#[inline(always)]
pub fn each_tap(i: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize)) {
    let (x, y, base) = (i % w, i / w % h, i / (w * h) * h * w);
    for ky in 0..3 {
        for kx in 0..3 {
            let (yy, xx) = (y + ky, x + kx);
            if yy >= 1 && yy <= h && xx >= 1 && xx <= w {
                f(ky * 3 + kx, base + (yy - 1) * w + xx - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_bits() {
        let mut rng = crate::rng::Rng::new(1);
        let a: [u32; 32] = std::array::from_fn(|_| rng.u32());
        let mut t = a;
        transpose(&mut t);
        for i in 0..32 {
            for j in 0..32 {
                assert_eq!(a[i] >> j & 1, t[j] >> i & 1, "{i} {j}");
            }
        }
    }
}
