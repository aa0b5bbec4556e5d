//! Products of attention: small matrices, one for each step, sample and head, between packed spikes and floats in any arrangement.
//!
//! Tokens `[groups, N, heads x d]` are seen as one \[N, d\] matrix for each group (T x B) and head, transposed or not, by strides alone;
//! so K^T V, Q (K^T V), Q K^T and every gradient of theirs is this one kernel.

use super::bit_matrix::transpose;
use super::product::{WALK_BELOW, Way, add_spikes, gemm_strided};
use super::{Access, Args, Case, Data, Gen, Kernel, Tolerance, simd, simd_counts, words};
use crate::uniform;
use rayon::prelude::*;
use std::cell::RefCell;

uniform! {
    /// Uniform of [`Product`]; strides in elements, where a word of packed spikes counts as 32.
    pub struct ProductU {
        /// T x B.
        groups: u32,
        /// Heads.
        heads: u32,
        /// Rows of y.
        m: u32,
        /// Columns of y.
        n: u32,
        /// Length of the sums.
        k: u32,
        /// Whether A is packed spikes.
        a_bits: u32,
        /// Whether B is packed spikes.
        b_bits: u32,
        /// A: from group to group.
        a_group: u32,
        /// A: from head to head.
        a_head: u32,
        /// A: from row to row.
        a_row: u32,
        /// A: from column to column.
        a_col: u32,
        /// B: from group to group.
        b_group: u32,
        /// B: from head to head.
        b_head: u32,
        /// B: from row to row.
        b_row: u32,
        /// B: from column to column.
        b_col: u32,
        /// y: from group to group.
        y_group: u32,
        /// y: from head to head.
        y_head: u32,
        /// y: from row to row (columns are neighbours).
        y_row: u32,
        /// Factor of the result.
        scale: f32
    }
}

impl ProductU {
    /// K^T V of one group and head, of packed spikes k \[tokens, dk\] and v \[tokens, dv\].
    pub fn key_value(tokens: u32, dk: u32, dv: u32) -> Self {
        let [k_pitch, v_pitch] = [dk, dv].map(|c| 32 * words(c as usize) as u32);
        ProductU {
            groups: 1,
            heads: 1,
            m: dk,
            n: dv,
            k: tokens,
            a_bits: 1,
            b_bits: 1,
            a_group: 0,
            a_head: 0,
            a_row: 1,
            a_col: k_pitch,
            b_group: 0,
            b_head: 0,
            b_row: v_pitch,
            b_col: 1,
            y_group: dk * dv,
            y_head: 0,
            y_row: dv,
            scale: 1.0,
        }
    }
}

/// a (floats), a_spikes, b (floats), b_spikes -> y = scale A B. Of each operand one of the two buffers is used, the other may be empty.
pub struct Product;

thread_local! {
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
    static PACKED: RefCell<[Vec<u32>; 2]> = RefCell::default();
}

/// The 32 bits from element `e` on; what lies behind the buffer is zero.
#[inline(always)]
fn word_at(bits: &[u32], e: usize) -> u32 {
    let low = bits.get(e / 32).copied().unwrap_or(0);
    match e % 32 {
        0 => low,
        shift => low >> shift | bits.get(e / 32 + 1).copied().unwrap_or(0) << (32 - shift),
    }
}

/// Packs the \[rows, k\] matrix of bits at element `start` along k: `out` \[words(k), rows\]. One of the strides (row, column) is 1.
#[inline(always)]
fn pack_along_k(bits: &[u32], start: usize, (rows, k): (usize, usize), strides: (usize, usize), out: &mut Vec<u32>) {
    out.clear();
    out.resize(words(k) * rows, 0);
    for (w, out) in out.chunks_exact_mut(rows).enumerate() {
        let n = 32.min(k - w * 32);
        if strides.1 == 1 {
            for (r, out) in out.iter_mut().enumerate() {
                *out = word_at(bits, start + r * strides.0 + w * 32) & u32::MAX >> (32 - n);
            }
            continue;
        }
        for (q, out) in out.chunks_mut(32).enumerate() {
            let mut square = [0; 32];
            for (i, line) in square.iter_mut().enumerate().take(n) {
                *line = word_at(bits, start + (w * 32 + i) * strides.1 + q * 32);
            }
            transpose(&mut square);
            out.copy_from_slice(&square[..out.len()]);
        }
    }
}

/// How many bits row `i` of a and each row of b share, times `scale`; both are packed along k.
#[inline(always)]
fn count_shared(a: &[u32], m: usize, i: usize, b: &[u32], n: usize, scale: f32, y: &mut [f32]) {
    y.fill(0.0);
    // Word by word, along y: the longest loops. Floats hold every count up to 2^24.
    for (a, b) in a.iter().skip(i).step_by(m).zip(b.chunks_exact(n)) {
        y.iter_mut().zip(b).for_each(|(y, b)| *y += (a & b).count_ones() as i32 as f32);
    }
    if scale != 1.0 {
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

/// y = scale A B, rows of y `y_row` apart, of packed spikes a \[m, k\], packed along k, and floats b, rows `b_row` apart: for each spike a
/// row of b is added. Returns false, and leaves y as it is, where the product of the spikes as floats is faster.
#[inline(always)]
fn walk(a: &[u32], (m, n, k): (usize, usize, usize), b: &[f32], b_row: usize, scale: f32, y: &mut [f32], y_row: usize) -> bool {
    let ones: usize = a.iter().map(|w| w.count_ones() as usize).sum();
    if Way::of(ones as f64 / (m * k).max(1) as f64, WALK_BELOW) == Way::Dense {
        return false;
    }
    let mut list = vec![0; words(k) * 32 + 32];
    for i in 0..m {
        add_spikes(a.iter().skip(i).step_by(m).copied(), &mut list, b, b_row, scale, &mut y[i * y_row..i * y_row + n]);
    }
    true
}

/// Unpacks the \[rows, cols\] matrix at element `start` whose columns are neighbours, into `out` \[rows, cols\].
#[inline(always)]
fn unpack(bits: &[u32], start: usize, row_stride: usize, rows: usize, cols: usize, out: &mut Vec<f32>) {
    out.resize((rows * cols).max(out.len()), 0.0);
    for (r, out) in out[..rows * cols].chunks_exact_mut(cols).enumerate() {
        let first = start + r * row_stride;
        for (q, out) in out.chunks_mut(32).enumerate() {
            let e = first + q * 32;
            let shift = e % 32;
            let mut word = bits[e / 32] >> shift;
            if shift > 0 && shift + out.len() > 32 {
                word |= bits[e / 32 + 1] << (32 - shift);
            }
            for (i, o) in out.iter_mut().enumerate() {
                *o = (word >> i & 1) as f32;
            }
        }
    }
}

/// An operand as floats with its strides (row, column): as it lies, or unpacked into `scratch`.
fn operand<'a>(
    floats: &'a [f32],
    bits: &[u32],
    is_bits: bool,
    start: usize,
    (rows, cols): (usize, usize),
    strides: (usize, usize),
    scratch: &'a mut Vec<f32>,
) -> (&'a [f32], (usize, usize)) {
    if !is_bits {
        return (&floats[start..], strides);
    }
    simd(
        #[inline(always)]
        || {
            if strides.1 == 1 {
                unpack(bits, start, strides.0, rows, cols, scratch);
            } else {
                unpack(bits, start, strides.1, cols, rows, scratch);
            }
        },
    );
    (scratch, if strides.1 == 1 { (cols, 1) } else { (1, rows) })
}

impl Product {
    /// Spikes times spikes: coincidences, counted 32 at a time.
    pub(super) fn count(u: &ProductU, a: &[u32], b: &[u32], y: &mut [f32]) {
        let (m, n, k) = (u.m as usize, u.n as usize, u.k as usize);
        let row = u.y_row as usize;
        y.par_chunks_mut((u.y_group as usize).max(1)).take(u.groups as usize).enumerate().for_each(|(i, y)| {
            PACKED.with_borrow_mut(|[pa, pb]| {
                for h in 0..u.heads as usize {
                    let start = |group: u32, head: u32| i * group as usize + h * head as usize;
                    let y = &mut y[h * u.y_head as usize..];
                    simd_counts(
                        #[inline(always)]
                        || {
                            let strides = (u.a_row as usize, u.a_col as usize);
                            pack_along_k(a, start(u.a_group, u.a_head), (m, k), strides, pa);
                            // Keys that nobody asks for.
                            if pa.iter().all(|w| *w == 0) {
                                return (0..m).for_each(|i| y[i * row..i * row + n].fill(0.0));
                            }
                            // Rows of b's transpose.
                            let strides = (u.b_col as usize, u.b_row as usize);
                            pack_along_k(b, start(u.b_group, u.b_head), (n, k), strides, pb);
                            for i in 0..m {
                                count_shared(pa, m, i, pb, n, u.scale, &mut y[i * row..i * row + n]);
                            }
                        },
                    );
                }
            });
        });
    }
}

impl Kernel for Product {
    type Uniform = ProductU;
    fn name(&self) -> &'static str {
        "attention/product"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/attention/product.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[
            ("a", Access::ReadF32),
            ("a_spikes", Access::ReadU32),
            ("b", Access::ReadF32),
            ("b_spikes", Access::ReadU32),
            ("y", Access::WriteF32),
        ]
    }
    fn threads(&self, u: &ProductU) -> usize {
        // Tiles of 32 x 32 results, a workgroup each.
        [u.groups, u.heads, u.m.div_ceil(32), u.n.div_ceil(32), 64].iter().map(|&v| v as usize).product()
    }
    fn cpu(&self, u: &ProductU, args: &mut Args<'_>) {
        let (a, a_spikes, b, b_spikes, y) = (args.f32(0), args.u32(1), args.f32(2), args.u32(3), args.out_f32(0));
        let (m, n, k) = (u.m as usize, u.n as usize, u.k as usize);
        if u.a_bits != 0 && u.b_bits != 0 && m * n != 0 {
            return Self::count(u, a_spikes, b_spikes, y);
        }
        let at = |group: u32, head: u32, i: usize, h: usize| i * group as usize + h * head as usize;
        y.par_chunks_mut((u.y_group as usize).max(1)).take(u.groups as usize).enumerate().for_each(|(i, y)| {
            SCRATCH.with_borrow_mut(|(sa, sb)| {
                for h in 0..u.heads as usize {
                    let (a_at, b_at) = (at(u.a_group, u.a_head, i, h), at(u.b_group, u.b_head, i, h));
                    let strides = (u.a_row as usize, u.a_col as usize);
                    let y = &mut y[h * u.y_head as usize..];
                    if u.a_bits != 0 && u.b_col == 1 && m * n != 0 {
                        let walked = PACKED.with_borrow_mut(|[pa, _]| {
                            simd(
                                #[inline(always)]
                                || {
                                    pack_along_k(a_spikes, a_at, (m, k), strides, pa);
                                    walk(pa, (m, n, k), &b[b_at..], u.b_row as usize, u.scale, y, u.y_row as usize)
                                },
                            )
                        });
                        if walked {
                            continue;
                        }
                    }
                    let (a, a_strides) = operand(a, a_spikes, u.a_bits != 0, a_at, (m, k), strides, sa);
                    let strides = (u.b_row as usize, u.b_col as usize);
                    let (b, b_strides) = operand(b, b_spikes, u.b_bits != 0, b_at, (k, n), strides, sb);
                    gemm_strided(y, u.y_row as usize, (m, n, k), a, a_strides, b, b_strides, false);
                    // Behind the sums, as the ways that walk have it.
                    for y in y.chunks_mut((u.y_row as usize).max(1)).take(if u.scale == 1.0 { 0 } else { m }) {
                        y[..n].iter_mut().for_each(|y| *y *= u.scale);
                    }
                }
            });
        });
    }
    fn cases(&self) -> Vec<Case<ProductU>> {
        let mut g = Gen::new("attention/product");
        let mut out = Vec::new();
        let sizes = [
            (2, 1, 3, 5, 7, 0.3),
            (3, 2, 20, 16, 9, 0.3),
            (3, 2, 20, 16, 9, 0.7),
            (1, 3, 40, 33, 64, 0.3),
            (1, 3, 40, 33, 64, 0.7),
            (0, 1, 2, 2, 2, 0.3),
        ];
        for (groups, heads, m, n, k, rate) in sizes {
            for (a_bits, b_bits, ta, tb) in [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 0), (0, 1, 1, 1), (1, 1, 0, 1), (1, 0, 1, 0)] {
                // Token layout: rows of `heads * d` channels, packed rows padded to words.
                let layout = |rows: u32, cols: u32, t: u32, bits: u32| {
                    let (tokens, d) = if t != 0 { (cols, rows) } else { (rows, cols) };
                    let pitch = if bits != 0 { words((heads * d) as usize) as u32 * 32 } else { heads * d };
                    let strides = if t != 0 { (1, pitch) } else { (pitch, 1) };
                    (tokens, d, tokens * pitch, strides)
                };
                let (at, ad, a_group, a_strides) = layout(m, k, ta, a_bits);
                let (bt, bd, b_group, b_strides) = layout(k, n, tb, b_bits);
                let u = ProductU {
                    groups,
                    heads,
                    m,
                    n,
                    k,
                    a_bits,
                    b_bits,
                    a_group,
                    a_head: ad,
                    a_row: a_strides.0,
                    a_col: a_strides.1,
                    b_group,
                    b_head: bd,
                    b_row: b_strides.0,
                    b_col: b_strides.1,
                    y_group: m * heads * n,
                    y_head: n,
                    y_row: heads * n,
                    scale: 0.25,
                };
                let mut data = |bits: u32, tokens: u32, d: u32| {
                    let rows = (groups * tokens) as usize;
                    let c = (heads * d) as usize;
                    match bits {
                        0 => (g.dyadic(rows * c), Data::U32(Vec::new())),
                        _ => (Data::F32(Vec::new()), g.bits(rows, c, rate)),
                    }
                };
                let ((a, asp), (b, bsp)) = (data(a_bits, at, ad), data(b_bits, bt, bd));
                let name =
                    format!("{groups} x {heads} x [{m}, {k}] x [{k}, {n}], bits {a_bits}{b_bits} at {rate} transposed {ta}{tb}");
                out.push(Case::new(name, u, vec![a, asp, b, bsp], vec![(groups * u.y_group) as usize]).exact());
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}
