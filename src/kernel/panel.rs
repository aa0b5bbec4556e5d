//! Products of small matrices that whoever fills them lays out in panels: \[rows, columns\] as \[columns / 16, rows, 16\], so that
//! sixteen columns follow each other in memory from row to row. Nothing is copied, where a general product first has to bring its
//! matrices into such an order: with the dozens of small products of a block of `super::winograd`'s tiles that took as long as the products.

use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Columns of a panel: a whole number of registers of any kind of processor.
pub const PANEL: usize = 16;

/// Where an element of a matrix of `rows` rows lies.
#[inline(always)]
pub fn place(row: usize, column: usize, rows: usize) -> usize {
    (column / PANEL * rows + row) * PANEL + column % PANEL
}

/// C \[m, n\] (+)= A B\[k, n\], all in panels; A is \[m, k\], or \[k, m\] where `transposed`. Sizes are multiples of [`PANEL`], k not 0.
pub struct Product<'a> {
    /// A.
    pub a: &'a [f32],
    /// B.
    pub b: &'a [f32],
    /// C.
    pub c: &'a mut [f32],
    /// Rows of C.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of C.
    pub n: usize,
    /// Whether A is stored \[k, m\].
    pub transposed: bool,
    /// Whether C is added to.
    pub add: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // Where the strides of A are constants they take no registers.
        match self.transposed {
            true => self.by_lanes::<S, true>(s),
            false => self.by_lanes::<S, false>(s),
        }
    }
}

impl Product<'_> {
    /// As many rows and panels at once as sums fit into the registers of AVX-512 (32 of 16 floats), AVX2 (16 of 8), NEON (32 of 4); rows of
    /// a transposed A lie in panels, of which these are parts. Of two panels each element of A is fetched once: of one, fetches would
    /// take longer than sums with AVX-512.
    #[inline(always)]
    fn by_lanes<S: Simd, const TRANSPOSED: bool>(mut self, s: S) {
        let panels = self.n / PANEL;
        match S::F32_LANES {
            16 => {
                self.by_rows::<S, TRANSPOSED, 8, 1, 2>(s, 0..panels / 2 * 2);
                self.by_rows::<S, TRANSPOSED, 16, 1, 1>(s, panels / 2 * 2..panels);
            }
            8 if !TRANSPOSED && self.m.is_multiple_of(6) => self.by_rows::<S, TRANSPOSED, 6, 2, 1>(s, 0..panels),
            8 => self.by_rows::<S, TRANSPOSED, 4, 2, 1>(s, 0..panels),
            4 => self.by_rows::<S, TRANSPOSED, 4, 4, 1>(s, 0..panels),
            _ => self.by_rows::<S, TRANSPOSED, 1, 16, 1>(s, 0..panels),
        }
    }
    /// M rows of P panels at a time, R registers a panel.
    #[inline(always)]
    fn by_rows<S: Simd, const TRANSPOSED: bool, const M: usize, const R: usize, const P: usize>(
        &mut self,
        s: S,
        panels: Range<usize>,
    ) {
        let Product { a, b, c, m, k, n, add, .. } = self;
        let (m, k, n, add) = (*m, *k, *n, *add);
        assert!([m, k, n].iter().all(|size| size.is_multiple_of(PANEL)) && m.is_multiple_of(M));
        assert!(panels.end * PANEL <= n && panels.len().is_multiple_of(P));
        if m * k * n == 0 {
            return;
        }
        let (a, b, c) = (&a[..m * k], S::as_simd_f32s(&b[..k * n]).0, S::as_mut_simd_f32s(&mut c[..m * n]).0);
        // From row to row of the product, from k to k, and how many k in a run before the next panel.
        let (row, step, run) = if TRANSPOSED { (1, PANEL, k) } else { (PANEL, 1, PANEL) };
        let panels = panels.start * R..panels.end * R;
        let (b, c) = (&b[panels.start * k..panels.end * k], &mut c[panels.start * m..panels.end * m]);
        for (b, c) in b.chunks_exact(k * R * P).zip(c.chunks_exact_mut(m * R * P)) {
            for i in 0..m / M {
                let first = if TRANSPOSED { place(0, i * M, k) } else { i * M * PANEL };
                let mut sums = [[[s.splat_f32s(0.0); R]; P]; M];
                for p in 0..k / run {
                    let first = first + p * m * PANEL;
                    for q in 0..run {
                        let row_of_b = |panel: usize| {
                            let at = (panel * k + p * run + q) * R;
                            // SAFETY: `b` holds P panels of k rows.
                            std::array::from_fn::<_, R, _>(|t| unsafe { *b.get_unchecked(at + t) })
                        };
                        let b = std::array::from_fn::<_, P, _>(row_of_b);
                        for r in 0..M {
                            // SAFETY: the place of row i M + r and column p run + q, below m k.
                            let x = s.splat_f32s(unsafe { *a.get_unchecked(first + q * step + r * row) });
                            for panel in 0..P {
                                for t in 0..R {
                                    sums[r][panel][t] = s.mul_add_e_f32s(x, b[panel][t], sums[r][panel][t]);
                                }
                            }
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate() {
                    for panel in 0..P {
                        let at = (panel * m + i * M + r) * R;
                        for (c, sum) in c[at..at + R].iter_mut().zip(&sums[panel]) {
                            *c = if add { s.add_f32s(*c, *sum) } else { *sum };
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of rows at once, both ways to store A, on this machine's vectors and without any: sums of dyadic numbers are exact.
    #[test]
    fn products_are_those_of_the_definition() {
        let mut rng = crate::rng::Rng::new(1);
        for (m, k, n) in [(16, 16, 16), (48, 32, 64), (32, 48, 16), (96, 16, 32), (0, 16, 16)] {
            for (transposed, add) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut numbers = |n: usize| (0..n).map(|_| (rng.u32() % 64) as f32 / 8.0 - 4.0).collect::<Vec<_>>();
                let (a, b, before) = (numbers(m * k), numbers(k * n), numbers(m * n));
                let mut expected = vec![0.0; m * n];
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let of_a = |l| if transposed { a[place(l, i, k)] } else { a[place(i, l, m)] };
                    let sum: f32 = (0..k).map(|l| of_a(l) * b[place(l, j, k)]).sum();
                    expected[place(i, j, m)] = if add { before[place(i, j, m)] + sum } else { sum };
                }
                let (mut c, mut plain) = (before.clone(), before.clone());
                super::super::arch().dispatch(Product { a: &a, b: &b, c: &mut c, m, k, n, transposed, add });
                Product { a: &a, b: &b, c: &mut plain, m, k, n, transposed, add }.with_simd(pulp::Scalar::new());
                assert_eq!((&c, &plain), (&expected, &expected), "{m} {k} {n} {transposed} {add}");
            }
        }
    }
}
