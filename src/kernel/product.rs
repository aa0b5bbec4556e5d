//! The CPU side of every product with a weight matrix: linear maps and convolutions, of floats and of packed spikes.
//!
//! All of them are a matrix A \[rows, k\] that is described rather than stored ([`Rows`]) times a dense one. A is either filled into a
//! block in cache and given to `gemm`, or walked: for every nonzero of a row one row of the dense matrix is added. Which of the two
//! depends on how full A is ([`WALK_BELOW`], measured by `spikemix bench crossover`); the results differ only by rounding, and the
//! choice by the data at hand, so that the same input gives the same bits.

use super::bit_matrix::{BitMatrix, Near, columns_of};
use super::par::{Stream, prefetch, scratch};
use super::{simd, simd_counts};
use rayon::prelude::*;

/// Fullness below which a forward product walks the nonzeros.
pub const WALK_BELOW: f64 = 0.4;
/// The same for weight gradients.
pub const WALK_WEIGHT_BELOW: f64 = 0.35;

/// The same on a GPU for a forward product, where each tile of 64 rows decides for itself (`shaders/common/walk.wgsl`, of a convolution
/// `arrivals.wgsl`), and for a weight gradient, where each split does (`walk_weight.wgsl`). On Mesa's llvmpipe the ways cross near 0.4 and 0.1 (`spikemix bench crossover`);
/// counted by instructions and loads from a first-level cache, those of a forward product that walked two columns an invocation should cross
/// near 0.3 on a card; four make it later. None of that has been measured on one.
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
    gemm_strided(c, n, (m, n, k), a, a_strides, b, b_strides, add);
}

/// [`gemm`] into rows `c_stride` apart.
#[allow(clippy::too_many_arguments)]
pub fn gemm_strided(
    c: &mut [f32],
    c_stride: usize,
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    add: bool,
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
            1.0,
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
    // Where a bias is added to it, it is read again at once.
    let len = if bias.is_empty() { y.len() } else { 0 };
    y.par_chunks_mut(block * n).enumerate().for_each(|(i, y)| {
        let out = Stream::new(len);
        let (first, rows) = (i * block, y.len() / n);
        let [room, near] = [a.room(rows), a.room_near(rows)];
        scratch(room + near + k * COLUMNS, |s| {
            let (list, s) = s.split_at_mut(room);
            let (near, packed) = s.split_at_mut(near);
            let list = bytemuck::cast_slice_mut(list);
            // The spikes first, then the sums: tight loops beat one that does both.
            let mut starts = vec![0; rows + 1];
            simd(
                #[inline(always)]
                || {
                    let near = Near::new(a, first..first + rows, bytemuck::cast_slice_mut(near));
                    near.spikes(first, list, &mut starts);
                    // Some columns of w for all rows, where spikes are enough to pay for that.
                    let whole = if n > COLUMNS && starts[rows] > 8 * k { n / COLUMNS * COLUMNS } else { 0 };
                    for c0 in (0..whole).step_by(COLUMNS) {
                        pack(w, n, c0, packed);
                        for (r, ends) in starts.windows(2).enumerate() {
                            // Some columns of each row are written, which lie far apart.
                            let ahead = (r + 8) * n + c0;
                            prefetch(y, ahead, COLUMNS);
                            let y = &mut y[r * n..(r + 1) * n];
                            let sums = sum_rows::<COLUMNS>(&list[ends[0]..ends[1]], packed, COLUMNS, 0);
                            y[c0..c0 + COLUMNS].copy_from_slice(&sums);
                        }
                    }
                    for (y, ends) in y.chunks_exact_mut(n).zip(starts.windows(2)) {
                        add_rows(&list[ends[0]..ends[1]], w, n, whole, &mut y[whole..], &out);
                        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                },
            );
        });
    });
}

/// Terms that `gemm` is given at once. Of more it would take parts whose lengths depend on how many rows and columns there are, and then a
/// row's sums would be rounded by who stands beside it.
const RUN: usize = 512;

/// [`product`] of any matrix, filled in block by block. A row's sums are the same to the bit whatever rows and columns stand beside it.
pub fn dense(a: &impl Rows, w: &[f32], bias: &[f32], y: &mut [f32]) {
    let (k, rows) = (a.k(), a.rows());
    if rows == 0 || y.is_empty() {
        return;
    }
    let n = y.len() / rows;
    let block = block_rows(k);
    y.par_chunks_mut(block * n).enumerate().for_each(|(i, y)| {
        // One row goes as two, for of one `gemm` adds up in another way.
        let given = y.len() / n;
        let m = given.max(2);
        scratch(m * k + if given == 1 { m * n } else { 0 }, |s| {
            let (filled, pair) = s.split_at_mut(m * k);
            a.fill(i * block, given, &mut filled[..given * k]);
            filled[given * k..].fill(0.0);
            let sums = if given == 1 { &mut *pair } else { &mut *y };
            for sums in sums.chunks_exact_mut(n).filter(|_| !bias.is_empty()) {
                sums.copy_from_slice(bias);
            }
            for k0 in (0..k.max(1)).step_by(RUN) {
                let size = (m, n, RUN.min(k - k0));
                gemm(sums, size, &filled[k0..], (k, 1), &w[k0 * n..], (n, 1), !bias.is_empty() || k0 > 0);
            }
            if given == 1 {
                y.copy_from_slice(&pair[..n]);
            }
        });
    });
}

/// y = the columns from `first` on of the sum of the rows of `w`, `n` apart, that `list` names, in blocks whose sums stay in registers.
#[inline(always)]
pub(super) fn add_rows(list: &[u32], w: &[f32], n: usize, first: usize, y: &mut [f32], out: &Stream) {
    let mut c0 = 0;
    // 32 registers of 16 floats hold 128 sums with ease, 16 of 8 floats 64.
    while wide() && y.len() - c0 >= 128 {
        out.write(&mut y[c0..c0 + 128], &sum_rows::<128>(list, w, n, first + c0));
        c0 += 128;
    }
    while y.len() - c0 >= 64 {
        out.write(&mut y[c0..c0 + 64], &sum_rows::<64>(list, w, n, first + c0));
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
            let row = &w[k as usize * n + at..][..y.len()];
            y.iter_mut().zip(row).for_each(|(y, w)| *y += w);
        }
    }
}

/// y = `scale` times the sum of the rows of `w`, `n` apart, of the bits that are set in `words`; `list` has room for all of them and 32 more.
#[inline(always)]
pub(super) fn add_spikes(words: impl Iterator<Item = u32>, list: &mut [u32], w: &[f32], n: usize, scale: f32, y: &mut [f32]) {
    let mut len = 0;
    for (i, word) in words.enumerate() {
        len += columns_of(&[word], 32 * i as u32, &mut list[len..]);
    }
    add_rows(&list[..len], w, n, 0, y, &Stream::new(0));
    if scale != 1.0 {
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

/// The sum of columns `c0..c0 + N` of the rows of `w` \[.., n\] that `list` names.
#[inline(always)]
fn sum_rows<const N: usize>(list: &[u32], w: &[f32], n: usize, c0: usize) -> [f32; N] {
    let mut sums = [0.0f32; N];
    if list.is_empty() {
        return sums;
    }
    assert!(w.len() >= N);
    // One comparison a row, of a loop that is all that a walk does.
    let last = w.len() - N;
    for &k in list {
        let at = k as usize * n + c0;
        assert!(at <= last);
        // SAFETY: N floats lie behind it.
        let row = unsafe { &*w.as_ptr().add(at).cast::<[f32; N]>() };
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
        walk_weight(a, first, end, dy, n, dw);
    });
}

/// Adds A^T dy over rows `first..end` to `dw` \[k, n\].
fn walk_weight(a: &BitMatrix<'_>, first: usize, end: usize, dy: &[f32], n: usize, dw: &mut [f32]) {
    // Rows of a block: 64 columns of their dy stay in cache, and each sum meets enough spikes to be worth its load and store.
    let block = 256;
    let mut masks = vec![0u32; a.k() * block / 32];
    // Where the rows begin in which each column has spikes.
    let mut starts = vec![0usize; a.k() + 1];
    scratch(a.k() * block + 32 + block * COLUMNS, |s| {
        let (list, packed) = s.split_at_mut(a.k() * block + 32);
        let list: &mut [u32] = bytemuck::cast_slice_mut(list);
        for r in (first..end).step_by(block) {
            let m = block.min(end - r);
            let groups = m.div_ceil(32);
            for q in 0..a.planes {
                simd(
                    #[inline(always)]
                    || {
                        let (masks, dy) = (&mut masks[..a.k() * groups], &dy[r * n..(r + m) * n]);
                        masks.fill(0);
                        a.masks(q, r, m, groups, masks);
                        let mut len = 0;
                        for (masks, start) in masks.chunks_exact(groups).zip(&mut starts[1..]) {
                            for (g, masks) in masks.chunks(2).enumerate() {
                                len += columns_of(masks, 64 * g as u32, &mut list[len..]);
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
            simd_counts(
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
