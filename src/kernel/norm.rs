//! Batch norm over the rows of `[rows, c]`, step by step: statistics, the line `a x + b` that they make, and the way back.
//!
//! The large ones are bound by memory; the twins read each tensor once from it. Sums are two-level everywhere (chunks, then the sums of
//! chunks), and variances are taken about the mean, so that neither many rows nor a large mean cost digits.

use super::columns::{self, add_up, chunk_rows, fold, span_rows, spread};
use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Stats`], [`Apply`] and [`BackwardReduce`].
    pub struct StatsU {
        /// Rows: all steps, samples and places.
        rows: u32,
        /// Channels.
        c: u32
    }
}

/// Rows and channels of the cases.
const SHAPES: [(usize, usize); 8] = [(1, 1), (3, 5), (64, 32), (700, 33), (5000, 8), (90, 300), (2500, 48), (1025, 1)];

/// x\[rows, c\] -> mean\[c\], variance\[c\] (biased); zeros where there are no rows.
pub struct Stats;

impl Kernel for Stats {
    head!("norm/stats", StatsU, [x: ReadF32, mean: WriteF32, variance: WriteF32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &StatsU) -> usize {
        columns::threads(u.rows, u.c)
    }
    fn finish(&self, u: &StatsU) -> Option<[usize; 2]> {
        columns::finish(u.rows, u.c, 2)
    }
    fn cpu(&self, u: &StatsU, args: &mut Args<'_>) {
        let c = (u.c as usize).max(1);
        let (x, mean, variance) = (args.f32(0), args.out_f32(0), args.out_f32(1));
        // Mean and sum of squares about it, of each chunk.
        let chunks: Vec<(usize, Vec<f32>, Vec<f32>)> = x.par_chunks(chunk_rows(c) * c).map(|x| chunk_stats(x, c)).collect();
        let mut total = vec![(0.0f64, 0.0f64); c];
        let mut n = 0.0;
        for (rows, m, q) in &chunks {
            let k = *rows as f64;
            for ((mean, squares), (&m, &q)) in total.iter_mut().zip(m.iter().zip(q)) {
                let delta = f64::from(m) - *mean;
                *squares += f64::from(q) + delta * delta * n * k / (n + k);
                *mean += delta * k / (n + k);
            }
            n += k;
        }
        for ((mean, variance), t) in mean.iter_mut().zip(variance).zip(total) {
            *mean = t.0 as f32;
            *variance = (t.1 / n.max(1.0)) as f32;
        }
    }
    fn cases(&self) -> Vec<Case<StatsU>> {
        let mut g = Gen::new("norm/stats");
        let mut cases = vec![Case::new("no rows", StatsU { rows: 0, c: 40 }, vec![Data::F32(vec![])], vec![40, 40]).exact()];
        for (rows, c) in SHAPES {
            let u = StatsU { rows: rows as u32, c: c as u32 };
            cases.push(Case::new(format!("[{rows}, {c}]"), u, vec![g.f32s(rows * c)], vec![c, c]));
        }
        let u = StatsU { rows: 3000, c: 40 };
        cases.push(Case::new("a mean of 300 deviations", u, vec![g.range(3000 * 40, 99.0, 101.0)], vec![40, 40]));
        cases.push(Case::new("constant", u, vec![Data::F32(vec![0.75; 3000 * 40])], vec![40, 40]).exact());
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

/// Rows, mean and sum of squares about it.
fn chunk_stats(x: &[f32], c: usize) -> (usize, Vec<f32>, Vec<f32>) {
    let (rows, span) = (x.len() / c, span_rows(c) * c);
    let (mut mean, mut squares) = (vec![0.0; c], vec![0.0; c]);
    simd(
        #[inline(always)]
        || {
            let (mut long, none) = (vec![0.0; span], vec![0.0; span]);
            add_up(x, &none, &mut long, |x, _| x);
            fold(&long, &mut mean);
            mean.iter_mut().for_each(|m| *m /= rows as f32);
            long.fill(0.0);
            add_up(x, &spread(&mean), &mut long, |x, m| (x - m) * (x - m));
            fold(&long, &mut squares);
        },
    );
    (rows, mean, squares)
}

uniform! {
    /// Uniform of [`Affine`] and [`BackwardParams`].
    pub struct AffineU {
        /// Channels.
        c: u32,
        /// Added to the variance.
        eps: f32
    }
}

/// Runs of the kernels that only have channels.
const CHANNELS: [usize; 4] = [0, 1, 65, 1000];

/// gamma\[c\], beta\[c\], mean\[c\], variance\[c\] -> a = gamma / sqrt(variance + eps), b = beta - mean a.
pub struct Affine;

impl Kernel for Affine {
    head!("norm/affine", AffineU, [gamma: ReadF32, beta: ReadF32, mean: ReadF32, variance: ReadF32, a: WriteF32, b: WriteF32]);
    fn threads(&self, u: &AffineU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &AffineU, args: &mut Args<'_>) {
        let (gamma, beta, mean, variance) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3));
        let (a, b) = (args.out_f32(0), args.out_f32(1));
        for c in 0..u.c as usize {
            a[c] = gamma[c] / (variance[c] + u.eps).sqrt();
            b[c] = beta[c] - mean[c] * a[c];
        }
    }
    fn cases(&self) -> Vec<Case<AffineU>> {
        let mut g = Gen::new("norm/affine");
        CHANNELS
            .map(|c| {
                let inputs = vec![g.f32s(c), g.f32s(c), g.f32s(c), g.range(c, 0.0, 4.0)];
                Case::new(format!("{c}"), AffineU { c: c as u32, eps: 1e-5 }, inputs, vec![c, c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

/// x\[rows, c\], a\[c\], b\[c\] -> y\[rows, c\] = a x + b.
pub struct Apply;

impl Kernel for Apply {
    head!("norm/apply", StatsU, [x: ReadF32, a: ReadF32, b: ReadF32, y: WriteF32]);
    fn threads(&self, u: &StatsU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &StatsU, args: &mut Args<'_>) {
        let (x, a, b) = (args.f32(0), spread(args.f32(1)), spread(args.f32(2)));
        let c = (u.c as usize).max(1);
        let (span, chunk) = (span_rows(c) * c, chunk_rows(c) * c);
        args.out_f32(0).par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
            simd(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_mut(span).zip(x.chunks(span)) {
                        y.iter_mut().zip(x).zip(&a).zip(&b).for_each(|(((y, x), a), b)| *y = a * x + b);
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<StatsU>> {
        let mut g = Gen::new("norm/apply");
        let mut cases = vec![];
        for (rows, c) in SHAPES.into_iter().chain([(0, 9)]) {
            let u = StatsU { rows: rows as u32, c: c as u32 };
            let outputs = vec![rows * c];
            let name = format!("[{rows}, {c}]");
            cases.push(Case::new(&name, u, vec![g.f32s(rows * c), g.f32s(c), g.f32s(c)], outputs.clone()));
            cases.push(Case::new(name + " dyadic", u, vec![g.dyadic(rows * c), g.dyadic(c), g.dyadic(c)], outputs).exact());
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

/// x\[rows, c\], dz\[rows, c\], mean\[c\] -> sums\[2, c\]: of dz, and of dz (x - mean).
pub struct BackwardReduce;

impl Kernel for BackwardReduce {
    head!("norm/backward_reduce", StatsU, [x: ReadF32, dz: ReadF32, mean: ReadF32, sums: WriteF32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &StatsU) -> usize {
        columns::threads(u.rows, u.c)
    }
    fn finish(&self, u: &StatsU) -> Option<[usize; 2]> {
        columns::finish(u.rows, u.c, 2)
    }
    fn cpu(&self, u: &StatsU, args: &mut Args<'_>) {
        let (x, dz, mean) = (args.f32(0), args.f32(1), spread(args.f32(2)));
        let c = (u.c as usize).max(1);
        let (span, chunk) = (span_rows(c) * c, chunk_rows(c) * c);
        let sums = |(x, dz): (&[f32], &[f32])| {
            let mut sums = vec![0.0; 2 * c];
            simd(
                #[inline(always)]
                || {
                    let (mut a, mut b) = (vec![0.0; span], vec![0.0; span]);
                    for (x, dz) in x.chunks(span).zip(dz.chunks(span)) {
                        for ((((a, b), x), dz), m) in a.iter_mut().zip(&mut b).zip(x).zip(dz).zip(&mean) {
                            *a += dz;
                            *b += dz * (x - m);
                        }
                    }
                    let (s1, s2) = sums.split_at_mut(c);
                    fold(&a, s1);
                    fold(&b, s2);
                },
            );
            sums
        };
        let chunks: Vec<Vec<f32>> = x.par_chunks(chunk).zip(dz.par_chunks(chunk)).map(sums).collect();
        for (i, s) in args.out_f32(0).iter_mut().enumerate() {
            *s = chunks.iter().map(|v| f64::from(v[i])).sum::<f64>() as f32;
        }
    }
    fn cases(&self) -> Vec<Case<StatsU>> {
        let mut g = Gen::new("norm/backward_reduce");
        let mut cases = vec![];
        for (rows, c) in SHAPES.into_iter().chain([(0, 9)]) {
            let u = StatsU { rows: rows as u32, c: c as u32 };
            let inputs = vec![g.f32s(rows * c), g.f32s(rows * c), g.f32s(c)];
            cases.push(Case::new(format!("[{rows}, {c}]"), u, inputs, vec![2 * c]));
        }
        let inputs = vec![g.dyadic(70 * 33), g.dyadic(70 * 33), g.dyadic(33)];
        cases.push(Case::new("dyadic", StatsU { rows: 70, c: 33 }, inputs, vec![2 * 33]).exact());
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`BackwardInput`].
    pub struct BackwardInputU {
        /// Rows.
        rows: u32,
        /// Channels.
        c: u32,
        /// Added to the variance.
        eps: f32
    }
}

/// x\[rows, c\], dz\[rows, c\], gamma\[c\], mean\[c\], variance\[c\], sums\[2, c\] -> dx\[rows, c\].
///
/// dx = gamma / sigma (dz - s1 / rows - (x - mean) / sigma^2 s2 / rows), with the sums s1 and s2 of [`BackwardReduce`].
pub struct BackwardInput;

impl Kernel for BackwardInput {
    head!(
        "norm/backward_input",
        BackwardInputU,
        [x: ReadF32, dz: ReadF32, gamma: ReadF32, mean: ReadF32, variance: ReadF32, sums: ReadF32, dx: WriteF32]
    );
    fn threads(&self, u: &BackwardInputU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn onto(&self) -> Option<usize> {
        Some(1)
    }
    fn cpu(&self, u: &BackwardInputU, args: &mut Args<'_>) {
        let (x, dz, gamma, mean) = (args.f32(0), args.f32(1), args.f32(2), spread(args.f32(3)));
        let (variance, (s1, s2)) = (args.f32(4), args.f32(5).split_at(u.c as usize));
        let c = (u.c as usize).max(1);
        let (span, chunk) = (span_rows(c) * c, chunk_rows(c) * c);
        let n = 1.0 / u.rows as f32;
        let by_channel = |f: &dyn Fn(usize) -> f32| spread(&(0..u.c as usize).map(f).collect::<Vec<_>>());
        let inv = |c: usize| 1.0 / (variance[c] + u.eps).sqrt();
        let gain = by_channel(&|c| gamma[c] * inv(c));
        let shift = by_channel(&|c| s1[c] * n);
        let slope = by_channel(&|c| inv(c) * inv(c) * s2[c] * n);
        args.out_f32(0).par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(i, (d, x))| {
            simd(
                #[inline(always)]
                || {
                    for (j, (d, x)) in d.chunks_mut(span).zip(x.chunks(span)).enumerate() {
                        let (at, len) = (i * chunk + j * span, d.len());
                        // Where there is none, `d` holds it.
                        if !dz.is_empty() {
                            d.copy_from_slice(&dz[at..at + len]);
                        }
                        let (x, gain, shift) = (&x[..len], &gain[..len], &shift[..len]);
                        let (mean, slope) = (&mean[..len], &slope[..len]);
                        for i in 0..len {
                            d[i] = gain[i] * (d[i] - shift[i] - (x[i] - mean[i]) * slope[i]);
                        }
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<BackwardInputU>> {
        let mut g = Gen::new("norm/backward_input");
        let case = |(rows, c): (usize, usize)| {
            let u = BackwardInputU { rows: rows as u32, c: c as u32, eps: 1e-5 };
            let mut inputs = vec![g.f32s(rows * c), g.f32s(rows * c), g.f32s(c), g.f32s(c), g.range(c, 0.1, 2.0)];
            inputs.push(g.f32s(2 * c));
            Case::new(format!("[{rows}, {c}]"), u, inputs, vec![rows * c])
        };
        SHAPES.into_iter().chain([(0, 9)]).map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

/// sums\[2, c\] of [`BackwardReduce`], variance\[c\] -> dgamma\[c\] = s2 / sigma, dbeta\[c\] = s1.
pub struct BackwardParams;

impl Kernel for BackwardParams {
    head!("norm/backward_params", AffineU, [sums: ReadF32, variance: ReadF32, dgamma: WriteF32, dbeta: WriteF32]);
    fn threads(&self, u: &AffineU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &AffineU, args: &mut Args<'_>) {
        let ((s1, s2), variance) = (args.f32(0).split_at(u.c as usize), args.f32(1));
        let (dgamma, dbeta) = (args.out_f32(0), args.out_f32(1));
        for c in 0..u.c as usize {
            dgamma[c] = s2[c] * (1.0 / (variance[c] + u.eps).sqrt());
            dbeta[c] = s1[c];
        }
    }
    fn cases(&self) -> Vec<Case<AffineU>> {
        let mut g = Gen::new("norm/backward_params");
        CHANNELS
            .map(|c| {
                let inputs = vec![g.f32s(2 * c), g.range(c, 0.0, 4.0)];
                Case::new(format!("{c}"), AffineU { c: c as u32, eps: 1e-5 }, inputs, vec![c, c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

uniform! {
    /// Uniform of [`Running`].
    pub struct RunningU {
        /// Channels.
        c: u32,
        /// Weight of the batch.
        momentum: f32,
        /// rows / (rows - 1): running variances are unbiased.
        unbias: f32
    }
}

/// running_mean\[c\], running_var\[c\], mean\[c\], variance\[c\] -> new_mean\[c\], new_var\[c\].
pub struct Running;

impl Kernel for Running {
    head!(
        "norm/running",
        RunningU,
        [running_mean: ReadF32, running_var: ReadF32, mean: ReadF32, variance: ReadF32, new_mean: WriteF32, new_var: WriteF32]
    );
    fn threads(&self, u: &RunningU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &RunningU, args: &mut Args<'_>) {
        let (running_mean, running_var, mean, variance) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3));
        let (new_mean, new_var) = (args.out_f32(0), args.out_f32(1));
        for c in 0..u.c as usize {
            new_mean[c] = (1.0 - u.momentum) * running_mean[c] + u.momentum * mean[c];
            new_var[c] = (1.0 - u.momentum) * running_var[c] + u.momentum * variance[c] * u.unbias;
        }
    }
    fn cases(&self) -> Vec<Case<RunningU>> {
        let mut g = Gen::new("norm/running");
        CHANNELS
            .map(|c| {
                let inputs = vec![g.f32s(c), g.range(c, 0.0, 2.0), g.f32s(c), g.range(c, 0.0, 2.0)];
                Case::new(format!("{c}"), RunningU { c: c as u32, momentum: 0.1, unbias: 1.25 }, inputs, vec![c, c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![
        Box::new(Stats),
        Box::new(Affine),
        Box::new(Apply),
        Box::new(BackwardReduce),
        Box::new(BackwardInput),
        Box::new(BackwardParams),
        Box::new(Running),
    ]
}
