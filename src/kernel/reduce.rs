//! Sums over rows, means over the places of a group, and counts of spikes.

use super::bits::masked_add;
use super::columns::{self, add_up, chunk_rows, fold, span_rows};
use super::par::task_rows;
use super::{AnyKernel, Args, Case, Gen, Kernel, Tolerance, simd, words};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`ColumnSum`].
    pub struct ColumnSumU {
        /// Rows.
        rows: u32,
        /// Columns.
        c: u32
    }
}

/// x\[rows, c\] -> y\[c\]: the gradient of a bias.
pub struct ColumnSum;

/// Columns from which [`ColumnSum`] is cut by columns.
const WIDE: usize = 1 << 12;

impl Kernel for ColumnSum {
    head!("reduce/column_sum", ColumnSumU, [x: ReadF32, y: WriteF32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &ColumnSumU) -> usize {
        columns::threads(u.rows, u.c)
    }
    fn finish(&self, u: &ColumnSumU) -> Option<[usize; 2]> {
        columns::finish(u.rows, u.c, 1)
    }
    fn cpu(&self, u: &ColumnSumU, args: &mut Args<'_>) {
        let x = args.f32(0);
        let c = (u.c as usize).max(1);
        if c >= WIDE {
            // Few long rows, as the parts of a weight gradient are: the columns are cut instead.
            return args.out_f32(0).par_chunks_mut(WIDE / 4).enumerate().for_each(|(i, y)| {
                y.fill(0.0);
                for row in x.chunks_exact(c) {
                    let row = &row[i * WIDE / 4..][..y.len()];
                    simd(
                        #[inline(always)]
                        || y.iter_mut().zip(row).for_each(|(y, x)| *y += x),
                    );
                }
            });
        }
        let span = span_rows(c) * c;
        let sums = |x: &[f32]| {
            let mut sums = vec![0.0; c];
            simd(
                #[inline(always)]
                || {
                    let (mut long, none) = (vec![0.0; span], vec![0.0; span]);
                    add_up(x, &none, &mut long, |x, _| x);
                    fold(&long, &mut sums);
                },
            );
            sums
        };
        let chunks: Vec<Vec<f32>> = x.par_chunks(chunk_rows(c) * c).map(sums).collect();
        for (i, y) in args.out_f32(0).iter_mut().enumerate() {
            *y = chunks.iter().map(|v| f64::from(v[i])).sum::<f64>() as f32;
        }
    }
    fn cases(&self) -> Vec<Case<ColumnSumU>> {
        let mut g = Gen::new("reduce/column_sum");
        let mut cases = vec![];
        for (rows, c) in [(0, 9), (1, 1), (3, 5), (700, 33), (5000, 8), (90, 300), (5, 5000)] {
            let u = ColumnSumU { rows: rows as u32, c: c as u32 };
            cases.push(Case::new(format!("[{rows}, {c}]"), u, vec![g.f32s(rows * c)], vec![c]));
            cases.push(Case::new(format!("[{rows}, {c}] dyadic"), u, vec![g.dyadic(rows * c)], vec![c]).exact());
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

uniform! {
    /// Uniform of [`MeanBits`].
    pub struct MeanBitsU {
        /// Groups of rows.
        groups: u32,
        /// Rows of a group.
        n: u32,
        /// Channels.
        c: u32,
        /// Planes.
        planes: u32,
        /// What the count is multiplied by.
        scale: f32
    }
}

/// Groups, rows of a group and channels of the cases.
const GROUPS: [(usize, usize, usize); 6] = [(0, 3, 8), (2, 0, 8), (1, 1, 1), (3, 5, 32), (4, 64, 70), (17, 9, 200)];

/// x bits\[planes, groups, n, c\] -> y\[groups, c\], scale times the sum over planes and n.
pub struct MeanBits;

impl Kernel for MeanBits {
    head!("reduce/mean_bits", MeanBitsU, [x: ReadU32, y: WriteF32]);
    fn threads(&self, u: &MeanBitsU) -> usize {
        u.groups as usize * u.c as usize
    }
    fn cpu(&self, u: &MeanBitsU, args: &mut Args<'_>) {
        let x = args.u32(0);
        let (groups, n, c) = (u.groups as usize, u.n as usize, (u.c as usize).max(1));
        let nw = words(c);
        args.out_f32(0).par_chunks_mut(c).enumerate().for_each(|(group, y)| {
            simd(
                #[inline(always)]
                || {
                    // Whole numbers below 2^24: floats count exactly.
                    let ones = vec![1.0f32; c];
                    y.fill(0.0);
                    for p in 0..u.planes as usize {
                        let at = (p * groups + group) * n * nw;
                        x[at..at + n * nw].chunks(nw).for_each(|row| masked_add(y, &ones, row));
                    }
                    y.iter_mut().for_each(|y| *y *= u.scale);
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<MeanBitsU>> {
        let mut g = Gen::new("reduce/mean_bits");
        let mut cases = vec![];
        for (groups, n, c) in GROUPS {
            for planes in [1, 3] {
                let u = MeanBitsU { groups: groups as u32, n: n as u32, c: c as u32, planes: planes as u32, scale: 0.3 };
                let x = g.bits(planes * groups * n, c, 0.4);
                cases.push(Case::new(format!("[{planes}, {groups}, {n}, {c}]"), u, vec![x], vec![groups * c]));
            }
        }
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Mean`] and [`MeanBackward`].
    pub struct MeanU {
        /// Groups of rows.
        groups: u32,
        /// Rows of a group.
        n: u32,
        /// Channels.
        c: u32,
        /// What the sum is multiplied by.
        scale: f32
    }
}

impl MeanU {
    fn cases(
        self_name: &str,
        input: fn(usize, usize, usize) -> usize,
        output: fn(usize, usize, usize) -> usize,
    ) -> Vec<Case<Self>> {
        let mut g = Gen::new(self_name);
        GROUPS
            .map(|(groups, n, c)| {
                let u = MeanU { groups: groups as u32, n: n as u32, c: c as u32, scale: 0.3 };
                Case::new(format!("[{groups}, {n}, {c}]"), u, vec![g.f32s(input(groups, n, c))], vec![output(groups, n, c)])
            })
            .into()
    }
}

/// x\[groups, n, c\] -> y\[groups, c\], scale times the sum over n.
pub struct Mean;

impl Kernel for Mean {
    head!("reduce/mean", MeanU, [x: ReadF32, y: WriteF32]);
    fn threads(&self, u: &MeanU) -> usize {
        u.groups as usize * u.c as usize
    }
    fn cpu(&self, u: &MeanU, args: &mut Args<'_>) {
        let x = args.f32(0);
        let (n, c) = (u.n as usize, (u.c as usize).max(1));
        args.out_f32(0).par_chunks_mut(c).enumerate().for_each(|(group, y)| {
            simd(
                #[inline(always)]
                || {
                    y.fill(0.0);
                    for row in x[group * n * c..(group + 1) * n * c].chunks_exact(c) {
                        y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
                    }
                    y.iter_mut().for_each(|y| *y *= u.scale);
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<MeanU>> {
        MeanU::cases("reduce/mean", |g, n, c| g * n * c, |g, _, c| g * c)
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// dy\[groups, c\] -> dx\[groups, n, c\] = scale dy.
pub struct MeanBackward;

impl Kernel for MeanBackward {
    head!("reduce/mean_backward", MeanU, [dy: ReadF32, dx: WriteF32]);
    fn threads(&self, u: &MeanU) -> usize {
        u.groups as usize * u.n as usize * u.c as usize
    }
    fn cpu(&self, u: &MeanU, args: &mut Args<'_>) {
        let dy = args.f32(0);
        let (n, c) = (u.n as usize, (u.c as usize).max(1));
        let task = task_rows(c);
        args.out_f32(0).par_chunks_mut(task * c).enumerate().for_each(|(t, dx)| {
            for (i, dx) in dx.chunks_mut(c).enumerate() {
                let group = (t * task + i) / n;
                dx.iter_mut().zip(&dy[group * c..]).for_each(|(dx, dy)| *dx = u.scale * dy);
            }
        });
    }
    fn cases(&self) -> Vec<Case<MeanU>> {
        MeanU::cases("reduce/mean_backward", |g, _, c| g * c, |g, n, c| g * n * c)
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Count`].
    pub struct CountU {
        /// Images x h x w.
        rows: u32,
        /// Channels.
        c: u32,
        /// Planes.
        planes: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32
    }
}

impl CountU {
    /// Workgroups, as in the shader.
    fn parts(&self) -> usize {
        (self.planes as usize * self.rows as usize * words(self.c as usize)).div_ceil(4096).clamp(1, 1024)
    }
}

/// x bits\[planes, images, h, w, c\] -> y\[9\] spikes by class of border, 3 ry + rx, where ry is 0 in the first row (also when it is the
/// only one), 2 in the last and 1 between, and rx likewise: what a padded convolution needs to know to count its operations.
pub struct Count;

impl Kernel for Count {
    head!("reduce/count", CountU, [x: ReadU32, y: WriteU32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &CountU) -> usize {
        u.parts() * 256
    }
    fn finish(&self, u: &CountU) -> Option<[usize; 2]> {
        Some([u.parts() * 9, 256])
    }
    fn cpu(&self, u: &CountU, args: &mut Args<'_>) {
        let (w, h, nw) = (u.w.max(1) as usize, u.h.max(1) as usize, words(u.c as usize).max(1));
        // One image row after another; planes are only more images.
        let task = task_rows(w * nw);
        let count = |(t, x): (usize, &[u32])| {
            let mut counts = [0u32; 9];
            simd(
                #[inline(always)]
                || {
                    let ones = |x: &[u32]| x.iter().map(|x| x.count_ones()).sum::<u32>();
                    for (i, row) in x.chunks(w * nw).enumerate() {
                        let y = (t * task + i) % h;
                        let ry = if y == 0 { 0 } else { 3 + 3 * usize::from(y == h - 1) };
                        counts[ry] += ones(&row[..nw]);
                        if w > 1 {
                            counts[ry + 1] += ones(&row[nw..(w - 1) * nw]);
                            counts[ry + 2] += ones(&row[(w - 1) * nw..]);
                        }
                    }
                },
            );
            counts
        };
        let add = |a: [u32; 9], b: [u32; 9]| std::array::from_fn(|i| a[i].wrapping_add(b[i]));
        let total = args.u32(0).par_chunks(task * w * nw).enumerate().map(count).reduce(|| [0; 9], add);
        args.out_u32(0).copy_from_slice(&total);
    }
    fn cases(&self) -> Vec<Case<CountU>> {
        let mut g = Gen::new("reduce/count");
        [
            (0, 4, 4, 8, 1),
            (1, 1, 1, 1, 1),
            (2, 1, 5, 40, 2),
            (2, 5, 1, 40, 1),
            (3, 2, 2, 33, 1),
            (2, 7, 9, 70, 3),
            (4, 64, 64, 32, 1),
        ]
        .map(|(images, h, w, c, planes): (usize, usize, usize, usize, usize)| {
            let rows = images * h * w;
            let u = CountU { rows: rows as u32, c: c as u32, planes: planes as u32, h: h as u32, w: w as u32 };
            Case::new(format!("[{planes}, {images}, {h}, {w}, {c}]"), u, vec![g.bits(planes * rows, c, 0.4)], vec![9])
        })
        .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(ColumnSum), Box::new(MeanBits), Box::new(Mean), Box::new(MeanBackward), Box::new(Count)]
}
