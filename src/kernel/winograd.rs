//! 3x3 convolutions with 2.25 times fewer multiplications: Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2016), and its gradient by the weights. The CPU twin of `conv/*` takes it where spikes are too many to be walked.
//!
//! An image is cut into tiles of 2 x 2 outputs, each of which reads 4 x 4 inputs d. With the matrices of the paper,
//! y = A^T \[(G g G^T) * (B^T d B)\] A, where the product * is summed over the input channels: 16 matrix products \[tiles, cin\] x \[cin, cout\] in
//! place of nine on four times as many rows. The gradient of g follows by the chain rule: dg = G^T \[(B^T d B) * (A dy A^T)\] G, summed over
//! tiles. The matrices hold 0, 1 and 1/2 only, so that dyadic sums stay exact.

use super::conv::{ConvU, FloatPatches};
use super::par::{Shared, scratch};
use super::product::{BitMatrix, gemm, split_range, unpack_row};
use super::{arch, words};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::marker::PhantomData;

/// Channels come in multiples of this: a whole register of any kind of processor.
const LANE: usize = 16;
/// Points of a transformed tile.
const POINTS: usize = 16;
/// Tiles that are transformed and multiplied at once.
const BLOCK: usize = 128;

/// Whether this convolution can be done here: whole registers of channels, and images that are worth a tile.
pub fn suits(u: &ConvU) -> bool {
    u.cin.is_multiple_of(LANE as u32) && u.cout.is_multiple_of(LANE as u32) && u.cin > 0 && u.cout > 0 && u.h >= 4 && u.w >= 4
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
impl Matrix<4, 4> for Input {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [s.sub_f32s(a, c), s.add_f32s(b, c), s.sub_f32s(c, b), s.sub_f32s(b, d)]
    }
}

/// A^T.
struct Output;
impl Matrix<4, 2> for Output {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [s.add_f32s(s.add_f32s(a, b), c), s.sub_f32s(s.sub_f32s(b, c), d)]
    }
}

/// A.
struct OutputGradient;
impl Matrix<2, 4> for OutputGradient {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        [a, s.add_f32s(a, b), s.sub_f32s(a, b), s.sub_f32s(s.splat_f32s(0.0), b)]
    }
}

/// G.
struct Weight;
impl Matrix<3, 4> for Weight {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = s.splat_f32s(0.5);
        let (ends, middle) = (s.mul_f32s(half, s.add_f32s(a, c)), s.mul_f32s(half, b));
        [a, s.add_f32s(ends, middle), s.sub_f32s(ends, middle), c]
    }
}

/// G^T.
struct WeightGradient;
impl Matrix<4, 3> for WeightGradient {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = s.splat_f32s(0.5);
        let (sum, gap) = (s.mul_f32s(half, s.add_f32s(b, c)), s.mul_f32s(half, s.sub_f32s(b, c)));
        [s.add_f32s(a, sum), gap, s.add_f32s(sum, d)]
    }
}

/// Where the pixels of a tile lie: N x N from `before` above and left of it, `None` outside the image.
type Square<const N: usize> = [[Option<usize>; N]; N];

/// Tiles of all images.
struct Tiles {
    h: usize,
    w: usize,
    across: usize,
    down: usize,
    count: usize,
}

impl Tiles {
    fn new(u: &ConvU) -> Self {
        let (h, w) = (u.h as usize, u.w as usize);
        let (across, down) = (w.div_ceil(2), h.div_ceil(2));
        Tiles { h, w, across, down, count: u.images as usize * across * down }
    }
    #[inline(always)]
    fn pixels<const N: usize>(&self, i: usize, before: usize) -> Square<N> {
        let (x, y, image) = (i % self.across * 2, i / self.across % self.down * 2, i / (self.across * self.down));
        let mut out = [[None; N]; N];
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

/// Gathers N x N pixels of `c` channels of each of `n` tiles from `first`, applies the matrix, and writes them to `out` \[16, n, c\].
struct Gather<'a, X, const N: usize, M> {
    tiles: &'a Tiles,
    first: usize,
    n: usize,
    before: usize,
    x: &'a X,
    c: usize,
    out: &'a mut [f32],
    matrix: PhantomData<M>,
}

impl<X: Pixels, const N: usize, M: Matrix<N, 4>> WithSimd for Gather<'_, X, N, M> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (n, c) = (self.n, self.c);
        let none = vec![0.0f32; c];
        let mut space = vec![0.0f32; N * N * c];
        let out = S::as_mut_simd_f32s(self.out).0;
        let c = c / S::F32_LANES;
        assert!(out.len() >= POINTS * n * c);
        for i in 0..n {
            let pixels = self.tiles.pixels::<N>(self.first + i, self.before);
            let mut rows = [[S::as_simd_f32s(&none).0; N]; N];
            let mut spaces = space.chunks_exact_mut(self.c);
            for r in 0..N {
                for j in 0..N {
                    if let (Some(p), Some(space)) = (pixels[r][j], spaces.next()) {
                        rows[r][j] = &S::as_simd_f32s(self.x.pixel(p, space)).0[..c];
                    }
                }
            }
            for k in 0..c {
                let mut d = [[s.splat_f32s(0.0); N]; N];
                for r in 0..N {
                    for j in 0..N {
                        // SAFETY: each row has c registers.
                        d[r][j] = unsafe { *rows[r][j].get_unchecked(k) };
                    }
                }
                let v = M::both(s, d);
                for r in 0..4 {
                    for j in 0..4 {
                        // SAFETY: below 16 n c, which the assertion says is there.
                        unsafe { *out.get_unchecked_mut(((4 * r + j) * n + i) * c + k) = v[r][j] };
                    }
                }
            }
        }
    }
}

/// `from` \[P, size\] -> `to` \[Q, size\], the matrix applied at each place; P and Q are squares of N and M.
struct Apply<'a, const N: usize, const M: usize, T> {
    from: &'a [f32],
    to: &'a mut [f32],
    size: usize,
    matrix: PhantomData<T>,
}

impl<const N: usize, const M: usize, T: Matrix<N, M>> WithSimd for Apply<'_, N, M, T> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (from, to, size) = (S::as_simd_f32s(self.from).0, S::as_mut_simd_f32s(self.to).0, self.size / S::F32_LANES);
        for k in 0..size {
            let mut d = [[s.splat_f32s(0.0); N]; N];
            for r in 0..N {
                for j in 0..N {
                    d[r][j] = from[(r * N + j) * size + k];
                }
            }
            let v = T::both(s, d);
            for r in 0..M {
                for j in 0..M {
                    to[(r * M + j) * size + k] = v[r][j];
                }
            }
        }
    }
}

/// Products m \[16, n, c\] of `n` tiles from `first` -> y.
struct Scatter<'a> {
    tiles: &'a Tiles,
    first: usize,
    n: usize,
    c: usize,
    m: &'a [f32],
    y: &'a Shared<'a, f32>,
}

impl WithSimd for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (n, m, c) = (self.n, S::as_simd_f32s(self.m).0, self.c / S::F32_LANES);
        assert!(m.len() >= POINTS * n * c);
        for i in 0..n {
            let pixels = self.tiles.pixels::<2>(self.first + i, 0);
            for k in 0..c {
                let mut d = [[s.splat_f32s(0.0); 4]; 4];
                for r in 0..4 {
                    for j in 0..4 {
                        // SAFETY: below 16 n c, which the assertion says is there.
                        d[r][j] = unsafe { *m.get_unchecked(((4 * r + j) * n + i) * c + k) };
                    }
                }
                let y = Output::both(s, d);
                for r in 0..2 {
                    for j in 0..2 {
                        if let Some(p) = pixels[r][j] {
                            // SAFETY: a pixel belongs to one tile, a tile to one block.
                            let out = unsafe { self.y.slice(p * self.c + k * S::F32_LANES, S::F32_LANES) };
                            S::as_mut_simd_f32s(out).0[0] = y[r][j];
                        }
                    }
                }
            }
        }
    }
}

/// x, w\[9, cin, cout\] -> y\[images, h, w, cout\].
pub fn forward(u: &ConvU, x: &impl Pixels, w: &[f32], y: &mut [f32]) {
    let (cin, cout) = (u.cin as usize, u.cout as usize);
    let tiles = Tiles::new(u);
    let mut points = vec![0.0f32; POINTS * cin * cout];
    arch().dispatch(Apply { from: w, to: &mut points, size: cin * cout, matrix: PhantomData::<Weight> });
    let y = Shared::new(y);
    (0..tiles.count.div_ceil(BLOCK)).into_par_iter().for_each(|b| {
        let (first, n) = (b * BLOCK, BLOCK.min(tiles.count - b * BLOCK));
        scratch(POINTS * n * (cin + cout), |s| {
            let (v, m) = s.split_at_mut(POINTS * n * cin);
            arch().dispatch(Gather { tiles: &tiles, first, n, before: 1, x, c: cin, out: v, matrix: PhantomData::<Input> });
            for p in 0..POINTS {
                let (v, w) = (&v[p * n * cin..], &points[p * cin * cout..]);
                gemm(&mut m[p * n * cout..], (n, cout, cin), v, (cin, 1), w, (cout, 1), false);
            }
            arch().dispatch(Scatter { tiles: &tiles, first, n, c: cout, m, y: &y });
        });
    });
}

/// x, dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\], each split over its own run of images.
pub fn weight(u: &ConvU, x: &impl Pixels, dy: &[f32], dw: &mut [f32]) {
    let (cin, cout) = (u.cin as usize, u.cout as usize);
    let size = cin * cout;
    let tiles = Tiles::new(u);
    let dy = FloatPatches { x: dy, u: ConvU { cin: u.cout, ..*u } };
    dw.par_chunks_mut(9 * size).enumerate().for_each(|(s, dw)| {
        let (first, end) = split_range(u.images as usize, u.splits as usize, s);
        let image = tiles.across * tiles.down;
        let (first, end) = (first * image, end * image);
        let block = BLOCK.min(end - first);
        scratch(POINTS * (size + block * (cin + cout)), |s| {
            let (sum, s) = s.split_at_mut(POINTS * size);
            sum.fill(0.0);
            for first in (first..end).step_by(BLOCK) {
                let n = BLOCK.min(end - first);
                let (v, z) = s.split_at_mut(POINTS * n * cin);
                arch().dispatch(Gather { tiles: &tiles, first, n, before: 1, x, c: cin, out: v, matrix: PhantomData::<Input> });
                arch().dispatch(Gather {
                    tiles: &tiles,
                    first,
                    n,
                    before: 0,
                    x: &dy,
                    c: cout,
                    out: z,
                    matrix: PhantomData::<OutputGradient>,
                });
                for p in 0..POINTS {
                    let (v, z) = (&v[p * n * cin..], &z[p * n * cout..]);
                    gemm(&mut sum[p * size..], (cin, cout, n), v, (1, cin), z, (cout, 1), true);
                }
            }
            arch().dispatch(Apply { from: sum, to: dw, size, matrix: PhantomData::<WeightGradient> });
        });
    });
}
