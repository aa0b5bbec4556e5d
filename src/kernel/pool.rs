//! Maximum over 3x3 windows, stride 2, padding 1: `[images, h, w, c]` -> `[images, (h + 1) / 2, (w + 1) / 2, c]`.
//!
//! Going back, the gradient of a window goes to its first maximum in row-major order, where PyTorch's MaxPool2d sends ties; a window
//! without a spike is a tie of all its places. Window (oy, ox) sees rows 2 oy - 1 to 2 oy + 1, so an even row is seen by one row of
//! windows and an odd one by two, and columns likewise.
//!
//! Planes of integer spikes are sorted before ([`super::spike::Sort`]): the maximum is then an OR of each, as if planes were images, and the
//! winner of a window the first place that has it in every plane.

use super::bits::keep;
use super::par::Stream;
use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd, words};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of all kernels here.
    pub struct PoolU {
        /// Images, all steps and samples.
        images: u32,
        /// Height of the input.
        h: u32,
        /// Width of the input.
        w: u32,
        /// Channels.
        c: u32,
        /// Planes of spikes, sorted ([`MaxBitsBackward`] only; of others 1, for [`MaxBits`] takes planes as images).
        planes: u32
    }
}

impl PoolU {
    /// Rows and columns of the output.
    pub fn out(&self) -> [usize; 2] {
        [(self.h as usize).div_ceil(2), (self.w as usize).div_ceil(2)]
    }
    fn input_len(&self, channels: usize) -> usize {
        self.images as usize * self.h as usize * self.w as usize * channels
    }
    fn output_len(&self, channels: usize) -> usize {
        let [ho, wo] = self.out();
        self.images as usize * ho * wo * channels
    }
    /// Rows of windows that one task takes: about 32K elements of the input.
    fn task(&self, channels: usize) -> usize {
        (1 << 14) / (self.w as usize * channels).max(1) + 1
    }
}

/// The rows of image `image` that window row `oy` sees, none where it lies outside; `n` elements a row.
#[inline(always)]
fn rows_of<'a, T>(x: &'a [T], u: &PoolU, image: usize, oy: usize, n: usize) -> [Option<&'a [T]>; 3] {
    let h = u.h as usize;
    std::array::from_fn(|k| {
        let iy = (2 * oy + k).checked_sub(1).filter(|&iy| iy < h)?;
        let at = (image * h + iy) * n;
        Some(&x[at..at + n])
    })
}

/// The combination of three rows and then of three columns, for [`MaxBits`] and [`Max`].
#[inline(always)]
fn pool<T: Copy>(rows: [Option<&[T]>; 3], y: &mut [T], n: usize, tall: &mut [T], f: impl Fn(T, T) -> T) {
    let mut any = false;
    for row in rows.into_iter().flatten() {
        if any {
            tall.iter_mut().zip(row).for_each(|(t, x)| *t = f(*t, *x));
        } else {
            tall.copy_from_slice(row);
        }
        any = true;
    }
    let w = tall.len() / n;
    for (ox, y) in y.chunks_mut(n).enumerate() {
        y.copy_from_slice(&tall[2 * ox * n..(2 * ox + 1) * n]);
        if ox > 0 {
            y.iter_mut().zip(&tall[(2 * ox - 1) * n..]).for_each(|(y, t)| *y = f(*y, *t));
        }
        if 2 * ox + 1 < w {
            y.iter_mut().zip(&tall[(2 * ox + 1) * n..]).for_each(|(y, t)| *y = f(*y, *t));
        }
    }
}

/// Runs [`pool`] over all images, `n` elements a place.
fn forward<T: Copy + Default + Send + Sync>(u: &PoolU, x: &[T], y: &mut [T], n: usize, f: impl Fn(T, T) -> T + Copy + Sync) {
    let [ho, wo] = u.out();
    let (w, task) = (u.w as usize, u.task(n));
    if y.is_empty() {
        return;
    }
    y.par_chunks_mut(ho * wo * n).enumerate().for_each(|(image, y)| {
        y.par_chunks_mut(task * wo * n).enumerate().for_each(|(t, y)| {
            simd(
                #[inline(always)]
                || {
                    let mut tall = vec![T::default(); w * n];
                    for (k, y) in y.chunks_mut(wo * n).enumerate() {
                        pool(rows_of(x, u, image, t * task + k, w * n), y, n, &mut tall, f);
                    }
                },
            )
        });
    });
}

/// Which window of the two (or one) in a direction, and the place in it: at `i`, (i / 2, 1) if even, else (i / 2, 2) and (i / 2 + 1, 0).
#[inline(always)]
fn seen(i: usize, windows: usize) -> [Option<(usize, usize)>; 2] {
    if i.is_multiple_of(2) {
        [Some((i / 2, 1)), None]
    } else {
        [Some((i / 2, 2)), (i / 2 + 1 < windows).then_some((i / 2 + 1, 0))]
    }
}

/// Who won the windows of a row of windows, in whatever form a kernel keeps it.
trait Winners: Send {
    /// Room for `wo` windows.
    fn new(u: &PoolU) -> Self;
    /// Finds the winners of window row `oy`.
    fn find(&mut self, x: &[u32], u: &PoolU, image: usize, oy: usize);
    /// dst, of `out`, = sum over terms (gradient, winners, window, place in the window) of the gradient where that place won.
    fn gather<const N: usize>(out: &Stream, dst: &mut [f32], terms: [(&[f32], &Self, usize, usize); N], c: usize);
}

/// dx of all images: tasks of window rows, each of which finds the winners of one row more than it owns.
fn backward<W: Winners>(u: &PoolU, x: &[u32], dy: &[f32], dx: &mut [f32]) {
    let [ho, wo] = u.out();
    let (h, w, c) = (u.h as usize, u.w as usize, u.c as usize);
    if dx.is_empty() {
        return;
    }
    let (task, len) = (u.task(c), dx.len());
    dx.par_chunks_mut(h * w * c).enumerate().for_each(|(image, dx)| {
        dx.par_chunks_mut(2 * task * w * c).enumerate().for_each(|(t, dx)| {
            simd(
                #[inline(always)]
                || {
                    let (mut here, mut below, out) = (W::new(u), W::new(u), &Stream::new(len));
                    here.find(x, u, image, t * task);
                    for (k, pair) in dx.chunks_mut(2 * w * c).enumerate() {
                        let oy = t * task + k;
                        let dy = |row: usize| &dy[(image * ho + row) * wo * c..(image * ho + row + 1) * wo * c];
                        let (even, odd) = pair.split_at_mut(w * c);
                        row_back::<W>(out, even, [Some((&here, dy(oy), 1)), None], wo, c);
                        if oy + 1 < ho {
                            below.find(x, u, image, oy + 1);
                        }
                        if !odd.is_empty() {
                            let next = (oy + 1 < ho).then(|| (&below, dy(oy + 1), 0));
                            row_back::<W>(out, odd, [Some((&here, dy(oy), 2)), next], wo, c);
                        }
                        std::mem::swap(&mut here, &mut below);
                    }
                },
            )
        });
    });
}

/// One row of dx from the one or two window rows that see it: their winners, gradient, and the place of the row in the window.
#[inline(always)]
fn row_back<W: Winners>(out: &Stream, dx: &mut [f32], from: [Option<(&W, &[f32], usize)>; 2], wo: usize, c: usize) {
    for (ix, dst) in dx.chunks_mut(c).enumerate() {
        let columns = seen(ix, wo);
        let term = |row: usize, column: usize| {
            let ((winners, dy, ky), (ox, kx)) = (from[row]?, columns[column]?);
            Some((&dy[ox * c..(ox + 1) * c], winners, ox, 3 * ky + kx))
        };
        match (term(0, 0), term(0, 1), term(1, 0), term(1, 1)) {
            (Some(a), Some(b), Some(c1), Some(d)) => W::gather(out, dst, [a, b, c1, d], c),
            (Some(a), Some(b), None, None) | (Some(a), None, Some(b), None) => W::gather(out, dst, [a, b], c),
            (Some(a), ..) => W::gather(out, dst, [a], c),
            _ => dst.fill(0.0),
        }
    }
}

/// x bits\[images, h, w, c\] -> y bits\[images, ho, wo, c\].
pub struct MaxBits;

impl Kernel for MaxBits {
    head!("pool/max_bits", PoolU, [x: ReadU32, y: WriteU32]);
    fn threads(&self, u: &PoolU) -> usize {
        u.output_len(words(u.c as usize))
    }
    fn cpu(&self, u: &PoolU, args: &mut Args<'_>) {
        forward(u, args.u32(0), args.out_u32(0), words(u.c as usize), |a, b| a | b);
    }
    fn cases(&self) -> Vec<Case<PoolU>> {
        let mut g = Gen::new("pool/max_bits");
        let case = |u: PoolU| {
            let nw = words(u.c as usize);
            let x = g.bits(u.input_len(1), u.c as usize, 0.1);
            Case::new(name(&u), u, vec![x], vec![u.output_len(nw)])
        };
        shapes().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// The shapes of the cases.
fn shapes() -> impl Iterator<Item = PoolU> {
    [(0, 4, 4, 8), (1, 1, 1, 1), (2, 2, 2, 32), (3, 5, 4, 33), (2, 1, 7, 5), (2, 7, 1, 64), (1, 33, 31, 70), (2, 64, 64, 32)]
        .map(|(images, h, w, c)| PoolU { images, h, w, c, planes: 1 })
        .into_iter()
}

fn name(u: &PoolU) -> String {
    format!("[{}, {}, {}, {}]", u.images, u.h, u.w, u.c)
}

/// Winners of packed spikes: nine masks a word, `[9, wo, words(c)]`.
struct BitWinners {
    masks: Vec<u32>,
    stride: usize,
    nw: usize,
}

impl Winners for BitWinners {
    #[inline(always)]
    fn new(u: &PoolU) -> Self {
        let nw = words(u.c as usize);
        let stride = u.out()[1] * nw;
        BitWinners { masks: vec![0; 9 * stride], stride, nw }
    }
    #[inline(always)]
    fn find(&mut self, x: &[u32], u: &PoolU, image: usize, oy: usize) {
        let (w, nw, stride) = (u.w as usize, self.nw, self.stride);
        let wo = stride / nw;
        if u.planes > 1 {
            return self.find_in_planes(x, u, image, oy);
        }
        let rows = rows_of(x, u, image, oy, w * nw);
        for (ox, word) in (0..wo).flat_map(|ox| (0..nw).map(move |word| (ox, word))) {
            let inner = ox > 0 && 2 * ox + 1 < w;
            let mut any = 0u32;
            let (mut masks, first) = ([0u32; 9], if oy == 0 { 3 } else { 0 } + usize::from(ox == 0));
            for (ky, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                for kx in 0..3 {
                    if inner || (ox > 0 || kx > 0) && 2 * ox + kx <= w {
                        let v = row[(2 * ox + kx - 1) * nw + word];
                        masks[3 * ky + kx] = v & !any;
                        any |= v;
                    }
                }
            }
            masks[first] |= !any;
            for (p, m) in masks.into_iter().enumerate() {
                self.masks[p * stride + ox * nw + word] = m;
            }
        }
    }
    #[inline(always)]
    fn gather<const N: usize>(out: &Stream, dst: &mut [f32], terms: [(&[f32], &Self, usize, usize); N], _: usize) {
        for (word, dst) in dst.chunks_mut(32).enumerate() {
            let masks = terms.map(|(_, w, ox, p)| w.masks[p * w.stride + ox * w.nw + word]);
            let n = dst.len();
            let from = terms.map(|t| &t.0[word * 32..word * 32 + n]);
            if n == 32 {
                // Copies: where a value might not be read, each is branched for.
                let from = from.map(|f| <[f32; 32]>::try_from(f).unwrap_or([0.0; 32]));
                let mut sum = [0.0; 32];
                for k in 0..32 {
                    sum[k] = keep(from[0][k], masks[0], k);
                }
                for j in 1..N {
                    for k in 0..32 {
                        sum[k] += keep(from[j][k], masks[j], k);
                    }
                }
                out.write(dst, &sum);
            } else {
                for k in 0..n {
                    let mut sum = keep(from[0][k], masks[0], k);
                    for j in 1..N {
                        sum += keep(from[j][k], masks[j], k);
                    }
                    dst[k] = sum;
                }
            }
        }
    }
}

impl BitWinners {
    /// [`Winners::find`] of integer spikes: whoever has the maximum, plane by plane.
    fn find_in_planes(&mut self, x: &[u32], u: &PoolU, image: usize, oy: usize) {
        let (h, w, nw, stride) = (u.h as usize, u.w as usize, self.nw, self.stride);
        let plane = u.images as usize * h * w * nw;
        for (ox, word) in (0..stride / nw).flat_map(|ox| (0..nw).map(move |word| (ox, word))) {
            // Where each place of the window that lies inside has its word.
            let at = |p: usize| {
                let (iy, ix) = ((2 * oy + p / 3).checked_sub(1)?, (2 * ox + p % 3).checked_sub(1)?);
                (iy < h && ix < w).then_some(((image * h + iy) * w + ix) * nw + word)
            };
            let places: [Option<usize>; 9] = std::array::from_fn(at);
            let mut have = places.map(|at| if at.is_some() { !0u32 } else { 0 });
            for x in x.chunks_exact(plane) {
                let most = places.iter().flatten().fold(0, |most, at| most | x[*at]);
                for (have, at) in have.iter_mut().zip(places) {
                    *have &= at.map_or(0, |at| !(x[at] ^ most));
                }
            }
            let mut taken = 0;
            for (p, have) in have.into_iter().enumerate() {
                self.masks[p * stride + ox * nw + word] = have & !taken;
                taken |= have;
            }
        }
    }
}

/// x bits\[planes, images, h, w, c\], sorted, dy\[images, ho, wo, c\] -> dx\[images, h, w, c\].
pub struct MaxBitsBackward;

impl Kernel for MaxBitsBackward {
    head!("pool/max_bits_backward", PoolU, [x: ReadU32, dy: ReadF32, dx: WriteF32]);
    fn threads(&self, u: &PoolU) -> usize {
        u.input_len(u.c as usize)
    }
    fn cpu(&self, u: &PoolU, args: &mut Args<'_>) {
        backward::<BitWinners>(u, args.u32(0), args.f32(1), args.out_f32(0));
    }
    fn cases(&self) -> Vec<Case<PoolU>> {
        let mut g = Gen::new("pool/max_bits_backward");
        let mut cases = Vec::new();
        for u in shapes() {
            for rate in [0.0, 0.1, 0.6] {
                let c = u.c as usize;
                let inputs = vec![g.bits(u.input_len(1), c, rate), g.f32s(u.output_len(c))];
                cases.push(Case::new(format!("{} rate {rate}", name(&u)), u, inputs, vec![u.input_len(c)]));
            }
        }
        // In three planes, each of which is a part of the one before.
        for u in shapes().map(|u| PoolU { planes: 3, ..u }) {
            let (c, n) = (u.c as usize, u.input_len(1));
            let (Data::U32(mut x), dy) = (g.bits(3 * n, c, 0.5), g.f32s(u.output_len(c))) else { continue };
            for i in n * words(c)..x.len() {
                x[i] &= x[i - n * words(c)];
            }
            cases.push(Case::new(format!("{}, three planes", name(&u)), u, vec![Data::U32(x), dy], vec![u.input_len(c)]));
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// x\[images, h, w, c\] -> y\[images, ho, wo, c\].
pub struct Max;

impl Kernel for Max {
    head!("pool/max", PoolU, [x: ReadF32, y: WriteF32]);
    fn threads(&self, u: &PoolU) -> usize {
        u.output_len(u.c as usize)
    }
    fn cpu(&self, u: &PoolU, args: &mut Args<'_>) {
        forward(u, args.f32(0), args.out_f32(0), u.c as usize, |a, b| if b > a { b } else { a });
    }
    fn cases(&self) -> Vec<Case<PoolU>> {
        let mut g = Gen::new("pool/max");
        let case = |u: PoolU| Case::new(name(&u), u, vec![g.f32s(u.input_len(u.c as usize))], vec![u.output_len(u.c as usize)]);
        shapes().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Winners of floats: the place in the window of each, `[wo, c]`.
struct PlaceWinners {
    places: Vec<u32>,
    best: Vec<f32>,
}

impl Winners for PlaceWinners {
    #[inline(always)]
    fn new(u: &PoolU) -> Self {
        let c = u.c as usize;
        PlaceWinners { places: vec![0; u.out()[1] * c], best: vec![0.0; c] }
    }
    #[inline(always)]
    fn find(&mut self, x: &[u32], u: &PoolU, image: usize, oy: usize) {
        let (w, c) = (u.w as usize, u.c as usize);
        let rows = rows_of(bytemuck::cast_slice::<u32, f32>(x), u, image, oy, w * c);
        for (ox, places) in self.places.chunks_mut(c).enumerate() {
            let mut first = true;
            for (ky, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                for kx in 0..3 {
                    let Some(ix) = (2 * ox + kx).checked_sub(1).filter(|&ix| ix < w) else { continue };
                    let (p, row) = (3 * ky as u32 + kx as u32, &row[ix * c..(ix + 1) * c]);
                    if first {
                        self.best.copy_from_slice(row);
                        places.fill(p);
                        first = false;
                        continue;
                    }
                    for ((place, best), &v) in places.iter_mut().zip(&mut self.best).zip(row) {
                        let over = v > *best;
                        *best = if over { v } else { *best };
                        *place = if over { p } else { *place };
                    }
                }
            }
        }
    }
    #[inline(always)]
    fn gather<const N: usize>(_: &Stream, dst: &mut [f32], terms: [(&[f32], &Self, usize, usize); N], c: usize) {
        let places = terms.map(|(_, w, ox, _)| &w.places[ox * c..(ox + 1) * c]);
        let from = terms.map(|t| &t.0[..c]);
        for k in 0..dst.len() {
            let term = |j: usize| if places[j][k] == terms[j].3 as u32 { from[j][k] } else { 0.0 };
            let mut sum = term(0);
            for j in 1..N {
                sum += term(j);
            }
            dst[k] = sum;
        }
    }
}

/// x\[images, h, w, c\], dy\[images, ho, wo, c\] -> dx\[images, h, w, c\].
pub struct MaxBackward;

impl Kernel for MaxBackward {
    head!("pool/max_backward", PoolU, [x: ReadF32, dy: ReadF32, dx: WriteF32]);
    fn threads(&self, u: &PoolU) -> usize {
        u.input_len(u.c as usize)
    }
    fn cpu(&self, u: &PoolU, args: &mut Args<'_>) {
        backward::<PlaceWinners>(u, args.u32(0), args.f32(1), args.out_f32(0));
    }
    fn cases(&self) -> Vec<Case<PoolU>> {
        let mut g = Gen::new("pool/max_backward");
        let mut cases = Vec::new();
        for u in shapes() {
            let (n, m) = (u.input_len(u.c as usize), u.output_len(u.c as usize));
            cases.push(Case::new(name(&u), u, vec![g.f32s(n), g.f32s(m)], vec![n]));
            // Small integers and zeros: ties everywhere.
            cases.push(Case::new(format!("{} ties", name(&u)), u, vec![g.counts(n), g.f32s(m)], vec![n]));
        }
        let u = PoolU { images: 1, h: 2, w: 2, c: 1, planes: 1 };
        let low = vec![f32::NEG_INFINITY, -1e38, f32::NEG_INFINITY, f32::NEG_INFINITY];
        cases.push(Case::new("extremes", u, vec![Data::F32(low), Data::F32(vec![2.0])], vec![4]));
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(MaxBits), Box::new(MaxBitsBackward), Box::new(Max), Box::new(MaxBackward)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dx of windows walked one by one.
    fn naive(u: &PoolU, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let ([ho, wo], [h, w, c]) = (u.out(), [u.h as usize, u.w as usize, u.c as usize]);
        let mut dx = vec![0.0; x.len()];
        for (i, d) in dy.iter().enumerate() {
            let (ch, ox, oy, image) = (i % c, i / c % wo, i / c / wo % ho, i / c / wo / ho);
            let mut best: Option<usize> = None;
            for (iy, ix) in (0..9).map(|p| (2 * oy + p / 3, 2 * ox + p % 3)) {
                if (1..=h).contains(&iy) && (1..=w).contains(&ix) {
                    let at = ((image * h + iy - 1) * w + ix - 1) * c + ch;
                    if best.is_none_or(|b| x[at] > x[b]) {
                        best = Some(at);
                    }
                }
            }
            dx[best.unwrap_or(0)] += d;
        }
        dx
    }

    #[test]
    fn backward_follows_the_tie_rule() {
        for u in shapes() {
            let (n, m) = (u.input_len(u.c as usize), u.output_len(u.c as usize));
            let mut g = Gen::new("naive");
            let (Data::F32(x), dy) = (g.counts(n), g.dyadic(m)) else { return };
            let run = |k: &dyn AnyKernel, x: &[u32]| {
                let mut dx = vec![u32::MAX; n];
                k.cpu(bytemuck::bytes_of(&u), &mut Args::new(vec![x, dy.words()], vec![&mut dx]));
                bytemuck::cast_vec::<u32, f32>(dx)
            };
            let dy = bytemuck::cast_slice(dy.words());
            assert_eq!(run(&MaxBackward, bytemuck::cast_slice(&x)), naive(&u, &x, dy), "{u:?}");
            let nw = words(u.c as usize);
            let mut bits = vec![0; u.input_len(nw)];
            bits.chunks_mut(nw).zip(x.chunks(u.c as usize)).for_each(|(b, x)| crate::kernel::bits::pack(b, x));
            let spikes: Vec<f32> = x.iter().map(|&v| f32::from(u8::from(v != 0.0))).collect();
            assert_eq!(run(&MaxBitsBackward, &bits), naive(&u, &spikes, dy), "{u:?}");
        }
    }

    /// A gradient that is written past the caches is that of each image by itself.
    #[test]
    fn long_gradients() {
        let u = PoolU { images: 8, h: 128, w: 128, c: 32, planes: 1 };
        let mut g = Gen::new("long");
        let (x, dy) = (g.bits(u.input_len(1), 32, 0.2), g.f32s(u.output_len(32)));
        let run = |u: &PoolU, x: &[u32], dy: &[u32]| {
            let mut dx = vec![0; u.input_len(32)];
            Kernel::cpu(&MaxBitsBackward, u, &mut Args::new(vec![x, dy], vec![&mut dx]));
            dx
        };
        let one = PoolU { images: 1, ..u };
        let (xs, dys) = (x.words().chunks(one.input_len(1)), dy.words().chunks(one.output_len(32)));
        let each: Vec<u32> = xs.zip(dys).flat_map(|(x, dy)| run(&one, x, dy)).collect();
        assert!(each.len() >= Stream::FROM && run(&u, x.words(), dy.words()) == each);
    }
}
