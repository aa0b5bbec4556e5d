//! Linear maps: products of floats, and products with packed spikes.

use super::bit_matrix::{BitMatrix, Pick};
use super::product::{WALK_BELOW, WALK_WEIGHT_BELOW, Way, gemm, gpu_walk_below, product, split_range, weight_product};
use super::{Access, Args, Case, Data, Gen, Kernel, Tolerance};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Dense`].
    pub struct DenseU {
        /// Rows of y.
        m: u32,
        /// Length of the sums.
        k: u32,
        /// Columns of y.
        n: u32,
        /// Whether A is stored transposed, \[k, m\].
        ta: u32,
        /// Whether B is stored transposed, \[n, k\].
        tb: u32,
        /// Whether `bias` is added (with one split only).
        has_bias: u32,
        /// Runs of k that are summed apart.
        splits: u32
    }
}

/// a, b, bias\[n\] (or empty) -> y\[splits, m, n\] = A B + bias.
pub struct Dense;

impl Kernel for Dense {
    type Uniform = DenseU;
    fn name(&self) -> &'static str {
        "matmul/dense"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/matmul/dense.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("a", Access::ReadF32), ("b", Access::ReadF32), ("bias", Access::ReadF32), ("y", Access::WriteF32)]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &DenseU) -> usize {
        tiles(u.m, u.n, u.splits)
    }
    fn cpu(&self, u: &DenseU, args: &mut Args<'_>) {
        let (a, b, bias, y) = (args.f32(0), args.f32(1), args.f32(2), args.out_f32(0));
        let (m, k, n, splits) = (u.m as usize, u.k as usize, u.n as usize, u.splits as usize);
        if m * n == 0 {
            return;
        }
        let sa = if u.ta != 0 { (1, m) } else { (k, 1) };
        let sb = if u.tb != 0 { (1, k) } else { (n, 1) };
        const ROWS: usize = 128;
        // Turned round once, or `gemm` would do it anew for each block.
        let mut turned = Vec::new();
        if u.tb != 0 && m > ROWS {
            turned.resize(k * n, 0.0);
            transpose(b, n, k, &mut turned);
        }
        let (b, sb) = if turned.is_empty() { (b, sb) } else { (&turned[..], (n, 1)) };
        let blocks = m.div_ceil(ROWS);
        y.par_chunks_mut(m * n).enumerate().for_each(|(s, y)| {
            let (k0, k1) = split_range(k, splits, s);
            y.par_chunks_mut(ROWS * n).enumerate().take(blocks).for_each(|(i, y)| {
                let rows = y.len() / n;
                for y in y.chunks_exact_mut(n).filter(|_| u.has_bias != 0) {
                    y.copy_from_slice(bias);
                }
                // An empty sum starts past the end of the matrices.
                let a = a.get(i * ROWS * sa.0 + k0 * sa.1..).unwrap_or(&[]);
                gemm(y, (rows, n, k1 - k0), a, sa, b.get(k0 * sb.0..).unwrap_or(&[]), sb, u.has_bias != 0);
            });
        });
    }
    fn cases(&self) -> Vec<Case<DenseU>> {
        let mut g = Gen::new("matmul/dense");
        let mut out = Vec::new();
        for (m, k, n, ta, tb, bias, splits) in [
            (5, 7, 3, 0, 0, 1, 1),
            (65, 33, 70, 0, 1, 0, 1),
            (64, 16, 64, 1, 0, 0, 1),
            (10, 700, 9, 1, 0, 0, 3),
            (3, 5, 4, 1, 1, 1, 1),
            (0, 4, 4, 0, 0, 0, 1),
            (4, 0, 4, 0, 0, 1, 1),
            (4, 2, 5, 0, 0, 0, 4),
        ] {
            let u = DenseU { m, k, n, ta, tb, has_bias: bias, splits };
            let (a, b, y) = ((m * k) as usize, (k * n) as usize, (splits * m * n) as usize);
            let bias = if bias != 0 { n as usize } else { 0 };
            let name = format!("[{m}, {k}] x [{k}, {n}], ta {ta} tb {tb} splits {splits}");
            out.push(Case::new(format!("{name}, dyadic"), u, vec![g.dyadic(a), g.dyadic(b), g.dyadic(bias)], vec![y]).exact());
            out.push(Case::new(name, u, vec![g.f32s(a), g.f32s(b), g.f32s(bias)], vec![y]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

/// x\[rows, columns\] -> y\[columns, rows\].
pub(super) fn transpose(x: &[f32], rows: usize, columns: usize, y: &mut [f32]) {
    // Squares of 16: their lines stay in the first-level cache.
    const SIDE: usize = 16;
    y.par_chunks_mut((SIDE * rows).max(1)).enumerate().for_each(|(i, y)| {
        for r0 in (0..rows).step_by(SIDE) {
            for (c, y) in y.chunks_exact_mut(rows).enumerate() {
                for r in r0..(r0 + SIDE).min(rows) {
                    y[r] = x[r * columns + i * SIDE + c];
                }
            }
        }
    });
}

/// Invocations of a tiled product (`shaders/common/product.wgsl`).
pub fn tiles(m: u32, n: u32, splits: u32) -> usize {
    m.div_ceil(64) as usize * n.div_ceil(64) as usize * splits as usize * 256
}

uniform! {
    /// Uniform of [`Bits`] and [`BitsWeight`].
    pub struct BitsU {
        /// Rows.
        rows: u32,
        /// Planes of spikes.
        planes: u32,
        /// Input channels.
        cin: u32,
        /// Output channels.
        cout: u32,
        /// Whether `bias` is added.
        has_bias: u32,
        /// Runs of rows that a weight gradient sums apart.
        splits: u32
    }
}

fn bit_rows<'a>(u: &BitsU, x: &'a [u32]) -> BitMatrix<'a> {
    BitMatrix { x, rows: u.rows as usize, c: u.cin as usize, planes: u.planes as usize, pick: Pick::Each }
}

/// x bits\[planes, rows, cin\], w\[cin, cout\], bias\[cout\] (or empty) -> y\[rows, cout\].
pub struct Bits;

impl Kernel for Bits {
    type Uniform = BitsU;
    fn name(&self) -> &'static str {
        "matmul/bits"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/matmul/bits.wgsl")
    }
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        gpu_walk_below(false)
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("x", Access::ReadU32), ("w", Access::ReadF32), ("bias", Access::ReadF32), ("y", Access::WriteF32)]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &BitsU) -> usize {
        tiles(u.rows, u.cout, 1)
    }
    fn cpu(&self, u: &BitsU, args: &mut Args<'_>) {
        let x = bit_rows(u, args.u32(0));
        product(Way::of(x.density(), WALK_BELOW), &x, args.f32(1), args.f32(2), args.out_f32(0));
    }
    fn cases(&self) -> Vec<Case<BitsU>> {
        let mut g = Gen::new("matmul/bits");
        let mut out = Vec::new();
        for (name, u, x) in shapes(&mut g) {
            let (w, bias) = ((u.cin * u.cout) as usize, (u.cout * u.has_bias) as usize);
            let y = (u.rows * u.cout) as usize;
            out.push(Case::new(format!("{name}, dyadic"), u, vec![x.clone(), g.dyadic(w), g.dyadic(bias)], vec![y]).exact());
            out.push(Case::new(name, u, vec![x, g.f32s(w), g.f32s(bias)], vec![y]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

fn shapes(g: &mut Gen) -> Vec<(String, BitsU, Data)> {
    let mut out = Vec::new();
    for (rows, planes, cin, cout, rate, has_bias, splits) in [
        (3, 1, 5, 7, 0.5, 1, 1),
        (70, 2, 64, 130, 0.05, 0, 2),
        (70, 1, 33, 40, 0.03, 1, 3),
        (33, 3, 100, 65, 0.4, 0, 1),
        (40, 1, 40, 420, 0.04, 1, 2),
        (4, 1, 32, 1, 0.0, 1, 8),
        (0, 1, 32, 8, 0.5, 0, 1),
    ] {
        let u = BitsU { rows, planes, cin, cout, has_bias, splits };
        let x = g.bits((planes * rows) as usize, cin as usize, rate);
        out.push((format!("{planes} x [{rows}, {cin}] at {rate} to {cout}, splits {splits}"), u, x));
    }
    out
}

/// x bits\[planes, rows, cin\], dy\[rows, cout\] -> dw\[splits, cin, cout\].
pub struct BitsWeight;

impl Kernel for BitsWeight {
    type Uniform = BitsU;
    fn name(&self) -> &'static str {
        "matmul/bits_weight"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/matmul/bits_weight.wgsl")
    }
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        gpu_walk_below(true)
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("x", Access::ReadU32), ("dy", Access::ReadF32), ("dw", Access::WriteF32)]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &BitsU) -> usize {
        tiles(u.cin, u.cout, u.splits)
    }
    fn cpu(&self, u: &BitsU, args: &mut Args<'_>) {
        let x = bit_rows(u, args.u32(0));
        let way = Way::of(x.density(), WALK_WEIGHT_BELOW);
        weight_product(way, &x, args.f32(1), u.cout as usize, u.splits as usize, args.out_f32(0));
    }
    fn cases(&self) -> Vec<Case<BitsU>> {
        let mut g = Gen::new("matmul/bits_weight");
        let mut out = Vec::new();
        for (name, u, x) in shapes(&mut g) {
            let (dy, dw) = ((u.rows * u.cout) as usize, (u.splits * u.cin * u.cout) as usize);
            out.push(Case::new(format!("{name}, dyadic"), u, vec![x.clone(), g.dyadic(dy)], vec![dw]).exact());
            out.push(Case::new(name, u, vec![x, g.f32s(dy)], vec![dw]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}
