//! The CPU side of every product with a weight matrix: linear maps and convolutions, of floats and of packed spikes.
//!
//! All of them are a matrix A \[rows, k\] that is described rather than stored ([`Rows`]) times a dense one. A is either filled into a
//! block in cache and given to `gemm`, or walked: for every nonzero of a row one row of the dense matrix is added. Which of the two
//! depends on how full A is ([`WALK_BELOW`], measured by `spikemix bench crossover`); the results differ only by rounding, and the
//! choice by the data at hand, so that the same input gives the same bits.

use super::{simd, words};
use rayon::prelude::*;
use std::cell::RefCell;

/// Fullness below which a forward product walks the nonzeros.
pub const WALK_BELOW: f64 = 0.25;
/// The same for weight gradients, whose sums live in memory instead of registers.
pub const WALK_WEIGHT_BELOW: f64 = 0.12;

/// A matrix \[rows, k\] that can be filled in or walked.
pub trait Rows: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Length of a row.
    fn k(&self) -> usize;
    /// Fraction of nonzeros (a spike counts once for each plane it is in).
    fn density(&self) -> f64;
    /// Writes rows `first..first + n` into `out` \[n, k\].
    fn fill(&self, first: usize, n: usize, out: &mut [f32]);
    /// Appends the column and value of each nonzero of a row.
    fn nonzeros(&self, row: usize, out: &mut Vec<(u32, f32)>);
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
    // SAFETY: the assertion keeps every access inside the three slices, and `c` is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_stride as isize,
            add,
            a.as_ptr(),
            a_strides.1 as isize,
            a_strides.0 as isize,
            b.as_ptr(),
            b_strides.1 as isize,
            b_strides.0 as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[derive(Default)]
struct Scratch {
    block: Vec<f32>,
    list: Vec<(u32, f32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows of a block: what keeps \[block, k\] floats within half of a second-level cache of 1 MiB.
fn block_rows(k: usize) -> usize {
    ((1 << 17) / k.max(1) / 16 * 16).clamp(16, 512)
}

/// y \[rows, n\] = A w \[k, n\] (+ bias \[n\] where it is not empty).
pub fn product(a: &dyn Rows, w: &[f32], bias: &[f32], y: &mut [f32]) {
    let (k, rows) = (a.k(), a.rows());
    if rows == 0 || y.is_empty() {
        return;
    }
    let n = y.len() / rows;
    let block = block_rows(k);
    let walk = a.density() < WALK_BELOW;
    y.par_chunks_mut(block * n).enumerate().for_each(|(i, y)| {
        SCRATCH.with_borrow_mut(|s| {
            let m = y.len() / n;
            if walk {
                for (r, y) in y.chunks_exact_mut(n).enumerate() {
                    s.list.clear();
                    a.nonzeros(i * block + r, &mut s.list);
                    simd(
                        #[inline(always)]
                        || add_rows(&s.list, w, bias, y),
                    );
                }
            } else {
                s.block.resize((block * k).max(s.block.len()), 0.0);
                let block_data = &mut s.block[..m * k];
                a.fill(i * block, m, block_data);
                for y in y.chunks_exact_mut(n).filter(|_| !bias.is_empty()) {
                    y.copy_from_slice(bias);
                }
                gemm(y, (m, n, k), block_data, (k, 1), w, (n, 1), !bias.is_empty());
            }
        });
    });
}

/// y = bias + the rows of `w` that `list` names, each times its value; columns in blocks that stay in registers.
#[inline(always)]
fn add_rows(list: &[(u32, f32)], w: &[f32], bias: &[f32], y: &mut [f32]) {
    let n = y.len();
    let mut c0 = 0;
    while n - c0 >= 128 {
        add_block::<128>(list, w, n, c0, bias, y);
        c0 += 128;
    }
    while n - c0 >= 32 {
        add_block::<32>(list, w, n, c0, bias, y);
        c0 += 32;
    }
    if c0 < n {
        let y = &mut y[c0..];
        y.fill(0.0);
        for &(k, v) in list {
            let row = &w[k as usize * n + c0..(k as usize + 1) * n];
            y.iter_mut().zip(row).for_each(|(y, w)| *y += v * w);
        }
        y.iter_mut().zip(bias.get(c0..).unwrap_or(&[])).for_each(|(y, b)| *y += b);
    }
}

#[inline(always)]
fn add_block<const N: usize>(list: &[(u32, f32)], w: &[f32], n: usize, c0: usize, bias: &[f32], y: &mut [f32]) {
    let mut acc = [0.0f32; N];
    for &(k, v) in list {
        let at = k as usize * n + c0;
        let row = &w[at..at + N];
        for j in 0..N {
            acc[j] += v * row[j];
        }
    }
    let y = &mut y[c0..c0 + N];
    if bias.is_empty() {
        y.copy_from_slice(&acc);
    } else {
        let bias = &bias[c0..c0 + N];
        for j in 0..N {
            y[j] = acc[j] + bias[j];
        }
    }
}

/// Rows of split `s` of `splits`.
pub fn split_range(rows: usize, splits: usize, s: usize) -> (usize, usize) {
    let chunk = rows.div_ceil(splits.max(1));
    ((s * chunk).min(rows), ((s + 1) * chunk).min(rows))
}

/// dw \[splits, k, n\]: A^T dy \[rows, n\], each split over its own run of rows.
pub fn weight_product(a: &dyn Rows, dy: &[f32], n: usize, splits: usize, dw: &mut [f32]) {
    let (k, rows) = (a.k(), a.rows());
    if k == 0 || n == 0 {
        return;
    }
    let walk = a.density() < WALK_WEIGHT_BELOW;
    let block = block_rows(k);
    dw.par_chunks_mut(k * n).enumerate().for_each(|(s, dw)| {
        let (first, end) = split_range(rows, splits, s);
        dw.fill(0.0);
        SCRATCH.with_borrow_mut(|s| {
            if walk {
                for r in first..end {
                    s.list.clear();
                    a.nonzeros(r, &mut s.list);
                    let dy = &dy[r * n..(r + 1) * n];
                    simd(
                        #[inline(always)]
                        || {
                            for &(k, v) in &s.list {
                                let dw = &mut dw[k as usize * n..(k as usize + 1) * n];
                                dw.iter_mut().zip(dy).for_each(|(w, d)| *w += v * d);
                            }
                        },
                    );
                }
            } else {
                s.block.resize((block * k).max(s.block.len()), 0.0);
                for r in (first..end).step_by(block) {
                    let m = block.min(end - r);
                    let block_data = &mut s.block[..m * k];
                    a.fill(r, m, block_data);
                    gemm(dw, (k, n, m), block_data, (1, k), &dy[r * n..], (n, 1), true);
                }
            }
        });
    });
}

/// How many splits a sum over `rows` with a result of `size` elements is cut into: enough to keep processors busy, few enough that the
/// partial results stay small. It depends on the problem alone, so that every device cuts alike.
pub fn splits(rows: usize, size: usize) -> usize {
    (rows / 512).clamp(1, 16).min(((8 << 20) / size.max(1)).max(2))
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

/// Adds the spikes of a row's words to `out` \[c\].
#[inline(always)]
pub fn unpack_row(bits: &[u32], out: &mut [f32], add: bool) {
    for (w, out) in bits.iter().zip(out.chunks_mut(32)) {
        // Whole words by a loop of known length, which vectorises best.
        if let (false, Ok(out)) = (add, <&mut [f32; 32]>::try_from(&mut *out)) {
            for (i, o) in out.iter_mut().enumerate() {
                *o = (w >> i & 1) as f32;
            }
            continue;
        }
        for (i, o) in out.iter_mut().enumerate() {
            *o = if add { *o } else { 0.0 } + (w >> i & 1) as f32;
        }
    }
}

/// Calls `f` with each set bit of a row.
#[inline(always)]
pub fn each_bit(bits: &[u32], mut f: impl FnMut(usize)) {
    for (w, &word) in bits.iter().enumerate() {
        let mut word = word;
        while word != 0 {
            f(w * 32 + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

/// Packed spikes as a matrix \[rows, c\], planes summed.
pub struct BitRows<'a> {
    /// \[planes, rows, words(c)\]
    pub x: &'a [u32],
    /// Rows.
    pub rows: usize,
    /// Channels.
    pub c: usize,
    /// Planes.
    pub planes: usize,
}

impl Rows for BitRows<'_> {
    fn rows(&self) -> usize {
        self.rows
    }
    fn k(&self) -> usize {
        self.c
    }
    fn density(&self) -> f64 {
        bit_density(self.x, self.rows * self.c)
    }
    fn fill(&self, first: usize, n: usize, out: &mut [f32]) {
        let w = words(self.c);
        simd(
            #[inline(always)]
            || {
                for p in 0..self.planes {
                    let x = &self.x[(p * self.rows + first) * w..(p * self.rows + first + n) * w];
                    x.chunks_exact(w).zip(out.chunks_exact_mut(self.c)).for_each(|(x, out)| unpack_row(x, out, p > 0));
                }
            },
        );
    }
    fn nonzeros(&self, row: usize, out: &mut Vec<(u32, f32)>) {
        let w = words(self.c);
        for p in 0..self.planes {
            each_bit(&self.x[(p * self.rows + row) * w..(p * self.rows + row + 1) * w], |k| out.push((k as u32, 1.0)));
        }
    }
}
