//! Losses with their gradients, and sums of a whole buffer.

use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`CrossEntropy`].
    pub struct CrossEntropyU {
        /// Rows of logits.
        rows: u32,
        /// Classes.
        classes: u32,
        /// Rows of targets; logits may have several times as many and go through the targets in turn.
        targets: u32,
        /// What the gradient is multiplied by: 1 / (rows with a target) where the mean is the loss.
        scale: f32
    }
}

/// logits\[rows, classes\], wanted\[targets, classes\] -> loss\[rows\], grad\[rows, classes\], correct\[rows\].
///
/// PyTorch's `cross_entropy` with probabilities as targets; a row is correct when the first of its largest logits has the largest
/// target. A row whose targets are all zero has no loss and no gradient, and is not correct.
pub struct CrossEntropy;

/// The first of the largest.
fn largest(x: &[f32]) -> usize {
    (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

impl Kernel for CrossEntropy {
    head!(
        "loss/cross_entropy",
        CrossEntropyU,
        [logits: ReadF32, wanted: ReadF32, loss: WriteF32, grad: WriteF32, correct: WriteU32]
    );
    fn threads(&self, u: &CrossEntropyU) -> usize {
        u.rows as usize
    }
    fn cpu(&self, u: &CrossEntropyU, args: &mut Args<'_>) {
        let (logits, wanted) = (args.f32(0), args.f32(1));
        let (k, targets) = ((u.classes as usize).max(1), (u.targets as usize).max(1));
        let (loss, grad, correct) = (args.out_f32(0), args.out_f32(1), args.out_u32(2));
        let rows = loss.par_iter_mut().zip(grad.par_chunks_mut(k)).zip(correct).zip(logits.par_chunks(k)).enumerate();
        rows.with_min_len(16).for_each(|(row, (((loss, grad), correct), logits))| {
            let wanted = &wanted[row % targets * k..][..k];
            let best = largest(logits);
            let top = logits[best];
            let mut total = 0.0f32;
            for (g, x) in grad.iter_mut().zip(logits) {
                *g = (x - top).exp();
                total += *g;
            }
            let log_total = total.ln();
            let share: f32 = wanted.iter().sum();
            (*loss, *correct) = (0.0, u32::from(share > 0.0 && best == largest(wanted)));
            for ((g, x), w) in grad.iter_mut().zip(logits).zip(wanted) {
                *loss += w * (log_total - (x - top));
                *g = u.scale * (*g / total * share - w);
            }
        });
    }
    fn cases(&self) -> Vec<Case<CrossEntropyU>> {
        let mut g = Gen::new("loss/cross_entropy");
        let case = |name: String, logits: Data, wanted: Data, classes: usize| {
            let (rows, targets) = (logits.words().len() / classes, wanted.words().len() / classes);
            let scale = 1.0 / rows.max(1) as f32;
            let u = CrossEntropyU { rows: rows as u32, classes: classes as u32, targets: targets as u32, scale };
            Case::new(name, u, vec![logits, wanted], vec![rows, rows * classes, rows])
        };
        // Labels, of which a share goes to another label or to all classes.
        let mut wanted = |rows: usize, k: usize, other: f32, all: f32| {
            let mut out = vec![all / k as f32; rows * k];
            let (own, partner) = (g.below(rows, k), g.below(rows, k));
            for (row, (&a, &b)) in own.words().iter().zip(partner.words()).enumerate() {
                out[row * k + a as usize] += (1.0 - all) * (1.0 - other);
                out[row * k + b as usize] += (1.0 - all) * other;
            }
            Data::F32(out)
        };
        let sizes =
            [(0, 10, 1, 0.0, 0.0), (1, 1, 1, 0.0, 0.0), (5, 10, 1, 0.0, 0.0), (70, 11, 1, 0.3, 0.1), (3, 1000, 2, 0.4, 0.1)];
        let targets: Vec<Data> = sizes.iter().map(|&(rows, k, _, other, all)| wanted(rows, k, other, all)).collect();
        let mut cases = vec![];
        for ((rows, k, steps, other, all), targets) in sizes.into_iter().zip(targets) {
            let logits = g.range(steps * rows * k, -4.0, 4.0);
            cases.push(case(format!("{steps} x [{rows}, {k}], {other} another's, {all} everyone's"), logits, targets, k));
        }
        let unequal = Data::F32((0..400).map(|i| (i % 7) as f32 / 4.0).collect());
        cases.push(case("targets that do not add up to 1".into(), g.range(400, -4.0, 4.0), unequal, 2));
        let wide = Data::F32(vec![1e4, -1e4, 0.0, 500.0, 500.0, 499.0]);
        let tie = Data::F32(vec![0.0, 1.0, 0.0, 0.5, 0.5, 0.0]);
        cases.push(case("extremes and ties".into(), wide, tie, 3));
        let some = Data::F32((0..70 * 6).map(|i| f32::from(u8::from(i / 6 % 3 > 0 && i % 6 == i / 6 % 6))).collect());
        cases.push(case("rows without a target".into(), g.range(70 * 6, -4.0, 4.0), some, 6));
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`MeanSquare`].
    pub struct MeanSquareU {
        /// Elements.
        n: u32,
        /// The target of all (`target` is a reserved word of WGSL).
        goal: f32,
        /// What the gradient is multiplied by.
        scale: f32
    }
}

/// x\[n\] -> loss\[n\] = (x - goal)^2, grad\[n\] = scale 2 (x - goal).
pub struct MeanSquare;

impl Kernel for MeanSquare {
    head!("loss/mean_square", MeanSquareU, [x: ReadF32, loss: WriteF32, grad: WriteF32]);
    fn threads(&self, u: &MeanSquareU) -> usize {
        u.n as usize
    }
    fn cpu(&self, u: &MeanSquareU, args: &mut Args<'_>) {
        let (x, loss, grad) = (args.f32(0), args.out_f32(0), args.out_f32(1));
        let tasks = loss.par_chunks_mut(1 << 14).zip(grad.par_chunks_mut(1 << 14)).zip(x.par_chunks(1 << 14));
        tasks.for_each(|((loss, grad), x)| {
            simd(
                #[inline(always)]
                || {
                    for ((loss, grad), x) in loss.iter_mut().zip(grad).zip(x) {
                        let d = x - u.goal;
                        *loss = d * d;
                        *grad = u.scale * 2.0 * d;
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<MeanSquareU>> {
        let mut g = Gen::new("loss/mean_square");
        [0, 1, 65, 20_000]
            .map(|n| {
                let u = MeanSquareU { n: n as u32, goal: 0.3, scale: 0.01 };
                Case::new(format!("{n}"), u, vec![g.f32s(n)], vec![n, n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

uniform! {
    /// Uniform of [`Sum`].
    pub struct SumU {
        /// Elements.
        n: u32,
        /// What the sum is multiplied by.
        scale: f32
    }
}

impl SumU {
    /// Workgroups, as in the shader.
    fn parts(&self) -> usize {
        (self.n as usize).div_ceil(4096).clamp(1, 256)
    }
}

/// x\[n\] -> y\[1\] = scale times the sum.
pub struct Sum;

impl Kernel for Sum {
    head!("loss/sum", SumU, [x: ReadF32, y: WriteF32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &SumU) -> usize {
        u.parts() * 256
    }
    fn finish(&self, u: &SumU) -> Option<[usize; 2]> {
        Some([u.parts(), 256])
    }
    fn cpu(&self, u: &SumU, args: &mut Args<'_>) {
        let chunks: Vec<f64> = args.f32(0).par_chunks(1 << 14).map(|x| x.iter().map(|&v| f64::from(v)).sum()).collect();
        args.out_f32(0)[0] = u.scale * chunks.iter().sum::<f64>() as f32;
    }
    fn cases(&self) -> Vec<Case<SumU>> {
        let mut g = Gen::new("loss/sum");
        let u = |n: usize, scale| SumU { n: n as u32, scale };
        let mut cases = vec![];
        for n in [0, 1, 255, 257, 50_000] {
            cases.push(Case::new(format!("{n} dyadic"), u(n, 0.5), vec![g.dyadic(n)], vec![1]).exact());
            cases.push(Case::new(format!("{n}"), u(n, 0.3), vec![g.range(n, 0.0, 1.0)], vec![1]));
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`SumU32`].
    pub struct SumU32U {
        /// Elements.
        n: u32
    }
}

/// x\[n\] -> y\[1\], the sum, modulo 2^32.
pub struct SumU32;

impl Kernel for SumU32 {
    head!("loss/sum_u32", SumU32U, [x: ReadU32, y: WriteU32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, _: &SumU32U) -> usize {
        256
    }
    fn cpu(&self, _: &SumU32U, args: &mut Args<'_>) {
        args.out_u32(0)[0] = args.u32(0).iter().fold(0, |s, x| s.wrapping_add(*x));
    }
    fn cases(&self) -> Vec<Case<SumU32U>> {
        let mut g = Gen::new("loss/sum_u32");
        [0, 1, 255, 257, 50_000]
            .map(|n| Case::new(format!("{n}"), SumU32U { n: n as u32 }, vec![g.below(n, 1 << 32)], vec![1]))
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(CrossEntropy), Box::new(MeanSquare), Box::new(Sum), Box::new(SumU32)]
}
