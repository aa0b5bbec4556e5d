//! Element by element on floats.

use super::par::task_rows;
use super::{AnyKernel, Args, Case, Gen, Kernel, Tolerance, simd};
use crate::rng::threefry;
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Add`].
    pub struct AddU {
        /// Elements.
        n: u32
    }
}

/// y\[n\] = a\[n\] + b\[n\]: residuals of currents, and gradients that meet.
pub struct Add;

impl Kernel for Add {
    head!("elementwise/add", AddU, [a: ReadF32, b: ReadF32, y: WriteF32]);
    fn threads(&self, u: &AddU) -> usize {
        u.n as usize
    }
    fn cpu(&self, _: &AddU, args: &mut Args<'_>) {
        let (a, b, y) = (args.f32(0), args.f32(1), args.out_f32(0));
        y.par_chunks_mut(1 << 14).zip(a.par_chunks(1 << 14)).zip(b.par_chunks(1 << 14)).for_each(|((y, a), b)| {
            simd(
                #[inline(always)]
                || y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a + b),
            )
        });
    }
    fn cases(&self) -> Vec<Case<AddU>> {
        let mut g = Gen::new("elementwise/add");
        [0, 1, 63, 64, 1000, 70_001]
            .map(|n| Case::new(format!("{n}"), AddU { n: n as u32 }, vec![g.f32s(n), g.f32s(n)], vec![n]).exact())
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Scale`].
    pub struct ScaleU {
        /// Elements.
        n: u32,
        /// The factor.
        k: f32
    }
}

/// y\[n\] = k x\[n\].
pub struct Scale;

impl Kernel for Scale {
    head!("elementwise/scale", ScaleU, [x: ReadF32, y: WriteF32]);
    fn threads(&self, u: &ScaleU) -> usize {
        u.n as usize
    }
    fn cpu(&self, u: &ScaleU, args: &mut Args<'_>) {
        let (x, y) = (args.f32(0), args.out_f32(0));
        y.par_chunks_mut(1 << 14).zip(x.par_chunks(1 << 14)).for_each(|(y, x)| {
            simd(
                #[inline(always)]
                || y.iter_mut().zip(x).for_each(|(y, x)| *y = u.k * x),
            )
        });
    }
    fn cases(&self) -> Vec<Case<ScaleU>> {
        let mut g = Gen::new("elementwise/scale");
        [0, 1, 65, 70_001].map(|n| Case::new(format!("{n}"), ScaleU { n: n as u32, k: 0.3 }, vec![g.f32s(n)], vec![n])).into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`SplitColumns`] and [`JoinColumns`].
    pub struct SplitColumnsU {
        /// Rows.
        rows: u32,
        /// Columns of x.
        c: u32,
        /// Columns of a.
        first: u32
    }
}

impl SplitColumnsU {
    fn each() -> impl Iterator<Item = (String, Self, [usize; 3])> {
        [(0, 8, 4), (1, 1, 1), (1, 2, 1), (7, 33, 5), (5, 40, 0), (5, 40, 40), (900, 96, 32)].into_iter().map(
            |(rows, c, first)| {
                let lengths = [rows * c, rows * first, rows * (c - first)];
                (format!("[{rows}, {c}] at {first}"), Self { rows: rows as u32, c: c as u32, first: first as u32 }, lengths)
            },
        )
    }
}

/// x\[rows, c\] -> a\[rows, first\], b\[rows, c - first\].
pub struct SplitColumns;

impl Kernel for SplitColumns {
    head!("elementwise/split_columns", SplitColumnsU, [x: ReadF32, a: WriteF32, b: WriteF32]);
    fn threads(&self, u: &SplitColumnsU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &SplitColumnsU, args: &mut Args<'_>) {
        let (x, a, b) = (args.f32(0), args.out_f32(0), args.out_f32(1));
        let (c, first) = (u.c as usize, u.first as usize);
        let task = task_rows(c);
        // Either may have no columns at all.
        let cut = |y: &mut [f32], from: usize, width: usize| {
            if width > 0 {
                y.par_chunks_mut(task * width).zip(x.par_chunks(task * c)).for_each(|(y, x)| {
                    y.chunks_mut(width).zip(x.chunks(c)).for_each(|(y, x)| y.copy_from_slice(&x[from..from + width]));
                });
            }
        };
        cut(a, 0, first);
        cut(b, first, c - first);
    }
    fn cases(&self) -> Vec<Case<SplitColumnsU>> {
        let mut g = Gen::new("elementwise/split_columns");
        SplitColumnsU::each().map(|(name, u, [x, a, b])| Case::new(name, u, vec![g.f32s(x)], vec![a, b])).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// a\[rows, first\], b\[rows, c - first\] -> x\[rows, c\].
pub struct JoinColumns;

impl Kernel for JoinColumns {
    head!("elementwise/join_columns", SplitColumnsU, [a: ReadF32, b: ReadF32, x: WriteF32]);
    fn threads(&self, u: &SplitColumnsU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &SplitColumnsU, args: &mut Args<'_>) {
        let (a, b) = (args.f32(0), args.f32(1));
        let (c, first) = ((u.c as usize).max(1), u.first as usize);
        let task = task_rows(c);
        args.out_f32(0).par_chunks_mut(task * c).enumerate().for_each(|(t, x)| {
            for (row, x) in x.chunks_mut(c).enumerate().map(|(i, x)| (t * task + i, x)) {
                let (left, right) = x.split_at_mut(first);
                left.copy_from_slice(&a[row * first..(row + 1) * first]);
                right.copy_from_slice(&b[row * (c - first)..(row + 1) * (c - first)]);
            }
        });
    }
    fn cases(&self) -> Vec<Case<SplitColumnsU>> {
        let mut g = Gen::new("elementwise/join_columns");
        SplitColumnsU::each().map(|(name, u, [x, a, b])| Case::new(name, u, vec![g.f32s(a), g.f32s(b)], vec![x])).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Interleave`].
    pub struct InterleaveU {
        /// Rows.
        rows: u32,
        /// Columns.
        m: u32,
        /// The column that is replaced.
        i: u32
    }
}

/// x\[rows, m\], d\[rows\] -> y\[rows, m\]: x with column i replaced by d.
pub struct Interleave;

impl Kernel for Interleave {
    head!("elementwise/interleave", InterleaveU, [x: ReadF32, d: ReadF32, y: WriteF32]);
    fn threads(&self, u: &InterleaveU) -> usize {
        u.rows as usize * u.m as usize
    }
    fn cpu(&self, u: &InterleaveU, args: &mut Args<'_>) {
        let (x, d, y) = (args.f32(0), args.f32(1), args.out_f32(0));
        let m = (u.m as usize).max(1);
        let task = task_rows(m);
        y.par_chunks_mut(task * m).zip(x.par_chunks(task * m)).zip(d.par_chunks(task)).for_each(|((y, x), d)| {
            y.copy_from_slice(x);
            y.chunks_mut(m).zip(d).for_each(|(y, d)| y[u.i as usize] = *d);
        });
    }
    fn cases(&self) -> Vec<Case<InterleaveU>> {
        let mut g = Gen::new("elementwise/interleave");
        [(0, 4, 1), (1, 1, 0), (70, 3, 2), (5000, 8, 4)]
            .map(|(rows, m, i)| {
                let u = InterleaveU { rows: rows as u32, m: m as u32, i };
                Case::new(format!("[{rows}, {m}] at {i}"), u, vec![g.f32s(rows * m), g.f32s(rows)], vec![rows * m])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Dropout`].
    pub struct DropoutU {
        /// Elements.
        n: u32,
        /// After how many elements the mask repeats.
        period: u32,
        /// First word of the key of the random stream.
        key0: u32,
        /// Second word.
        key1: u32,
        /// The share that is kept, of 2^32.
        limit: u32,
        /// What is kept is multiplied by this.
        scale: f32
    }
}

/// x\[n\] -> y\[n\] = scale x\[i\] where a random word of i modulo the period is below the limit, else 0; its own backward.
pub struct Dropout;

impl Kernel for Dropout {
    head!("elementwise/dropout", DropoutU, [x: ReadF32, y: WriteF32]);
    fn threads(&self, u: &DropoutU) -> usize {
        u.n as usize
    }
    fn cpu(&self, u: &DropoutU, args: &mut Args<'_>) {
        let (x, y) = (args.f32(0), args.out_f32(0));
        let place = |i: usize| (i % (u.period as usize).max(1)) as u32;
        y.par_iter_mut().zip(x).enumerate().with_min_len(1 << 12).for_each(|(i, (y, x))| {
            let [word, _] = threefry([u.key0, u.key1], [place(i), 0]);
            *y = if word < u.limit { u.scale * x } else { 0.0 };
        });
    }
    fn cases(&self) -> Vec<Case<DropoutU>> {
        let mut g = Gen::new("elementwise/dropout");
        [(0, 1), (1, 1), (130, 65), (70_001, 70_001), (40_000, 1000)]
            .map(|(n, period)| {
                let u = DropoutU { n: n as u32, period, key0: 7, key1: 1 << 31, limit: 3 << 30, scale: 4.0 / 3.0 };
                Case::new(format!("{n} by {period}"), u, vec![g.f32s(n)], vec![n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(Add), Box::new(Scale), Box::new(SplitColumns), Box::new(JoinColumns), Box::new(Interleave), Box::new(Dropout)]
}
