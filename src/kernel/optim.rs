//! Optimiser steps.

use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`AdamW`].
    pub struct AdamWU {
        /// Elements.
        n: u32,
        /// Learning rate.
        lr: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        eps: f32,
        /// Decoupled decay.
        weight_decay: f32,
        /// 1 - beta1^step.
        bias1: f32,
        /// 1 - beta2^step.
        bias2: f32
    }
}

/// p\[n\], g\[n\], m\[n\], v\[n\] -> p2\[n\], m2\[n\], v2\[n\]: a step of torch.optim.AdamW.
pub struct AdamW;

impl Kernel for AdamW {
    head!(
        "optim/adam_w",
        AdamWU,
        [p: ReadF32, g: ReadF32, m: ReadF32, v: ReadF32, p2: WriteF32, m2: WriteF32, v2: WriteF32]
    );
    fn threads(&self, u: &AdamWU) -> usize {
        u.n as usize
    }
    fn cpu(&self, u: &AdamWU, args: &mut Args<'_>) {
        const TASK: usize = 1 << 13;
        let (p, g, m, v) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3));
        let (p2, m2, v2) = (args.out_f32(0), args.out_f32(1), args.out_f32(2));
        let tasks = p2.par_chunks_mut(TASK).zip(m2.par_chunks_mut(TASK)).zip(v2.par_chunks_mut(TASK)).enumerate();
        tasks.for_each(|(t, ((p2, m2), v2))| {
            let (from, n) = (t * TASK, p2.len());
            let (p, g, m, v) = (&p[from..from + n], &g[from..from + n], &m[from..from + n], &v[from..from + n]);
            simd(
                #[inline(always)]
                || {
                    for i in 0..n {
                        m2[i] = u.beta1 * m[i] + (1.0 - u.beta1) * g[i];
                        v2[i] = u.beta2 * v[i] + (1.0 - u.beta2) * g[i] * g[i];
                        let step = u.lr * (m2[i] / u.bias1) / ((v2[i] / u.bias2).sqrt() + u.eps);
                        p2[i] = p[i] - u.lr * u.weight_decay * p[i] - step;
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<AdamWU>> {
        let mut r = Gen::new("optim/adam_w");
        let u = |n: usize, step: i32| AdamWU {
            n: n as u32,
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.05,
            bias1: 1.0 - 0.9f32.powi(step),
            bias2: 1.0 - 0.999f32.powi(step),
        };
        let mut cases: Vec<_> = [(0, 1), (1, 1), (65, 2), (20_000, 100)]
            .map(|(n, step)| {
                let inputs = vec![r.f32s(n), r.f32s(n), r.f32s(n), r.range(n, 0.0, 1.0)];
                Case::new(format!("{n}, step {step}"), u(n, step), inputs, vec![n; 3])
            })
            .into();
        let zeros = || Data::F32(vec![0.0; 70]);
        cases.push(Case::new("no gradient yet", u(70, 1), vec![r.f32s(70), zeros(), zeros(), zeros()], vec![70; 3]));
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(AdamW)]
}
