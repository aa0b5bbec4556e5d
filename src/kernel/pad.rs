//! What padded steps need: rows of some steps picked out or put back, and rows weighted.

use super::par::task_rows;
use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Gather`].
    pub struct GatherU {
        /// Groups of y.
        groups: u32,
        /// Words of a group.
        n: u32
    }
}

/// x\[.., n\] words, indices\[groups\] -> y\[groups, n\]: group `indices[i]` of x, zeros where that is [`u32::MAX`].
pub struct Gather;

impl Kernel for Gather {
    head!("pad/gather", GatherU, [x: ReadU32, indices: ReadU32, y: WriteU32]);
    fn threads(&self, u: &GatherU) -> usize {
        u.groups as usize * u.n as usize
    }
    fn cpu(&self, u: &GatherU, args: &mut Args<'_>) {
        let (x, indices) = (args.u32(0), args.u32(1));
        let n = (u.n as usize).max(1);
        args.out_u32(0).par_chunks_mut(n).zip(indices).for_each(|(y, &i)| match i {
            u32::MAX => y.fill(0),
            i => y.copy_from_slice(&x[i as usize * n..][..n]),
        });
    }
    fn cases(&self) -> Vec<Case<GatherU>> {
        let mut g = Gen::new("pad/gather");
        [(0, 3, 8), (1, 1, 1), (5, 4, 33), (64, 64, 500), (7, 3, 0)]
            .map(|(groups, from, n): (usize, usize, usize)| {
                let mut indices = g.below(groups, from);
                if let Data::U32(v) = &mut indices {
                    v.iter_mut().step_by(3).for_each(|i| *i = u32::MAX);
                }
                let u = GatherU { groups: groups as u32, n: n as u32 };
                Case::new(format!("{groups} of [{from}, {n}]"), u, vec![g.below(from * n, 1 << 32), indices], vec![groups * n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`ScaleRows`].
    pub struct ScaleRowsU {
        /// Rows.
        rows: u32,
        /// Columns.
        c: u32
    }
}

/// x\[rows, c\], k\[rows\] -> y\[rows, c\] = k x; zeros where k is zero, whatever x holds there.
pub struct ScaleRows;

impl Kernel for ScaleRows {
    head!("pad/scale_rows", ScaleRowsU, [x: ReadF32, k: ReadF32, y: WriteF32]);
    fn threads(&self, u: &ScaleRowsU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &ScaleRowsU, args: &mut Args<'_>) {
        let (x, k) = (args.f32(0), args.f32(1));
        let c = (u.c as usize).max(1);
        let task = task_rows(c);
        args.out_f32(0).par_chunks_mut(task * c).zip(x.par_chunks(task * c)).zip(k.par_chunks(task)).for_each(|((y, x), k)| {
            simd(
                #[inline(always)]
                || {
                    for ((y, x), &k) in y.chunks_mut(c).zip(x.chunks(c)).zip(k) {
                        if k == 0.0 {
                            y.fill(0.0);
                        } else {
                            y.iter_mut().zip(x).for_each(|(y, x)| *y = k * x);
                        }
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<ScaleRowsU>> {
        let mut g = Gen::new("pad/scale_rows");
        let mut cases: Vec<_> = [(0, 9), (1, 1), (3, 5), (700, 33), (5, 5000)]
            .map(|(rows, c)| {
                let u = ScaleRowsU { rows: rows as u32, c: c as u32 };
                Case::new(format!("[{rows}, {c}]"), u, vec![g.f32s(rows * c), g.f32s(rows)], vec![rows * c])
            })
            .into();
        let wild = Data::F32(vec![f32::NAN, f32::INFINITY, 2.0, -0.5]);
        let u = ScaleRowsU { rows: 2, c: 2 };
        cases.push(Case::new("nothing of what is not a number", u, vec![wild, Data::F32(vec![0.0, 0.5])], vec![4]));
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(Gather), Box::new(ScaleRows)]
}
