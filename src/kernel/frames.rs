//! Training of neurons behind a 3x3 convolution of event frames and a batch norm, without ever storing the currents between them: they are
//! the largest map of a network, and a few multiplications each make them again.
//!
//! What a batch norm wants of currents y = P w, P \[rows, K\] the patches of K = 9 x cin taps, follows from the moments of the patches: with
//! m = sum P / rows and C = P^T P / rows - m m^T the mean of channel c is m w_c, its variance w_c^T C w_c. Forward is
//! [`conv/fire_counts`](super::fire::FireCounts). Backward makes currents once more, tile by tile ([`Backward`]), and what the norm's
//! statistics add to the gradient of the weights, P^T dy, follows from the moments again ([`Weight`]), so that dy is not stored either.
//!
//! Differences of moments lose what the patches have in common. Frames that are mostly zero have little, and sums of their counts are exact
//! up to 2^24 in eight lines; of images whose pixels are nearly alike the digits of a small variance would be lost, and networks do not go this way
//! ([`crate::ops::frames::pays`]).

use super::conv::ConvU;
use super::neuron::backward::{self, Buffers, Wanted};
use super::neuron::{NeuronU, settings};
use super::thin::{self, Pixels};
use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::neuron::{Neuron, NeuronKind};
use crate::surrogate::{SurrogateKind, with_surrogate};
use crate::{uniform, with_model};
use rayon::prelude::*;

/// Whether these kernels take such a convolution: at most four input channels, whole vectors of output channels.
pub fn suits(u: &ConvU) -> bool {
    thin::suits(u)
}

/// x f32\[images, h, w, cin\] -> moments\[K + 1, K\] of its patches: in row 0 the sum under each tap, below it the sums of products of two
/// taps. A tap beyond the border holds zero.
pub struct Moments;

/// Columns that two taps lie apart at most, to either side, and lines, downwards.
const APART: usize = 2;
/// Values of five neighbours of four channels.
const LANES: usize = (2 * APART + 1) * 4;
/// Lines of an image that one task takes.
const LINES: usize = 64;
/// Lines whose sums are added up in f32: few, for rounding the same number at every addition adds up too.
const FEW: usize = 8;

/// Products of each value of some images with its neighbours: x\[y, x, ci\] with x\[y + d, x + s, cj\], for d in 0..=2 and s in -2..=2, which is what two
/// taps see. Values at borders are added up apart, for not every tap sees them.
struct Neighbours {
    cin: usize,
    /// \[16 borders, cin\] of the sum of the values, and that of the products \[d, (s, cj)\].
    sums: Vec<f64>,
}

impl Neighbours {
    /// Sums of a border and channel.
    const SIZE: usize = 1 + (1 + APART) * LANES;

    fn of(u: &ConvU, x: &[f32]) -> Self {
        let (h, w, cin) = (u.h as usize, u.w as usize, u.cin as usize);
        // Lines in whole words, and as many values behind each place as are looked at.
        let (tasks, wide) = (h.div_ceil(LINES), APART * cin + (w * cin).next_multiple_of(32) + LANES);
        let border = |i: usize, n: usize| usize::from(i == 0) + 2 * usize::from(i + 1 == n);
        // Tasks are added up in one order.
        let part = |task: usize| {
            let (image, first) = (task / tasks, task % tasks * LINES);
            let lines = (h - first).min(LINES);
            let mut around = vec![0.0; (lines + APART) * wide];
            for (line, y) in around.chunks_exact_mut(wide).zip(first..h) {
                line[APART * cin..(APART + w) * cin].copy_from_slice(&x[(image * h + y) * w * cin..][..w * cin]);
            }
            let (mut sums, mut all) = (vec![0.0f32; 16 * cin * Self::SIZE], vec![0.0f64; 16 * cin * Self::SIZE]);
            simd(
                #[inline(always)]
                || {
                    for y in 0..lines {
                        let line = &around[y * wide + APART * cin..(y + 1) * wide];
                        for (first_of_block, block) in (0..).step_by(32).zip(line.as_chunks::<32>().0) {
                            // Looked for by whole words: most is zero.
                            let mut left = 0;
                            for k in 0..32 {
                                left |= u32::from(block[k] != 0.0) << k;
                            }
                            while left != 0 {
                                let i = first_of_block + left.trailing_zeros() as usize;
                                left &= left - 1;
                                let (value, column, ci) = (line[i], i / cin, i % cin);
                                let at = 4 * border(first + y, h) + border(column, w);
                                let sums = &mut sums[(at * cin + ci) * Self::SIZE..][..Self::SIZE];
                                sums[0] += value;
                                for (d, sums) in sums[1..].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                                    // Copies, which nothing else can point to.
                                    let values = around[(y + d) * wide + column * cin..].as_chunks::<LANES>().0[0];
                                    let mut lanes = *sums;
                                    for k in 0..LANES {
                                        lanes[k] += value * values[k];
                                    }
                                    *sums = lanes;
                                }
                            }
                        }
                        if y % FEW + 1 == FEW || y + 1 == lines {
                            all.iter_mut().zip(&sums).for_each(|(all, s)| *all += f64::from(*s));
                            sums.fill(0.0);
                        }
                    }
                },
            );
            all
        };
        let parts: Vec<Vec<f64>> = (0..u.images as usize * tasks).into_par_iter().map(part).collect();
        let mut sums = vec![0.0; 16 * cin * Self::SIZE];
        parts.iter().for_each(|part| sums.iter_mut().zip(part).for_each(|(s, p)| *s += p));
        Neighbours { cin, sums }
    }
    /// What entry `at` of the sums is for the values of channel `ci` that a tap sees: not the last line where it lies above, nor the
    /// first where it lies below.
    fn seen(&self, tap: usize, ci: usize, at: usize) -> f64 {
        let sees = |border: usize, tap: usize| [border & 2 == 0, true, border & 1 == 0][tap];
        let borders = (0..16).filter(|b| sees(b / 4, tap / 3) && sees(b % 4, tap % 3));
        borders.map(|b| self.sums[(b * self.cin + ci) * Self::SIZE + at]).sum()
    }
    /// The sum under tap x input channel `k`.
    fn sum(&self, k: usize) -> f64 {
        self.seen(k / self.cin, k % self.cin, 0)
    }
    /// That of the products of `k` and of `j`, which is not before it.
    fn product(&self, k: usize, j: usize) -> f64 {
        let (tap, other) = (k / self.cin, j / self.cin);
        let (down, across) = (other / 3 - tap / 3, APART + other % 3 - tap % 3);
        self.seen(tap, k % self.cin, 1 + down * LANES + across * self.cin + j % self.cin)
    }
}

/// Parts of the rows of patches, each for a group on a GPU: `parts()` of the shader.
fn parts(u: &ConvU) -> usize {
    ((u.images * u.h * u.w) as usize).div_ceil(1024).clamp(1, 256)
}

/// (images, h, w, cin)
const IMAGES: [[u32; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 3, 5, 2],
    [1, 19, 40, 3],
    [3, 18, 33, 4],
    [0, 4, 4, 2],
    [2, 1, 70, 2],
    [5, 40, 16, 1],
    [2, 129, 3, 2],
    [2, 7, 1, 4],
];

impl Kernel for Moments {
    head!("frames/moments", ConvU, [x: ReadF32, moments: WriteF32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &ConvU) -> usize {
        256 * parts(u)
    }
    fn finish(&self, u: &ConvU) -> Option<[usize; 2]> {
        let k = u.taps();
        Some([parts(u) * (k + 1) * k, (k + 1) * k])
    }
    fn cpu(&self, u: &ConvU, args: &mut Args<'_>) {
        let (products, moments) = (Neighbours::of(u, args.f32(0)), args.out_f32(0));
        let k = u.taps();
        for (i, moment) in moments.iter_mut().enumerate() {
            *moment = match (i / k).checked_sub(1) {
                None => products.sum(i),
                Some(tap) => products.product(tap.min(i % k), tap.max(i % k)),
            } as f32;
        }
    }
    fn cases(&self) -> Vec<Case<ConvU>> {
        let mut g = Gen::new("frames/moments");
        let mut cases = Vec::new();
        for [images, h, w, cin] in IMAGES {
            let u = ConvU { images, h, w, cin, cout: 16, planes: 1, splits: 1, exact: 0 };
            let (n, k) = ((images * h * w * cin) as usize, u.taps());
            let name = format!("[{images}, {h}, {w}, {cin}]");
            cases.push(Case::new(format!("{name} counts"), u, vec![g.counts(n)], vec![(k + 1) * k]).exact());
            cases.push(Case::new(name, u, vec![g.f32s(n)], vec![(k + 1) * k]));
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`Stats`], [`Sums`] and [`Weight`].
    pub struct MomentsU {
        /// Rows that the moments are of.
        rows: u32,
        /// K, taps x input channels.
        k: u32,
        /// Output channels.
        c: u32,
        /// Added to the variance.
        eps: f32
    }
}

/// moments\[K + 1, K\], w\[K, c\] -> mean\[c\], variance\[c\] (biased) of what the weights make of the patches.
pub struct Stats;

/// (rows, K, c) of the cases.
const SIZES: [[u32; 3]; 4] = [[1, 9, 16], [4096, 18, 48], [500, 36, 33], [0, 18, 16]];

/// Moments of patches that are zero in nine places of ten.
fn moments(g: &mut Gen, u: &MomentsU) -> Data {
    let (rows, k) = (u.rows as usize, u.k as usize);
    let Data::F32(p) = g.counts(rows * k) else { unreachable!() };
    let mut m = vec![0.0; (k + 1) * k];
    for p in p.chunks_exact(k) {
        for i in 0..k {
            m[i] += p[i];
            (0..k).for_each(|j| m[(1 + i) * k + j] += p[i] * p[j]);
        }
    }
    Data::F32(m)
}

impl Kernel for Stats {
    head!("frames/stats", MomentsU, [moments: ReadF32, w: ReadF32, mean: WriteF32, variance: WriteF32]);
    fn threads(&self, u: &MomentsU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &MomentsU, args: &mut Args<'_>) {
        let (k, c) = (u.k as usize, (u.c as usize).max(1));
        let ((sums, products), w) = (args.f32(0).split_at(k), args.f32(1));
        let (mean, variance) = (args.out_f32(0), args.out_f32(1));
        let n = f64::from(u.rows.max(1));
        let m: Vec<f64> = sums.iter().map(|s| f64::from(*s) / n).collect();
        for (i, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
            let w: Vec<f64> = w[i..].iter().step_by(c).map(|w| f64::from(*w)).collect();
            let square = |(m, p): (&f64, &[f32])| -> f64 { m * w.iter().zip(p).map(|(w, p)| w * f64::from(*p)).sum::<f64>() };
            let about: f64 = w.iter().zip(&m).map(|(w, m)| w * m).sum();
            let squares: f64 = w.iter().zip(products.chunks_exact(k)).map(square).sum::<f64>() / n;
            *mean = about as f32;
            *variance = (squares - about * about).max(0.0) as f32;
        }
    }
    fn cases(&self) -> Vec<Case<MomentsU>> {
        let mut g = Gen::new("frames/stats");
        SIZES
            .map(|[rows, k, c]| {
                let u = MomentsU { rows, k, c, eps: 0.0 };
                let inputs = vec![moments(&mut g, &u), g.f32s((k * c) as usize)];
                Case::new(format!("{rows} rows, {k} to {c}"), u, inputs, vec![c as usize; 2])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`Backward`].
    pub struct BackwardU {
        /// Images (T x B).
        images: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Input channels.
        cin: u32,
        /// Output channels.
        cout: u32,
        /// T.
        steps: u32,
        /// 1/tau.
        k: f32,
        /// Where the leak pulls to, and the start.
        rest: f32,
        /// Threshold.
        v_threshold: f32,
        /// Whether the reset subtracts the threshold.
        soft: u32,
        /// Whether the input is divided by tau.
        decay_input: u32,
        /// Whether the reset is left out of the gradient.
        detach_reset: u32,
        /// Steepness of the surrogate.
        alpha: f32
    }
}

impl BackwardU {
    /// Neurons behind a convolution over `steps` x B images.
    pub fn new(conv: &ConvU, n: &Neuron, steps: usize) -> Self {
        let n = NeuronU::new(n, steps, 0, 0);
        BackwardU {
            images: conv.images,
            h: conv.h,
            w: conv.w,
            cin: conv.cin,
            cout: conv.cout,
            steps: n.steps,
            k: n.k,
            rest: n.rest,
            v_threshold: n.v_threshold,
            soft: n.soft,
            decay_input: n.decay_input,
            detach_reset: n.detach_reset,
            alpha: n.alpha,
        }
    }
    fn conv(&self) -> ConvU {
        let (images, h, w, cin, cout) = (self.images, self.h, self.w, self.cin, self.cout);
        ConvU { images, h, w, cin, cout, planes: 1, splits: 1, exact: 0 }
    }
    /// Places x samples.
    fn rows(&self) -> u32 {
        (self.images * self.h * self.w).checked_div(self.steps).unwrap_or(0)
    }
}

/// x f32\[T, B, h, w, cin\], w\[9, cin, cout\], a\[cout\], b\[cout\], ds\[T, B, h, w, cout\] -> dz\[T, B, h, w, cout\] as
/// [`neuron/backward`](super::neuron::Backward) has it of the currents that w makes of x, sum\[cout\] of dz. For neurons whose tau is not learned.
pub struct Backward {
    /// Charge function.
    pub kind: NeuronKind,
    /// Surrogate gradient.
    pub surrogate: SurrogateKind,
}

impl Kernel for Backward {
    head!(
        "frames/backward",
        BackwardU,
        [x: ReadF32, w: ReadF32, a: ReadF32, b: ReadF32, ds: ReadF32, dz: WriteF32, sum: WriteF32]
    );
    fn variant(&self) -> String {
        format!("{}, {}", self.kind.key(), self.surrogate.key())
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into()), ("surrogate", self.surrogate.wgsl().into())]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &BackwardU) -> usize {
        backward::norm_parts(u.rows()) * (u.cout as usize).div_ceil(32) * 256
    }
    fn finish(&self, u: &BackwardU) -> Option<[usize; 2]> {
        Some([backward::norm_parts(u.rows()) * u.cout as usize, (u.cout as usize).div_ceil(32) * 256])
    }
    fn onto(&self) -> Option<usize> {
        Some(4)
    }
    fn cpu(&self, u: &BackwardU, args: &mut Args<'_>) {
        let currents = Pixels { u: u.conv(), x: args.f32(0), weights: args.f32(1) };
        let (a, b, ds) = (args.f32(2), args.f32(3), args.f32(4));
        let n = NeuronU {
            steps: u.steps,
            rows: u.rows(),
            c: u.cout,
            affine: 1,
            has_v0: 0,
            store_v: 0,
            store_v_seq: 0,
            learned: 0,
            k: u.k,
            rest: u.rest,
            v_threshold: u.v_threshold,
            soft: u.soft,
            decay_input: u.decay_input,
            detach_reset: u.detach_reset,
            alpha: u.alpha,
        };
        let io = Buffers { a, b, w: &[], ds, dv: &[], dz: args.out_f32(0), dw: &mut [] };
        let total = with_surrogate!(self.surrogate, S => {
            with_model!(self.kind, M => backward::run::<M, S>(&n, &currents, io, Wanted::Alone))
        });
        args.out_f32(1).iter_mut().zip(total).for_each(|(s, t)| *s = t as f32);
    }
    fn cases(&self) -> Vec<Case<BackwardU>> {
        let mut g = Gen::new("frames/backward");
        let mut out = Vec::new();
        for (name, n) in settings(self.kind, self.surrogate, 2.0) {
            for (steps, samples, h, w, cin, cout) in
                [(4, 1, 3, 4, 2, 32), (3, 2, 5, 37, 1, 16), (1, 1, 7, 19, 4, 48), (2, 0, 4, 4, 2, 16), (3, 3, 1, 1, 3, 16)]
            {
                let conv = ConvU { images: steps * samples, h, w, cin, cout, planes: 1, splits: 1, exact: 0 };
                let u = BackwardU::new(&conv, &n, steps as usize);
                let (pixels, c) = ((conv.images * h * w) as usize, cout as usize);
                let inputs = vec![
                    g.counts(pixels * cin as usize),
                    g.dyadic(conv.taps() * c),
                    g.dyadic(c),
                    g.dyadic(c),
                    g.f32s(pixels * c),
                ];
                let name = format!("{name} [{steps}, {samples}, {h}, {w}, {cin}] to {cout}");
                out.push(Case::new(name, u, inputs, vec![pixels * c, c]));
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-5)
    }
}

/// dw_z\[K, c\] = P^T dz, sum\[c\] of dz, w\[K, c\], mean\[c\] -> sums\[2, c\] of dz and of dz (y - mean), as [`BackwardReduce`](super::norm::BackwardReduce)
/// gives them: the second is w_c^T dw_z - mean times the first.
pub struct Sums;

impl Kernel for Sums {
    head!("frames/sums", MomentsU, [dw_z: ReadF32, sum: ReadF32, w: ReadF32, mean: ReadF32, sums: WriteF32]);
    fn threads(&self, u: &MomentsU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &MomentsU, args: &mut Args<'_>) {
        let (dw_z, sum, w, mean) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3));
        let c = u.c as usize;
        let (s1, s2) = args.out_f32(0).split_at_mut(c);
        s1.copy_from_slice(sum);
        for i in 0..c {
            let product = |k: usize| f64::from(dw_z[k * c + i]) * f64::from(w[k * c + i]);
            let products: f64 = (0..u.k as usize).map(product).sum();
            s2[i] = (products - f64::from(mean[i]) * f64::from(sum[i])) as f32;
        }
    }
    fn cases(&self) -> Vec<Case<MomentsU>> {
        let mut g = Gen::new("frames/sums");
        SIZES
            .map(|[rows, k, c]| {
                let (n, u) = (c as usize, MomentsU { rows, k, c, eps: 0.0 });
                let inputs = vec![g.f32s(k as usize * n), g.f32s(n), g.f32s(k as usize * n), g.f32s(n)];
                Case::new(format!("{k} to {c}"), u, inputs, vec![2 * n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

/// moments\[K + 1, K\], dw_z\[K, c\], sums\[2, c\], w\[K, c\], gamma\[c\], mean\[c\], variance\[c\] -> dw\[K, c\] through the batch norm, from what
/// [`Sums`] has.
///
/// With dy of [`BackwardInput`](super::norm::BackwardInput): P^T dy = gamma / sigma (P^T dz - s1 / rows P^T 1 - s2 / (rows sigma^2)
/// (P^T P w - mean P^T 1)).
pub struct Weight;

impl Kernel for Weight {
    head!(
        "frames/weight",
        MomentsU,
        [moments: ReadF32, dw_z: ReadF32, sums: ReadF32, w: ReadF32, gamma: ReadF32, mean: ReadF32, variance: ReadF32, dw: WriteF32]
    );
    fn threads(&self, u: &MomentsU) -> usize {
        u.k as usize * u.c as usize
    }
    fn cpu(&self, u: &MomentsU, args: &mut Args<'_>) {
        let (k, c) = (u.k as usize, (u.c as usize).max(1));
        let ((taps, products), dw_z) = (args.f32(0).split_at(k), args.f32(1));
        let ((s1, s2), w) = (args.f32(2).split_at(u.c as usize), args.f32(3));
        let (gamma, mean, variance) = (args.f32(4), args.f32(5), args.f32(6));
        let n = 1.0 / u.rows.max(1) as f32;
        for (tap, dw) in args.out_f32(0).chunks_exact_mut(c).enumerate() {
            dw.fill(0.0);
            for (p, w) in products[tap * k..(tap + 1) * k].iter().zip(w.chunks_exact(c)) {
                dw.iter_mut().zip(w).for_each(|(d, w)| *d += p * w);
            }
            for (i, d) in dw.iter_mut().enumerate() {
                let inv = 1.0 / (variance[i] + u.eps).sqrt();
                let by_variance = inv * inv * s2[i] * n * (*d - mean[i] * taps[tap]);
                *d = gamma[i] * inv * (dw_z[tap * c + i] - s1[i] * n * taps[tap] - by_variance);
            }
        }
    }
    fn cases(&self) -> Vec<Case<MomentsU>> {
        let mut g = Gen::new("frames/weight");
        SIZES
            .map(|[rows, k, c]| {
                let u = MomentsU { rows, k, c, eps: 1e-5 };
                let (k, c) = (k as usize, c as usize);
                let mut inputs = vec![moments(&mut g, &u), g.f32s(k * c), g.f32s(2 * c), g.f32s(k * c)];
                inputs.extend([g.f32s(c), g.f32s(c), g.range(c, 0.1, 2.0)]);
                Case::new(format!("{rows} rows, {k} to {c}"), u, inputs, vec![k * c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

/// Every variant of the kernels.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    let mut v: Vec<Box<dyn AnyKernel>> = vec![Box::new(Moments), Box::new(Stats), Box::new(Sums), Box::new(Weight)];
    for &kind in NeuronKind::ALL.iter().filter(|kind| !kind.learns_tau()) {
        for &surrogate in SurrogateKind::ALL {
            v.push(Box::new(Backward { kind, surrogate }));
        }
    }
    v
}
