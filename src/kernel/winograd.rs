//! 3x3 convolutions with three to four times fewer multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2016) and its gradients. The CPU twin of `conv/*` takes it where spikes are too many to be walked.
//!
//! An image is cut into tiles of 4 x 4 outputs, each of which reads 6 x 6 inputs d. y = A^T \[(G g G^T) * (B^T d B)\] A, where the product * is
//! summed over the input channels: N x N matrix products \[tiles, cin\] x \[cin, cout\] in place of nine on sixteen times as many rows. The
//! gradient of g follows by the chain rule: dg = G^T \[(B^T d B) * (A dy A^T)\] G, summed over tiles. That of d is a convolution of dy.
//!
//! Each matrix comes for two sets of points. Training takes six real ones: 0, two pairs and infinity. Their matrices hold fractions
//! with which sums of dyadic numbers are no longer exact, and in inference those shall be. It takes 0, 1, -1, i, -i and infinity: i
//! and -i go together as one complex product by three real ones (Karatsuba), so that N = 7. In the first direction g is taken for the
//! polynomial g0 + g1 x + g2 x^2 and the outputs' coefficients for h: their product modulo x^5 - x, and its highest coefficient, are found
//! from the seven products, and transposing that gives the correlation. A, B hold 0 and +-1, G also 1/2 and 1/4.

use super::bit_matrix::{BitMatrix, unpack_row};
use super::conv::{ConvU, FloatPatches};
use super::panel::{PANEL, Product, place};
use super::par::{Shared, Stream, lines, scratch};
use super::product::{split_range, wide};
use super::{arch, words};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Height and width of a tile of outputs.
const TILE: usize = 4;
/// Sides of a square of points: of an output's that shall be exact, and of any other's.
const EXACT: usize = 7;
const REAL: usize = 6;
/// The real points besides 0 and infinity are +-P and +-Q. With these the largest error of random sums is 1.4e-6 of the largest sum and
/// 2.3e-6 of the largest gradient by a weight; with 1 and 2 it is 6e-6 and 1e-5, and 0.8e-6 without any transform.
const P: f32 = 5.0 / 8.0;
const Q: f32 = 3.0 / 2.0;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
/// What g is divided by at them: the derivative of x (x^2 - P^2) (x^2 - Q^2).
const G_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const G_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));
/// Tiles that are transformed and multiplied at once: few enough for the second-level cache.
const BLOCK: usize = 32;

/// Floats from one point of a matrix of `size` to the next. A line more than there are: 49 lines whose distance is a power of two would
/// all meet in one set of the cache.
fn stride(size: usize) -> usize {
    size + PANEL
}

/// Whether this convolution can be done here: whole registers of channels, and images of which tiles do not stand out too far for a third
/// of the multiplications to be saved.
pub fn suits(u: &ConvU) -> bool {
    let (h, w) = (u.h as usize, u.w as usize);
    let products = h.div_ceil(TILE) * w.div_ceil(TILE) * EXACT * EXACT;
    u.cin.is_multiple_of(PANEL as u32)
        && u.cout.is_multiple_of(PANEL as u32)
        && u.cin * u.cout > 0
        && 3 * products < 2 * 9 * h * w
}

/// What is convolved, \[pixels, channels\].
pub trait Pixels: Sync {
    /// The channels of a pixel; `space` has room for them.
    fn pixel<'a>(&'a self, pixel: usize, space: &'a mut [f32]) -> &'a [f32];
}

impl Pixels for FloatPatches<'_> {
    #[inline(always)]
    fn pixel<'a>(&'a self, pixel: usize, _: &'a mut [f32]) -> &'a [f32] {
        let c = self.u.cin as usize;
        &self.x[pixel * c..(pixel + 1) * c]
    }
}

impl Pixels for BitMatrix<'_> {
    #[inline(always)]
    fn pixel<'a>(&'a self, pixel: usize, space: &'a mut [f32]) -> &'a [f32] {
        let nw = words(self.c);
        for q in 0..self.planes {
            let at = (q * self.rows + pixel) * nw;
            unpack_row(&self.x[at..at + nw], space, q > 0);
        }
        space
    }
}

/// A matrix M of the algorithm, applied to N registers.
trait Matrix<const N: usize, const M: usize> {
    fn apply<S: Simd>(s: S, x: [S::f32s; N]) -> [S::f32s; M];
    /// M x M^T.
    #[inline(always)]
    fn both<S: Simd>(s: S, x: [[S::f32s; N]; N]) -> [[S::f32s; M]; M] {
        let zero = s.splat_f32s(0.0);
        let mut columns = [[zero; N]; M];
        for j in 0..N {
            let mut column = [zero; N];
            for i in 0..N {
                column[i] = x[i][j];
            }
            let column = Self::apply(s, column);
            for i in 0..M {
                columns[i][j] = column[i];
            }
        }
        let mut out = [[zero; M]; M];
        for i in 0..M {
            out[i] = Self::apply(s, columns[i]);
        }
        out
    }
}

/// B^T.
struct Input;
impl Matrix<6, EXACT> for Input {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; EXACT] {
        let (even, odd) = (s.add_f32s(d2, d4), s.add_f32s(d1, d3));
        let (turn, gap) = (s.sub_f32s(d4, d2), s.sub_f32s(d3, d1));
        let (plus, minus) = (s.add_f32s(even, odd), s.sub_f32s(even, odd));
        [s.sub_f32s(d0, d4), plus, minus, s.add_f32s(turn, gap), s.sub_f32s(gap, turn), s.sub_f32s(d1, d3), s.sub_f32s(d5, d1)]
    }
}
impl Matrix<6, REAL> for Input {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: [S::f32s; 6]) -> [S::f32s; REAL] {
        let fma = |k: f32, a, b| s.mul_add_e_f32s(s.splat_f32s(k), a, b);
        let (even_p, odd_p) = (fma(-Q2, d2, d4), fma(-Q2, d1, d3));
        let (even_q, odd_q) = (fma(-P2, d2, d4), fma(-P2, d1, d3));
        [
            fma(P2 * Q2, d0, fma(-P2 - Q2, d2, d4)),
            fma(P, odd_p, even_p),
            fma(-P, odd_p, even_p),
            fma(Q, odd_q, even_q),
            fma(-Q, odd_q, even_q),
            fma(P2 * Q2, d1, fma(-P2 - Q2, d3, d5)),
        ]
    }
}

/// A^T.
struct Output;
impl Matrix<EXACT, TILE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [zero, plus, minus, re, im, both, end]: [S::f32s; EXACT]) -> [S::f32s; TILE] {
        let (sum, gap) = (s.add_f32s(plus, minus), s.sub_f32s(plus, minus));
        let (re, im) = (s.add_f32s(re, both), s.add_f32s(im, both));
        [s.add_f32s(zero, s.add_f32s(sum, re)), s.add_f32s(gap, im), s.sub_f32s(sum, re), s.add_f32s(s.sub_f32s(gap, im), end)]
    }
}
impl Matrix<REAL, TILE> for Output {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [zero, p, minus_p, q, minus_q, end]: [S::f32s; REAL]) -> [S::f32s; TILE] {
        let (mul, fma) = (|k: f32, a| s.mul_f32s(s.splat_f32s(k), a), |k: f32, a, b| s.mul_add_e_f32s(s.splat_f32s(k), a, b));
        let (sum_p, gap_p) = (s.add_f32s(p, minus_p), s.sub_f32s(p, minus_p));
        let (sum_q, gap_q) = (s.add_f32s(q, minus_q), s.sub_f32s(q, minus_q));
        [
            s.add_f32s(zero, s.add_f32s(sum_p, sum_q)),
            fma(P, gap_p, mul(Q, gap_q)),
            fma(P2, sum_p, mul(Q2, sum_q)),
            fma(P * P2, gap_p, fma(Q * Q2, gap_q, end)),
        ]
    }
}

/// A.
struct OutputGradient;
impl Matrix<TILE, REAL> for OutputGradient {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d]: [S::f32s; TILE]) -> [S::f32s; REAL] {
        let fma = |k: f32, a, b| s.mul_add_e_f32s(s.splat_f32s(k), a, b);
        let (even_p, odd_p) = (fma(P2, c, a), fma(P2, d, b));
        let (even_q, odd_q) = (fma(Q2, c, a), fma(Q2, d, b));
        [a, fma(P, odd_p, even_p), fma(-P, odd_p, even_p), fma(Q, odd_q, even_q), fma(-Q, odd_q, even_q), d]
    }
}

/// G.
struct Weight;
impl Matrix<3, EXACT> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; EXACT] {
        let (half, quarter) = (s.splat_f32s(0.5), s.splat_f32s(0.25));
        let (ends, middle) = (s.mul_f32s(quarter, s.add_f32s(a, c)), s.mul_f32s(quarter, b));
        let (re, im) = (s.mul_f32s(half, s.sub_f32s(a, c)), s.mul_f32s(half, b));
        [a, s.add_f32s(ends, middle), s.sub_f32s(ends, middle), re, im, s.add_f32s(re, im), c]
    }
}
impl Matrix<3, REAL> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; REAL] {
        let (mul, fma) = (|k: f32, a| s.mul_f32s(s.splat_f32s(k), a), |k: f32, a, b| s.mul_add_e_f32s(s.splat_f32s(k), a, b));
        let (even_p, even_q) = (mul(G_P, fma(P2, c, a)), mul(G_Q, fma(Q2, c, a)));
        [
            mul(1.0 / (P2 * Q2), a),
            fma(G_P * P, b, even_p),
            fma(-G_P * P, b, even_p),
            fma(G_Q * Q, b, even_q),
            fma(-G_Q * Q, b, even_q),
            c,
        ]
    }
}

/// G^T.
struct WeightGradient;
impl Matrix<REAL, 3> for WeightGradient {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [zero, p, minus_p, q, minus_q, end]: [S::f32s; REAL]) -> [S::f32s; 3] {
        let (mul, fma) = (|k: f32, a| s.mul_f32s(s.splat_f32s(k), a), |k: f32, a, b| s.mul_add_e_f32s(s.splat_f32s(k), a, b));
        let (sum_p, gap_p) = (mul(G_P, s.add_f32s(p, minus_p)), mul(G_P, s.sub_f32s(p, minus_p)));
        let (sum_q, gap_q) = (mul(G_Q, s.add_f32s(q, minus_q)), mul(G_Q, s.sub_f32s(q, minus_q)));
        [fma(1.0 / (P2 * Q2), zero, s.add_f32s(sum_p, sum_q)), fma(P, gap_p, mul(Q, gap_q)), fma(P2, sum_p, fma(Q2, sum_q, end))]
    }
}

/// Where the pixels of a tile lie: N x N from `before` above and left of it, `None` outside the image.
type Square<const N: usize> = [[Option<usize>; N]; N];

/// Tiles of all images.
#[derive(Clone, Copy)]
struct Tiles {
    h: usize,
    w: usize,
    across: usize,
    down: usize,
    /// How many of them there are; tiles from there on lie outside.
    count: usize,
}

impl Tiles {
    fn new(u: &ConvU) -> Self {
        let (h, w) = (u.h as usize, u.w as usize);
        let (across, down) = (w.div_ceil(TILE), h.div_ceil(TILE));
        Tiles { h, w, across, down, count: u.images as usize * across * down }
    }
    #[inline(always)]
    fn pixels<const N: usize>(&self, i: usize, before: usize) -> Square<N> {
        let (x, y, image) = (i % self.across * TILE, i / self.across % self.down * TILE, i / (self.across * self.down));
        let mut out = [[None; N]; N];
        if i >= self.count {
            return out;
        }
        for (r, row) in out.iter_mut().enumerate() {
            for (c, p) in row.iter_mut().enumerate() {
                let (yy, xx) = (y + r, x + c);
                let inside = yy >= before && xx >= before && yy - before < self.h && xx - before < self.w;
                *p = inside.then(|| (image * self.h + yy - before) * self.w + xx - before);
            }
        }
        out
    }
}

/// Gathers N x N pixels of some channels of each of `n` tiles from `first`, applies the matrix, and writes them to `out` \[SIDE^2, n, channels\],
/// in panels and a [`stride`] from point to point. A pixel has `c` channels.
struct Gather<'a, X, const N: usize, const SIDE: usize, M> {
    tiles: Tiles,
    first: usize,
    n: usize,
    before: usize,
    x: &'a X,
    c: usize,
    channels: Range<usize>,
    out: &'a mut [f32],
    matrix: PhantomData<M>,
}

impl<X: Pixels, const N: usize, const SIDE: usize, M: Matrix<N, SIDE>> WithSimd for Gather<'_, X, N, SIDE, M> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (n, c) = (self.n, self.c);
        let (mut none, mut space) = (Vec::new(), Vec::new());
        let (none, space) = (lines(&mut none, c), lines(&mut space, N * N * c));
        none.fill(0.0);
        let out = S::as_mut_simd_f32s(self.out).0;
        let stride = stride(n * self.channels.len()) / S::F32_LANES;
        let channels = self.channels.start / S::F32_LANES..self.channels.end / S::F32_LANES;
        assert!(self.channels.end <= c && out.len() >= SIDE * SIDE * stride);
        for i in 0..n {
            let pixels = self.tiles.pixels::<N>(self.first + i, self.before);
            let mut rows = [[S::as_simd_f32s(none).0; N]; N];
            let mut spaces = space.chunks_exact_mut(self.c);
            for r in 0..N {
                for j in 0..N {
                    if let (Some(p), Some(space)) = (pixels[r][j], spaces.next()) {
                        rows[r][j] = &S::as_simd_f32s(self.x.pixel(p, space)).0[..c / S::F32_LANES];
                    }
                }
            }
            for k in channels.clone() {
                let mut d = [[s.splat_f32s(0.0); N]; N];
                for r in 0..N {
                    for j in 0..N {
                        // SAFETY: each row has c channels.
                        d[r][j] = unsafe { *rows[r][j].get_unchecked(k) };
                    }
                }
                let v = M::both(s, d);
                let at = place(i, (k - channels.start) * S::F32_LANES, n) / S::F32_LANES;
                for r in 0..SIDE {
                    for j in 0..SIDE {
                        // SAFETY: `at` is below n times the channels, and SIDE^2 strides of no less are there.
                        unsafe { *out.get_unchecked_mut((SIDE * r + j) * stride + at) = v[r][j] };
                    }
                }
            }
        }
    }
}

/// The matrix at each place of weights \[N N, cin, cout\] -> \[M M, cin, cout\]. One is the nine taps of a kernel, the other the points of
/// some of its columns, in panels and a [`stride`] apart.
struct Apply<'a, const N: usize, const M: usize, T> {
    from: &'a [f32],
    to: &'a Shared<'a, f32>,
    /// Where the result begins in `to`.
    first: usize,
    /// Of the kernel.
    cin: usize,
    cout: usize,
    /// What is done of each tap.
    rows: Range<usize>,
    columns: Range<usize>,
    matrix: PhantomData<T>,
}

impl<const N: usize, const M: usize, T: Matrix<N, M>> WithSimd for Apply<'_, N, M, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (cin, cout, columns) = (self.cin, self.cout, self.columns);
        let from = S::as_simd_f32s(self.from).0;
        let point = stride(cin * columns.len());
        let at = |side, p: usize, ci, co| match side {
            3 => (p * cin + ci) * cout + co,
            _ => p * point + place(ci, co - columns.start, cin),
        };
        for ci in self.rows {
            for co in columns.clone().step_by(S::F32_LANES) {
                let mut d = [[s.splat_f32s(0.0); N]; N];
                for r in 0..N {
                    for j in 0..N {
                        d[r][j] = from[at(N, r * N + j, ci, co) / S::F32_LANES];
                    }
                }
                let v = T::both(s, d);
                for r in 0..M {
                    for j in 0..M {
                        // SAFETY: each place belongs to one row and column, these to one call.
                        let to = unsafe { self.to.slice(self.first + at(M, r * M + j, ci, co), S::F32_LANES) };
                        S::as_mut_simd_f32s(to).0[0] = v[r][j];
                    }
                }
            }
        }
    }
}

/// Products m \[SIDE^2, n, c\] of `n` tiles from `first`, in panels and a [`stride`] from point to point -> y.
struct Scatter<'a, const SIDE: usize> {
    tiles: Tiles,
    first: usize,
    n: usize,
    c: usize,
    m: &'a [f32],
    y: &'a Shared<'a, f32>,
    /// What becomes of `y`.
    out: Stream,
}

impl<const SIDE: usize> WithSimd for Scatter<'_, SIDE>
where
    Output: Matrix<SIDE, TILE>,
{
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (n, m, stride) = (self.n, S::as_simd_f32s(self.m).0, stride(self.n * self.c) / S::F32_LANES);
        assert!(m.len() >= SIDE * SIDE * stride);
        for i in 0..n {
            let pixels = self.tiles.pixels::<TILE>(self.first + i, 0);
            // A line of the cache each.
            for c in (0..self.c).step_by(PANEL) {
                let mut lines = [[[0.0f32; PANEL]; TILE]; TILE];
                for part in 0..PANEL / S::F32_LANES {
                    let at = place(i, c, n) / S::F32_LANES + part;
                    let mut d = [[s.splat_f32s(0.0); SIDE]; SIDE];
                    for r in 0..SIDE {
                        for j in 0..SIDE {
                            // SAFETY: `at` is below n c, and SIDE^2 strides of no less are there.
                            d[r][j] = unsafe { *m.get_unchecked((SIDE * r + j) * stride + at) };
                        }
                    }
                    let y = Output::both(s, d);
                    for r in 0..TILE {
                        for j in 0..TILE {
                            S::as_mut_simd_f32s(&mut lines[r][j]).0[part] = y[r][j];
                        }
                    }
                }
                for r in 0..TILE {
                    for j in 0..TILE {
                        if let Some(p) = pixels[r][j] {
                            // SAFETY: a pixel belongs to one tile, a tile to one block.
                            let y = unsafe { self.y.slice(p * self.c + c, PANEL) };
                            self.out.write(y, &lines[r][j]);
                        }
                    }
                }
            }
        }
    }
}

/// x, w\[9, cin, cout\] -> y\[images, h, w, cout\], exact for dyadic numbers where `u` asks for that.
pub fn forward(u: &ConvU, x: &impl Pixels, w: &[f32], y: &mut [f32]) {
    match u.exact {
        0 => convolve::<REAL>(u, x, w, y),
        _ => convolve::<EXACT>(u, x, w, y),
    }
}

fn convolve<const SIDE: usize>(u: &ConvU, x: &impl Pixels, w: &[f32], y: &mut [f32])
where
    Input: Matrix<6, SIDE>,
    Weight: Matrix<3, SIDE>,
    Output: Matrix<SIDE, TILE>,
{
    let (cin, cout) = (u.cin as usize, u.cout as usize);
    let tiles = Tiles::new(u);
    let size = stride(cin * cout);
    let mut points = Vec::new();
    let points = lines(&mut points, SIDE * SIDE * size);
    let to = &Shared::new(points);
    (0..cin / PANEL).into_par_iter().for_each(|i| {
        let (rows, matrix) = (i * PANEL..(i + 1) * PANEL, PhantomData);
        arch().dispatch(Apply::<3, SIDE, Weight> { from: w, to, first: 0, cin, cout, rows, columns: 0..cout, matrix });
    });
    let len = y.len();
    let y = &Shared::new(y);
    // Few tiles are shared out among many threads; a tile's result does not depend on the others of its block.
    let block = if wide() { BLOCK } else { 48 }; // A multiple of the six rows that AVX2 multiplies at once.
    let n = if tiles.count < block * rayon::current_num_threads() { PANEL } else { block };
    let (v_size, m_size) = (stride(n * cin), stride(n * cout));
    (0..tiles.count.div_ceil(n)).into_par_iter().for_each(|b| {
        scratch(SIDE * SIDE * (v_size + m_size), |s| {
            let (v, m) = s.split_at_mut(SIDE * SIDE * v_size);
            let (first, matrix) = (b * n, PhantomData);
            arch().dispatch(Gather::<_, 6, SIDE, Input> {
                tiles,
                first,
                n,
                before: 1,
                x,
                c: cin,
                channels: 0..cin,
                out: v,
                matrix,
            });
            for (p, c) in m.chunks_exact_mut(m_size).enumerate() {
                let (a, b) = (&v[p * v_size..], &points[p * size..]);
                arch().dispatch(Product { a, b, c, m: n, k: cin, n: cout, transposed: false, add: false });
            }
            arch().dispatch(Scatter::<SIDE> { tiles, first, n, c: cout, m, y, out: Stream::new(len) });
        });
    });
}

/// x, dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\], each split over its own run of images.
pub fn weight(u: &ConvU, x: &impl Pixels, dy: &[f32], dw: &mut [f32]) {
    let (cin, cout, splits) = (u.cin as usize, u.cout as usize, u.splits as usize);
    let tiles = Tiles::new(u);
    let dy = &FloatPatches { x: dy, u: ConvU { cin: u.cout, ..*u } };
    // With more threads than splits these share the output channels, none of whose sums depends on others.
    let groups = rayon::current_num_threads().div_ceil(splits).min(cout / PANEL);
    let group = (cout / PANEL).div_ceil(groups) * PANEL;
    let to = &Shared::new(dw);
    (0..splits * groups).into_par_iter().for_each(|task| {
        let (s, column) = (task / groups, task % groups * group);
        let columns = column.min(cout)..(column + group).min(cout);
        let (first, end) = split_range(u.images as usize, splits, s);
        let image = tiles.across * tiles.down;
        let (first, tiles) = (first * image, Tiles { count: end * image, ..tiles });
        let n = (tiles.count - first).next_multiple_of(PANEL).min(BLOCK);
        let (v_size, z_size, size) = (stride(n * cin), stride(n * columns.len()), stride(cin * columns.len()));
        scratch(REAL * REAL * (size + v_size + z_size), |space| {
            let (sum, space) = space.split_at_mut(REAL * REAL * size);
            let (v, z) = space.split_at_mut(REAL * REAL * v_size);
            sum.fill(0.0);
            for first in (first..tiles.count).step_by(BLOCK) {
                let (channels, matrix) = (0..cin, PhantomData);
                arch().dispatch(Gather::<_, 6, REAL, Input> { tiles, first, n, before: 1, x, c: cin, channels, out: v, matrix });
                let (channels, matrix) = (columns.clone(), PhantomData);
                arch().dispatch(Gather::<_, TILE, REAL, OutputGradient> {
                    tiles,
                    first,
                    n,
                    before: 0,
                    x: dy,
                    c: cout,
                    channels,
                    out: z,
                    matrix,
                });
                for (p, c) in sum.chunks_exact_mut(size).enumerate() {
                    let (a, b) = (&v[p * v_size..], &z[p * z_size..]);
                    arch().dispatch(Product { a, b, c, m: cin, k: n, n: columns.len(), transposed: true, add: true });
                }
            }
            let (rows, matrix, first) = (0..cin, PhantomData, s * 9 * cin * cout);
            arch().dispatch(Apply::<REAL, 3, WeightGradient> { from: sum, to, first, cin, cout, rows, columns, matrix });
        });
    });
}
