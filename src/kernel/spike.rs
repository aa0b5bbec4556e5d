//! Packed spikes: joining, gating, splitting, and the way between bits and floats.
//!
//! `bits[rows, c]` are `[rows, words(c)]`; several planes are `[planes, rows, words(c)]`.

use super::bits::{keep, masked, masked_add, pack, tree};
use super::par::{Shared, task_rows};
use super::{AnyKernel, Args, Case, Data, Gen, Kernel, Tolerance, simd, words};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Concat`].
    pub struct ConcatU {
        /// Words of a.
        na: u32,
        /// Words of b.
        nb: u32
    }
}

/// y = a then b: the planes of two tensors of one shape.
pub struct Concat;

impl Kernel for Concat {
    head!("spike/concat", ConcatU, [a: ReadU32, b: ReadU32, y: WriteU32]);
    fn threads(&self, u: &ConcatU) -> usize {
        u.na as usize + u.nb as usize
    }
    fn cpu(&self, u: &ConcatU, args: &mut Args<'_>) {
        let (a, b) = args.out_u32(0).split_at_mut(u.na as usize);
        rayon::join(|| a.copy_from_slice(args.u32(0)), || b.copy_from_slice(args.u32(1)));
    }
    fn cases(&self) -> Vec<Case<ConcatU>> {
        let mut g = Gen::new("spike/concat");
        let mut words = |n| g.below(n, 1 << 32);
        [(0, 0), (0, 5), (65, 0), (64, 3), (1000, 1000)]
            .map(|(a, b)| {
                let u = ConcatU { na: a as u32, nb: b as u32 };
                Case::new(format!("{a} and {b}"), u, vec![words(a), words(b)], vec![a + b])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Sort`].
    pub struct SortU {
        /// Words of a plane.
        n: u32,
        /// Planes.
        planes: u32
    }
}

/// x bits\[planes, ..\] -> y of that shape, with as many spikes at each place, in its first planes: plane k has one where the value
/// exceeds k. Of maps in that order the larger value is an OR of each plane.
pub struct Sort;

impl Kernel for Sort {
    head!("spike/sort", SortU, [x: ReadU32, y: WriteU32]);
    fn threads(&self, u: &SortU) -> usize {
        u.n as usize
    }
    fn cpu(&self, u: &SortU, args: &mut Args<'_>) {
        let (x, n, y) = (args.u32(0), u.n as usize, Shared::new(args.out_u32(0)));
        let task = 1 << 12;
        (0..(u.n as usize).div_ceil(task)).into_par_iter().for_each(|i| {
            let words = i * task..((i + 1) * task).min(n);
            // SAFETY: tasks are disjoint in words, and within one a plane is taken once at a time.
            let plane = |p: usize| unsafe { y.slice(p * n + words.start, words.len()) };
            let mut more = vec![0; words.len()];
            for q in 0..u.planes as usize {
                more.copy_from_slice(&x[q * n..][words.clone()]);
                for p in 0..q {
                    // What this plane has already goes on to the next.
                    plane(p).iter_mut().zip(&mut more).for_each(|(have, more)| (*have, *more) = (*have | *more, *have & *more));
                }
                plane(q).copy_from_slice(&more);
            }
        });
    }
    fn cases(&self) -> Vec<Case<SortU>> {
        let mut g = Gen::new("spike/sort");
        [(0, 3), (1, 1), (65, 2), (1000, 5), (5000, 3)]
            .map(|(n, planes)| {
                let x = g.below(n * planes, 1 << 32);
                let u = SortU { n: n as u32, planes: planes as u32 };
                Case::new(format!("{planes} planes of {n} words"), u, vec![x], vec![n * planes])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`MaskBackward`] and of gates of rows ([`super::gate`]).
    pub struct MaskU {
        /// Places x samples x steps.
        rows: u32,
        /// Channels of a.
        c: u32,
        /// Channels of the router.
        experts: u32,
        /// The expert whose rows these are.
        expert: u32
    }
}

impl MaskU {
    /// Whether the router chose the expert for row `i`.
    #[inline(always)]
    pub(super) fn open(&self, r: &[u32], i: usize) -> bool {
        let e = self.expert as usize;
        r[i * words(self.experts as usize) + e / 32] >> (e % 32) & 1 != 0
    }
    pub(super) fn cases(name: &str) -> Vec<(String, MaskU, Gen)> {
        [(0, 8, 4, 1), (1, 1, 1, 0), (5, 32, 4, 3), (37, 70, 33, 32), (600, 129, 8, 0)]
            .map(|(rows, c, experts, expert)| {
                let label = format!("[{rows}, {c}], expert {expert} of {experts}");
                let g = Gen::new(&format!("{name} {label}"));
                (label, MaskU { rows, c, experts, expert }, g)
            })
            .into()
    }
}

uniform! {
    /// Uniform of [`Mixture`].
    pub struct MixtureU {
        /// Places x samples x steps.
        rows: u32,
        /// Channels of an expert's spikes.
        c: u32,
        /// Channels of the router.
        experts: u32,
        /// The expert of a0.
        first: u32,
        /// How many of a0 to a3 there are.
        n: u32
    }
}

/// r bits\[rows, experts\], a0 to a3 bits\[rows, c\] (or empty, from the n-th on) -> y bits\[n, rows, c\]: the rows of each where the router
/// chose its expert, else nothing.
pub struct Mixture;

impl Kernel for Mixture {
    head!("spike/mixture", MixtureU, [r: ReadU32, a0: ReadU32, a1: ReadU32, a2: ReadU32, a3: ReadU32, y: WriteU32]);
    fn threads(&self, u: &MixtureU) -> usize {
        u.n as usize * u.rows as usize * words(u.c as usize)
    }
    fn cpu(&self, u: &MixtureU, args: &mut Args<'_>) {
        let (r, rows, nw) = (args.u32(0), u.rows as usize, words(u.c as usize).max(1));
        let a = [1, 2, 3, 4].map(|i| args.u32(i));
        let task = task_rows(nw);
        args.out_u32(0).par_chunks_mut((rows * nw).max(1)).enumerate().for_each(|(p, y)| {
            let u = MaskU { rows: u.rows, c: u.c, experts: u.experts, expert: u.first + p as u32 };
            y.par_chunks_mut(task * nw).zip(a[p].par_chunks(task * nw)).enumerate().for_each(|(t, (y, a))| {
                for (i, (y, a)) in y.chunks_mut(nw).zip(a.chunks(nw)).enumerate() {
                    match u.open(r, t * task + i) {
                        true => y.copy_from_slice(a),
                        false => y.fill(0),
                    }
                }
            });
        });
    }
    fn cases(&self) -> Vec<Case<MixtureU>> {
        let mut g = Gen::new("spike/mixture");
        [(0, 8, 4, 0, 4), (1, 1, 1, 0, 1), (5, 32, 4, 0, 4), (37, 70, 35, 32, 3), (600, 129, 8, 4, 4), (9, 40, 6, 4, 2)]
            .map(|(rows, c, experts, first, n)| {
                let u = MixtureU { rows, c, experts, first, n };
                let (rows, c) = (rows as usize, c as usize);
                let mut inputs = vec![g.bits(rows, experts as usize, 0.5)];
                inputs.extend((0..4).map(|i| g.bits(if i < n { rows } else { 0 }, c, 0.3)));
                let name = format!("[{rows}, {c}], {n} experts of {experts} from {first}");
                Case::new(name, u, inputs, vec![n as usize * rows * words(c)])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// r bits\[rows, experts\], a bits\[rows, c\], dy\[rows, c\] -> da\[rows, c\] = r dy, dr\[rows\] = sum of dy over the spikes of a.
pub struct MaskBackward;

impl Kernel for MaskBackward {
    head!("spike/mask_backward", MaskU, [r: ReadU32, a: ReadU32, dy: ReadF32, da: WriteF32, dr: WriteF32]);
    fn threads(&self, u: &MaskU) -> usize {
        u.rows as usize * 32
    }
    fn cpu(&self, u: &MaskU, args: &mut Args<'_>) {
        let (r, a, dy) = (args.u32(0), args.u32(1), args.f32(2));
        let c = (u.c as usize).max(1);
        let (nw, task) = (words(c), task_rows(c));
        let (da, dr) = (args.out_f32(0), args.out_f32(1));
        da.par_chunks_mut(task * c).zip(dr.par_chunks_mut(task)).enumerate().for_each(|(t, (da, dr))| {
            simd(
                #[inline(always)]
                || {
                    for (k, (da, dr)) in da.chunks_mut(c).zip(dr).enumerate() {
                        let i = t * task + k;
                        let dy = &dy[i * c..(i + 1) * c];
                        if u.open(r, i) {
                            da.copy_from_slice(dy)
                        } else {
                            da.fill(0.0)
                        }
                        let mut lanes = [0.0; 32];
                        for (dy, &w) in dy.chunks(32).zip(&a[i * nw..]) {
                            for (l, &d) in dy.iter().enumerate() {
                                lanes[l] += keep(d, w, l);
                            }
                        }
                        *dr = tree(lanes);
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<MaskU>> {
        let case = |(label, u, mut g): (String, MaskU, Gen)| {
            let (rows, c) = (u.rows as usize, u.c as usize);
            let inputs = vec![g.bits(rows, u.experts as usize, 0.5), g.bits(rows, c, 0.3), g.f32s(rows * c)];
            Case::new(label, u, inputs, vec![rows * c, rows])
        };
        MaskU::cases("spike/mask_backward").into_iter().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`And`].
    pub struct AndU {
        /// Words of each.
        words: u32
    }
}

/// y = a & b on bits of one shape.
pub struct And;

impl Kernel for And {
    head!("spike/and", AndU, [a: ReadU32, b: ReadU32, y: WriteU32]);
    fn threads(&self, u: &AndU) -> usize {
        u.words as usize
    }
    fn cpu(&self, _: &AndU, args: &mut Args<'_>) {
        let (a, b, y) = (args.u32(0), args.u32(1), args.out_u32(0));
        y.par_chunks_mut(1 << 14).zip(a.par_chunks(1 << 14)).zip(b.par_chunks(1 << 14)).for_each(|((y, a), b)| {
            y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a & b);
        });
    }
    fn cases(&self) -> Vec<Case<AndU>> {
        let mut g = Gen::new("spike/and");
        [0, 1, 65, 20_000]
            .map(|n| {
                let inputs = vec![g.below(n, 1 << 32), g.below(n, 1 << 32)];
                Case::new(format!("{n}"), AndU { words: n as u32 }, inputs, vec![n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`AndBackward`].
    pub struct AndBackwardU {
        /// Rows.
        rows: u32,
        /// Channels.
        c: u32
    }
}

/// a bits\[rows, c\], b bits\[rows, c\], dy\[rows, c\] -> da = dy b, db = dy a.
pub struct AndBackward;

impl Kernel for AndBackward {
    head!("spike/and_backward", AndBackwardU, [a: ReadU32, b: ReadU32, dy: ReadF32, da: WriteF32, db: WriteF32]);
    fn threads(&self, u: &AndBackwardU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &AndBackwardU, args: &mut Args<'_>) {
        let (a, b, dy) = (args.u32(0), args.u32(1), args.f32(2));
        let c = (u.c as usize).max(1);
        let (nw, task) = (words(c), task_rows(c));
        let (da, db) = (args.out_f32(0), args.out_f32(1));
        da.par_chunks_mut(task * c).zip(db.par_chunks_mut(task * c)).enumerate().for_each(|(t, (da, db))| {
            simd(
                #[inline(always)]
                || {
                    for (k, (da, db)) in da.chunks_mut(c).zip(db.chunks_mut(c)).enumerate() {
                        let i = t * task + k;
                        let dy = &dy[i * c..(i + 1) * c];
                        masked(da, dy, &b[i * nw..]);
                        masked(db, dy, &a[i * nw..]);
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<AndBackwardU>> {
        let mut g = Gen::new("spike/and_backward");
        [(0, 8), (1, 1), (3, 32), (70, 77), (300, 256)]
            .map(|(rows, c)| {
                let inputs = vec![g.bits(rows, c, 0.3), g.bits(rows, c, 0.7), g.f32s(rows * c)];
                let u = AndBackwardU { rows: rows as u32, c: c as u32 };
                Case::new(format!("[{rows}, {c}]"), u, inputs, vec![rows * c; 2])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`AndRow`] and [`AndRowBackward`].
    pub struct AndRowU {
        /// Groups of rows that share a gate.
        groups: u32,
        /// Rows of a group.
        n: u32,
        /// Channels.
        c: u32
    }
}

/// Groups, rows of a group and channels of the cases.
const GROUPS: [(usize, usize, usize); 6] = [(0, 3, 8), (2, 0, 8), (1, 1, 1), (3, 5, 32), (4, 64, 70), (17, 9, 200)];

/// a bits\[groups, n, c\], g bits\[groups, c\] -> y bits\[groups, n, c\] = a & g: a gate that all rows of a group share.
pub struct AndRow;

impl Kernel for AndRow {
    head!("spike/and_row", AndRowU, [a: ReadU32, g: ReadU32, y: WriteU32]);
    fn threads(&self, u: &AndRowU) -> usize {
        u.groups as usize * u.n as usize * words(u.c as usize)
    }
    fn cpu(&self, u: &AndRowU, args: &mut Args<'_>) {
        let (a, g) = (args.u32(0), args.u32(1));
        let (n, nw) = (u.n as usize, words(u.c as usize).max(1));
        let task = task_rows(nw);
        args.out_u32(0).par_chunks_mut(task * nw).enumerate().for_each(|(t, y)| {
            for (i, y) in y.chunks_mut(nw).enumerate().map(|(i, y)| (t * task + i, y)) {
                let (a, g) = (&a[i * nw..], &g[i / n * nw..]);
                y.iter_mut().zip(a).zip(g).for_each(|((y, a), g)| *y = a & g);
            }
        });
    }
    fn cases(&self) -> Vec<Case<AndRowU>> {
        let mut r = Gen::new("spike/and_row");
        GROUPS
            .map(|(groups, n, c)| {
                let u = AndRowU { groups: groups as u32, n: n as u32, c: c as u32 };
                let inputs = vec![r.bits(groups * n, c, 0.4), r.bits(groups, c, 0.6)];
                Case::new(format!("[{groups}, {n}, {c}]"), u, inputs, vec![groups * n * words(c)])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// a, g as in [`AndRow`], dy\[groups, n, c\] -> da\[groups, n, c\] = dy g, dg\[groups, c\] = sum over n of dy a.
pub struct AndRowBackward;

impl Kernel for AndRowBackward {
    head!("spike/and_row_backward", AndRowU, [a: ReadU32, g: ReadU32, dy: ReadF32, da: WriteF32, dg: WriteF32]);
    fn threads(&self, u: &AndRowU) -> usize {
        u.groups as usize * u.c as usize
    }
    fn cpu(&self, u: &AndRowU, args: &mut Args<'_>) {
        let (a, g, dy) = (args.u32(0), args.u32(1), args.f32(2));
        let (n, c) = (u.n as usize, (u.c as usize).max(1));
        let nw = words(c);
        let (da, dg) = (args.out_f32(0), args.out_f32(1));
        if n == 0 {
            return dg.fill(0.0);
        }
        da.par_chunks_mut(n * c).zip(dg.par_chunks_mut(c)).enumerate().for_each(|(group, (da, dg))| {
            simd(
                #[inline(always)]
                || {
                    dg.fill(0.0);
                    for (k, da) in da.chunks_mut(c).enumerate() {
                        let i = group * n + k;
                        let dy = &dy[i * c..(i + 1) * c];
                        masked(da, dy, &g[group * nw..]);
                        masked_add(dg, dy, &a[i * nw..]);
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<AndRowU>> {
        let mut r = Gen::new("spike/and_row_backward");
        GROUPS
            .map(|(groups, n, c)| {
                let u = AndRowU { groups: groups as u32, n: n as u32, c: c as u32 };
                let inputs = vec![r.bits(groups * n, c, 0.4), r.bits(groups, c, 0.6), r.f32s(groups * n * c)];
                Case::new(format!("[{groups}, {n}, {c}]"), u, inputs, vec![groups * n * c, groups * c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Split`].
    pub struct SplitU {
        /// Rows.
        rows: u32,
        /// Channels of x.
        c: u32,
        /// Channels of a.
        first: u32
    }
}

/// x bits\[rows, c\] -> a bits\[rows, first\], b bits\[rows, c - first\].
pub struct Split;

impl Kernel for Split {
    head!("spike/split", SplitU, [x: ReadU32, a: WriteU32, b: WriteU32]);
    fn threads(&self, u: &SplitU) -> usize {
        u.rows as usize * (words(u.first as usize) + words((u.c - u.first) as usize))
    }
    fn cpu(&self, u: &SplitU, args: &mut Args<'_>) {
        let x = args.u32(0);
        let (c, first) = (u.c as usize, u.first as usize);
        let (nw, wa, wb) = (words(c), words(first), words(c - first));
        let (a, b) = (args.out_u32(0), args.out_u32(1));
        let task = task_rows(nw);
        // Either may have no channels at all.
        if wa > 0 {
            a.par_chunks_mut(task * wa).zip(x.par_chunks(task * nw)).for_each(|(a, x)| {
                for (a, x) in a.chunks_mut(wa).zip(x.chunks(nw)) {
                    a.copy_from_slice(&x[..wa]);
                    if first % 32 != 0 {
                        a[wa - 1] &= (1 << (first % 32)) - 1;
                    }
                }
            });
        }
        if wb > 0 {
            let (from, shift) = (first / 32, first % 32);
            b.par_chunks_mut(task * wb).zip(x.par_chunks(task * nw)).for_each(|(b, x)| {
                for (b, x) in b.chunks_mut(wb).zip(x.chunks(nw)) {
                    for (w, b) in b.iter_mut().enumerate() {
                        let high = x.get(from + w + 1).copied().unwrap_or(0);
                        *b = ((u64::from(high) << 32 | u64::from(x[from + w])) >> shift) as u32;
                    }
                }
            });
        }
    }
    fn cases(&self) -> Vec<Case<SplitU>> {
        let mut g = Gen::new("spike/split");
        [(0, 8, 4), (3, 64, 32), (5, 70, 33), (7, 100, 5), (2, 33, 32), (4, 40, 0), (4, 40, 40), (300, 96, 48)]
            .map(|(rows, c, first)| {
                let u = SplitU { rows: rows as u32, c: c as u32, first: first as u32 };
                let outputs = vec![rows * words(first), rows * words(c - first)];
                Case::new(format!("[{rows}, {c}] at {first}"), u, vec![g.bits(rows, c, 0.5)], outputs)
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Pack`].
    pub struct PackU {
        /// Rows.
        rows: u32,
        /// Channels.
        c: u32
    }
}

/// x\[rows, c\] -> y bits\[rows, c\]: a spike where x is not zero.
pub struct Pack;

impl Kernel for Pack {
    head!("spike/pack", PackU, [x: ReadF32, y: WriteU32]);
    fn threads(&self, u: &PackU) -> usize {
        u.rows as usize * words(u.c as usize) * 32
    }
    fn cpu(&self, u: &PackU, args: &mut Args<'_>) {
        let x = args.f32(0);
        let c = (u.c as usize).max(1);
        let (nw, task) = (words(c), task_rows(c));
        args.out_u32(0).par_chunks_mut(task * nw).zip(x.par_chunks(task * c)).for_each(|(y, x)| {
            simd(
                #[inline(always)]
                || y.chunks_mut(nw).zip(x.chunks(c)).for_each(|(y, x)| pack(y, x)),
            )
        });
    }
    fn cases(&self) -> Vec<Case<PackU>> {
        let mut g = Gen::new("spike/pack");
        let u = |rows: usize, c: usize| PackU { rows: rows as u32, c: c as u32 };
        let mut cases: Vec<_> = [(0, 8), (1, 1), (3, 32), (70, 77), (1000, 40)]
            .map(|(rows, c)| Case::new(format!("[{rows}, {c}]"), u(rows, c), vec![g.counts(rows * c)], vec![rows * words(c)]))
            .into();
        let odd = vec![-0.0, 0.0, 1e-30, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE];
        cases.push(Case::new("extremes", u(1, 7), vec![Data::F32(odd)], vec![1]));
        cases
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Unpack`].
    pub struct UnpackU {
        /// Rows of a plane.
        rows: u32,
        /// Channels.
        c: u32,
        /// Planes.
        planes: u32
    }
}

/// x bits\[planes, rows, c\] -> y\[rows, c\], the sum of the planes.
pub struct Unpack;

impl Kernel for Unpack {
    head!("spike/unpack", UnpackU, [x: ReadU32, y: WriteF32]);
    fn threads(&self, u: &UnpackU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &UnpackU, args: &mut Args<'_>) {
        let x = args.u32(0);
        let (rows, c) = (u.rows as usize, (u.c as usize).max(1));
        let (nw, task) = (words(c), task_rows(c));
        args.out_f32(0).par_chunks_mut(task * c).enumerate().for_each(|(t, y)| {
            simd(
                #[inline(always)]
                || {
                    let ones = [1.0f32; 32];
                    for (k, y) in y.chunks_mut(c).enumerate() {
                        y.fill(0.0);
                        for p in 0..u.planes as usize {
                            let at = (p * rows + t * task + k) * nw;
                            for (y, w) in y.chunks_mut(32).zip(&x[at..at + nw]) {
                                let n = y.len();
                                masked_add(y, &ones[..n], &[*w]);
                            }
                        }
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<UnpackU>> {
        let mut g = Gen::new("spike/unpack");
        [(0, 8, 1), (1, 1, 1), (3, 32, 4), (70, 77, 2), (5, 9, 0), (1000, 40, 1)]
            .map(|(rows, c, planes)| {
                let u = UnpackU { rows: rows as u32, c: c as u32, planes: planes as u32 };
                Case::new(format!("[{planes}, {rows}, {c}]"), u, vec![g.bits(planes * rows, c, 0.4)], vec![rows * c])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![
        Box::new(Concat),
        Box::new(Sort),
        Box::new(Mixture),
        Box::new(MaskBackward),
        Box::new(And),
        Box::new(AndBackward),
        Box::new(AndRow),
        Box::new(AndRowBackward),
        Box::new(Split),
        Box::new(Pack),
        Box::new(Unpack),
    ]
}
