//! 3x3 convolutions of floats with few input channels, such as the two polarities of an encoded recording: a line of an image is, as it
//! lies, a matrix \[w, 3 cin\] whose rows overlap, so that nothing needs to be copied out for a product but the zeros around the image.

use super::arch;
use super::conv::ConvU;
use super::neuron::Currents;
use super::panel::PANEL;
use super::par::{Stream, scratch};
use super::product::split_range;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Most input channels.
const MOST: usize = 4;
/// Lines of an image that one task takes.
const LINES: usize = 16;
/// Sums of a weight gradient that are kept in registers at once.
const SUMS: usize = 6;

/// Whether this convolution is done here.
pub fn suits(u: &ConvU) -> bool {
    u.cin > 0 && u.cin as usize <= MOST && u.cout > 0 && u.cout.is_multiple_of(PANEL as u32)
}

/// Some lines of one image within a border of zeros.
struct Lines<'a> {
    /// \[lines + 2, w + 2, cin\].
    x: &'a [f32],
    w: usize,
    cin: usize,
    cout: usize,
}

impl Lines<'_> {
    /// Lines `first..first + n` of image `image` of `x`, with those above and below; of all the same columns, with those beside them.
    fn fill(u: &ConvU, x: &[f32], image: usize, first: usize, n: usize, columns: Range<usize>, out: &mut [f32]) {
        let (h, w, cin) = (u.h as usize, u.w as usize, u.cin as usize);
        // Columns that there are, and where they lie in a line of `out`.
        let (from, to) = (columns.start.saturating_sub(1), (columns.end + 1).min(w));
        let at = (from + 1 - columns.start) * cin;
        for (i, out) in out.chunks_exact_mut((columns.len() + 2) * cin).enumerate().take(n + 2) {
            out.fill(0.0);
            if let Some(y) = (first + i).checked_sub(1).filter(|y| *y < h) {
                let line = (image * h + y) * w;
                out[at..at + (to - from) * cin].copy_from_slice(&x[(line + from) * cin..(line + to) * cin]);
            }
        }
    }
    /// Floats that `n` lines of `w` columns take.
    fn len(u: &ConvU, n: usize, w: usize) -> usize {
        (n + 2) * (w + 2) * u.cin as usize
    }
    /// The three lines around line `y`, from the border on.
    #[inline(always)]
    fn around(&self, y: usize) -> [&[f32]; 3] {
        let line = (self.w + 2) * self.cin;
        std::array::from_fn(|ky| &self.x[(y + ky) * line..(y + ky + 1) * line])
    }
}

/// Lines, weights \[9, cin, cout\] -> y \[lines, w, cout\].
struct Forward<'a> {
    lines: Lines<'a>,
    weights: &'a [f32],
    y: &'a mut [f32],
    /// What `y` is a part of.
    out: Stream,
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // As many pixels and registers at once as sums fit into the registers of AVX-512, AVX2, NEON; whole lines of the cache.
        match S::F32_LANES {
            16 if self.lines.cout.is_multiple_of(2 * PANEL) => self.by_pixels::<S, 8, 2>(s),
            16 => self.by_pixels::<S, 16, 1>(s),
            8 => self.by_pixels::<S, 6, 2>(s),
            4 => self.by_pixels::<S, 4, 4>(s),
            _ => self.by_pixels::<S, 1, 16>(s),
        }
    }
}

impl Forward<'_> {
    /// M pixels of R registers at a time.
    #[inline(always)]
    fn by_pixels<S: Simd, const M: usize, const R: usize>(self, s: S) {
        let Lines { w, cout, .. } = self.lines;
        let weights = S::as_simd_f32s(self.weights).0;
        for (i, y) in self.y.chunks_exact_mut(w * cout).enumerate() {
            for c in (0..cout / S::F32_LANES).step_by(R) {
                let first = self.lines.pixels::<S, M, R>(s, 0, i, c, weights, y, &self.out);
                self.lines.pixels::<S, 1, R>(s, first, i, c, weights, y, &self.out);
            }
        }
    }
}

impl Lines<'_> {
    /// R registers, from `c` on, of the results of pixels from `first` on of line `i`, M at a time; returns the first that is left over.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn pixels<S: Simd, const M: usize, const R: usize>(
        &self,
        s: S,
        first: usize,
        i: usize,
        c: usize,
        weights: &[S::f32s],
        y: &mut [f32],
        out: &Stream,
    ) -> usize {
        let Lines { w, cin, cout, .. } = *self;
        let (n, line) = (cout / S::F32_LANES, (w + 2) * cin);
        let around = &self.x[i * line..(i + 3) * line];
        // Where each tap lies: in one loop over all of them the sums stay in registers.
        let taps: [usize; 9 * MOST] = std::array::from_fn(|k| k / (3 * cin) * line + k % (3 * cin));
        let (taps, weights) = (&taps[..9 * cin], &weights[..9 * cin * n]);
        let end = first + (w - first) / M * M;
        for p in (first..end).step_by(M) {
            let mut sums = [[s.splat_f32s(0.0); R]; M];
            let around = &around[p * cin..];
            // The last number that the last tap meets.
            assert!(around.len() >= 2 * line + (M - 1) * cin + 3 * cin);
            for (tap, weights) in taps.iter().zip(weights.chunks_exact(n)) {
                let weights = &weights[c..c + R];
                for r in 0..M {
                    // SAFETY: no tap lies further than the assertion allows.
                    let x = s.splat_f32s(unsafe { *around.get_unchecked(tap + r * cin) });
                    for t in 0..R {
                        sums[r][t] = s.mul_add_e_f32s(x, weights[t], sums[r][t]);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let at = (p + r) * cout + c * S::F32_LANES;
                out.write(&mut y[at..at + R * S::F32_LANES], bytemuck::cast_slice(sums));
            }
        }
        end
    }
}

/// Lines, dy \[lines, w, cout\] -> added to dw \[9, cin, cout\].
struct Weight<'a> {
    lines: Lines<'a>,
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl WithSimd for Weight<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        // Two registers of a pixel where they are even: numbers of x are fetched half as often.
        match (self.lines.cout / S::F32_LANES).is_multiple_of(2) {
            true => self.by_registers::<S, 2>(s),
            false => self.by_registers::<S, 1>(s),
        }
    }
}

impl Weight<'_> {
    /// R registers at a time.
    #[inline(always)]
    fn by_registers<S: Simd, const R: usize>(self, s: S) {
        let Lines { w, cin, cout, .. } = self.lines;
        let (k, n) = (3 * cin, cout / S::F32_LANES);
        let dw = S::as_mut_simd_f32s(self.dw).0;
        for (i, dy) in self.dy.chunks_exact(w * cout).enumerate() {
            let (around, dy) = (self.lines.around(i), S::as_simd_f32s(dy).0);
            for c in (0..n).step_by(R) {
                for (ky, line) in around.iter().enumerate() {
                    let (dw, whole) = (&mut dw[ky * k * n..(ky + 1) * k * n], k / SUMS * SUMS);
                    (0..whole).step_by(SUMS).for_each(|j| taps::<S, SUMS, R>(s, &line[j..], dy, (n, c), cin, &mut dw[j * n..]));
                    (whole..k).for_each(|j| taps::<S, 1, R>(s, &line[j..], dy, (n, c), cin, &mut dw[j * n..]));
                }
            }
        }
    }
}

/// Adds to R registers, from `c` of `n` on, of K rows of `dw` the sum over the pixels of a line.
#[inline(always)]
fn taps<S: Simd, const K: usize, const R: usize>(
    s: S,
    line: &[f32],
    dy: &[S::f32s],
    (n, c): (usize, usize),
    cin: usize,
    dw: &mut [S::f32s],
) {
    let mut sums = [[s.splat_f32s(0.0); R]; K];
    for (p, dy) in dy.chunks_exact(n).enumerate() {
        let (x, dy) = (&line[p * cin..p * cin + K], &dy[c..c + R]);
        for j in 0..K {
            let x = s.splat_f32s(x[j]);
            for t in 0..R {
                sums[j][t] = s.mul_add_e_f32s(x, dy[t], sums[j][t]);
            }
        }
    }
    for j in 0..K {
        for t in 0..R {
            let dw = &mut dw[j * n + c + t];
            *dw = s.add_f32s(*dw, sums[j][t]);
        }
    }
}

/// x \[images, h, w, cin\], weights \[9, cin, cout\] -> y \[images, h, w, cout\].
pub fn forward(u: &ConvU, x: &[f32], weights: &[f32], y: &mut [f32]) {
    let (h, w, cin, cout) = (u.h as usize, u.w as usize, u.cin as usize, u.cout as usize);
    let (line, len) = ((w * cout).max(1), y.len());
    y.par_chunks_mut(h.max(1) * line).enumerate().for_each(|(image, y)| {
        y.par_chunks_mut(LINES * line).enumerate().for_each(|(i, y)| {
            let n = y.len() / line;
            scratch(Lines::len(u, n, w), |x_| {
                Lines::fill(u, x, image, i * LINES, n, 0..w, x_);
                arch().dispatch(Forward { lines: Lines { x: x_, w, cin, cout }, weights, y, out: Stream::new(len) });
            });
        });
    });
}

/// The convolution at some pixels, counted through all images, whenever they are asked for.
pub struct Pixels<'a> {
    /// Sizes, which [`suits`] takes.
    pub u: ConvU,
    /// \[images, h, w, cin\]
    pub x: &'a [f32],
    /// \[9, cin, cout\]
    pub weights: &'a [f32],
}

impl Currents for Pixels<'_> {
    fn room(&self, rows: usize) -> usize {
        rows * self.u.cout as usize + Lines::len(&self.u, 1, rows.min(self.u.w as usize))
    }
    #[inline(always)]
    fn of<'a>(&'a self, rows: Range<usize>, room: &'a mut [f32]) -> &'a [f32] {
        let (h, w, cin, cout) = (self.u.h as usize, self.u.w as usize, self.u.cin as usize, self.u.cout as usize);
        let (y, x) = room.split_at_mut(rows.len() * cout);
        // Line by line.
        let mut at = rows.start;
        while at < rows.end {
            let (line, column) = (at / w, at % w);
            let n = (w - column).min(rows.end - at);
            let x = &mut x[..Lines::len(&self.u, 1, n)];
            Lines::fill(&self.u, self.x, line / h, line % h, 1, column..column + n, x);
            let y = &mut y[(at - rows.start) * cout..(at - rows.start + n) * cout];
            let lines = Lines { x, w: n, cin, cout };
            arch().dispatch(Forward { lines, weights: self.weights, y, out: Stream::new(0) });
            at += n;
        }
        y
    }
    #[inline(always)]
    fn prefetch(&self, _: usize, _: usize) {}
}

/// x \[images, h, w, cin\], dy \[images, h, w, cout\] -> dw \[splits, 9, cin, cout\], each split over its own run of images.
pub fn weight(u: &ConvU, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (h, w, cin, cout, splits) = (u.h as usize, u.w as usize, u.cin as usize, u.cout as usize, u.splits as usize);
    dw.par_chunks_mut((9 * cin * cout).max(1)).enumerate().for_each(|(s, dw)| {
        let (first, end) = split_range(u.images as usize, splits, s);
        dw.fill(0.0);
        for image in first..end {
            for y in (0..h).step_by(LINES) {
                let n = LINES.min(h - y);
                let dy = &dy[(image * h + y) * w * cout..][..n * w * cout];
                scratch(Lines::len(u, n, w), |x_| {
                    Lines::fill(u, x, image, y, n, 0..w, x_);
                    arch().dispatch(Weight { lines: Lines { x: x_, w, cin, cout }, dy, dw });
                });
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This machine's vectors, AVX2's where it has them, and none: sums of dyadic numbers are exact.
    #[test]
    fn every_kind_of_vectors_agrees() {
        let mut rng = crate::rng::Rng::new(1);
        for (w, cin, cout) in [(5, 1, 16), (13, 2, 32), (20, 4, 48)] {
            let mut numbers = |n: usize| (0..n).map(|_| (rng.u32() % 16) as f32 / 8.0 - 1.0).collect::<Vec<_>>();
            let n = 3;
            let (x, weights, dy) = (numbers((n + 2) * (w + 2) * cin), numbers(9 * cin * cout), numbers(n * w * cout));
            let lines = || Lines { x: &x, w, cin, cout };
            // From line to line, and each pixel from the three around it.
            let mut expected = (vec![0.0f32; n * w * cout], vec![0.0f32; 9 * cin * cout]);
            for (i, p, tap, ci) in
                (0..n).flat_map(|i| (0..w).flat_map(move |p| (0..9 * cin).map(move |k| (i, p, k / cin, k % cin))))
            {
                let v = x[((i + tap / 3) * (w + 2) + p + tap % 3) * cin + ci];
                for co in 0..cout {
                    let (pixel, weight) = ((i * w + p) * cout + co, (tap * cin + ci) * cout + co);
                    expected.0[pixel] += v * weights[weight];
                    expected.1[weight] += v * dy[pixel];
                }
            }
            let run = |forward: &dyn Fn(Forward<'_>), weight: &dyn Fn(Weight<'_>)| {
                let (mut y, mut dw) = (vec![0.0; n * w * cout], vec![0.0; 9 * cin * cout]);
                forward(Forward { lines: lines(), weights: &weights, y: &mut y, out: Stream::new(0) });
                weight(Weight { lines: lines(), dy: &dy, dw: &mut dw });
                (y, dw)
            };
            let scalar = pulp::Scalar::new();
            assert_eq!(run(&|f| arch().dispatch(f), &|f| arch().dispatch(f)), expected, "{w} {cin} {cout}");
            assert_eq!(run(&|f| f.with_simd(scalar), &|f| f.with_simd(scalar)), expected, "{w} {cin} {cout}, without");
            #[cfg(target_arch = "x86_64")]
            if let Some(avx2) = pulp::x86::V3::try_new() {
                assert_eq!(run(&|f| Simd::vectorize(avx2, f), &|f| Simd::vectorize(avx2, f)), expected, "{w} {cin} {cout}, AVX2");
            }
        }
    }
}
