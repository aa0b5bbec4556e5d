//! Multi-step neurons: charge, fire and reset fused over all T in one kernel, forward and backward.
//!
//! `x` is `[T, rows, C]`, spikes leave packed as `[T, rows, words(C)]`. The current is `a[c] * x + b[c]` when `affine` is set, which is how
//! a batch norm reaches the neuron without being stored. Backward recomputes the membrane from `x`: nothing but `x` is kept.

pub(super) mod backward;

use super::par::{Shared, prefetch, scratch};
use super::{Access, Args, Case, Data, Gen, Kernel, Tolerance, simd, words};
use crate::neuron::{Charging, Model, Neuron, NeuronKind};
use crate::surrogate::{SurrogateKind, logistic};
use crate::{uniform, with_model};
use rayon::prelude::*;
use std::ops::Range;

pub use backward::{Backward, BackwardNorm};

uniform! {
    /// Uniform of [`Forward`] and [`Backward`].
    pub struct NeuronU {
        /// T.
        steps: u32,
        /// Places x samples.
        rows: u32,
        /// Channels.
        c: u32,
        /// Whether `a` and `b` apply.
        affine: u32,
        /// Whether `v0` holds the membrane to start from.
        has_v0: u32,
        /// Whether the last membrane is wanted.
        store_v: u32,
        /// Whether the membrane after each step is wanted (forward), or has a gradient (backward).
        store_v_seq: u32,
        /// Whether 1/tau = logistic(w).
        learned: u32,
        /// 1/tau where it is not learned.
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

impl NeuronU {
    /// The uniform of a neuron layer over `[steps, rows, c]`.
    pub fn new(n: &Neuron, steps: usize, rows: usize, c: usize) -> Self {
        NeuronU {
            steps: steps as u32,
            rows: rows as u32,
            c: c as u32,
            affine: 0,
            has_v0: 0,
            store_v: 0,
            store_v_seq: 0,
            learned: u32::from(n.neuron.learns_tau()),
            k: 1.0 / n.tau,
            rest: n.rest(),
            v_threshold: n.v_threshold,
            soft: u32::from(n.v_reset.is_none()),
            decay_input: u32::from(n.decay_input),
            detach_reset: u32::from(n.detach_reset),
            alpha: n.alpha,
        }
    }
    pub(super) fn charging(&self, w: &[f32]) -> Charging {
        let k = if self.learned != 0 { logistic(w[0]) } else { self.k };
        Charging { k, rest: self.rest, decay_input: self.decay_input != 0 }
    }
    /// Rows of a tile: about 4096 neurons, whose membranes stay in the first-level cache.
    pub(super) fn tile(&self) -> usize {
        (4096 / (self.c as usize).max(1)).max(1)
    }
}

/// Where the currents \[T, rows, C\] of neurons come from.
pub(super) trait Currents: Sync {
    /// Floats that [`Currents::of`] needs for so many rows.
    fn room(&self, rows: usize) -> usize;
    /// Those of some rows, counted through all steps.
    fn of<'a>(&'a self, rows: Range<usize>, room: &'a mut [f32]) -> &'a [f32];
    /// Those of `n` rows from `first` on at each of all steps, with room for each.
    fn at_steps<'a>(&'a self, steps: usize, rows: usize, first: usize, n: usize, mut room: &'a mut [f32]) -> Vec<&'a [f32]> {
        let of = |t| {
            let at = t * rows + first;
            self.of(at..at + n, room.split_off_mut(..self.room(n)).unwrap_or_default())
        };
        (0..steps).map(of).collect()
    }
    /// Asks for `n` that are wanted soon, in the order of \[T, rows, C\].
    fn prefetch(&self, first: usize, n: usize);
}

/// Currents that lie in memory.
pub(super) struct Stored<'a> {
    x: &'a [f32],
    c: usize,
}

impl Currents for Stored<'_> {
    fn room(&self, _: usize) -> usize {
        0
    }
    #[inline(always)]
    fn of<'a>(&'a self, rows: Range<usize>, _: &'a mut [f32]) -> &'a [f32] {
        &self.x[rows.start * self.c..rows.end * self.c]
    }
    #[inline(always)]
    fn prefetch(&self, first: usize, n: usize) {
        prefetch(self.x, first, n);
    }
}

/// Neurons that are taken through all T together, so that all but currents, spikes and gradients stays in the first-level cache while the
/// next block's are asked for. Half of it and twice it cost a little more, thousands a third more time.
const BLOCK: usize = 128;

/// x\[T, rows, C\], a\[C\], b\[C\], w\[1\], v0\[rows, C\] -> s bits\[T, rows, C\], v\[rows, C\], v_seq\[T, rows, C\].
///
/// `a`, `b`, `w` and `v0` may be empty where their flag is off, and the membranes are empty where they are not wanted.
pub struct Forward {
    /// Charge function.
    pub kind: NeuronKind,
}

#[inline(always)]
pub(super) fn step<M: Model>(v: &mut f32, x: f32, c: Charging, u: &NeuronU) -> bool {
    let h = M::charge(*v, x, c);
    let fired = h >= u.v_threshold;
    let reset = if u.soft != 0 { h - u.v_threshold } else { u.rest };
    *v = if fired { reset } else { h };
    fired
}

/// One bit for each byte, which is 0 or 255, the first lowest.
#[inline(always)]
pub(super) fn gather_bits(fired: &[u8; 16]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_movemask_epi8};
        // SAFETY: sixteen bytes are there; SSE2 is part of x86-64.
        unsafe { _mm_movemask_epi8(_mm_loadu_si128(fired.as_ptr().cast())) as u32 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut bits = 0;
        for (i, bytes) in fired.as_chunks::<8>().0.iter().enumerate() {
            // A multiplication moves the low bits of eight together.
            let low = u64::from_le_bytes(*bytes) & 0x0101_0101_0101_0101;
            bits |= ((low.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32) << (8 * i);
        }
        bits
    }
}

/// One step of one row: the membrane moves, the spikes come back packed.
#[inline(always)]
pub(super) fn step_row<M: Model>(x: &[f32], a: &[f32], b: &[f32], v: &mut [f32], s: &mut [u32], c: Charging, u: &NeuronU) {
    // Copies, which nothing else can point to.
    let (c, u) = (c, &u.clone());
    let affine = u.affine != 0;
    let (a, b) = if affine { (a, b) } else { (x, x) };
    let ((xs, x), (a_s, a), (b_s, b)) = (x.as_chunks::<32>(), a.as_chunks::<32>(), b.as_chunks::<32>());
    let (vs, v) = v.as_chunks_mut::<32>();
    let n = xs.len();
    let (vs, a_s, b_s, (s, last)) = (&mut vs[..n], &a_s[..n], &b_s[..n], s.split_at_mut(n));
    for i in 0..n {
        (vs[i], s[i]) = step_block::<M, 32>(xs[i], a_s[i], b_s[i], vs[i], c, u);
    }
    let Some(last) = last.first_mut() else { return };
    *last = 0;
    // Half a word is a block, too; the others one by one.
    let ((xs, x), (a_s, a), (b_s, b)) = (x.as_chunks::<16>(), a.as_chunks::<16>(), b.as_chunks::<16>());
    let (vs, v) = v.as_chunks_mut::<16>();
    for (((x, a), b), v) in xs.iter().zip(a_s).zip(b_s).zip(&mut *vs) {
        (*v, *last) = step_block::<M, 16>(*x, *a, *b, *v, c, u);
    }
    let first = 16 * xs.len();
    for (k, (((x, a), b), v)) in (first..).zip(x.iter().zip(a).zip(b).zip(v)) {
        *last |= u32::from(step::<M>(v, if affine { a * x + b } else { *x }, c, u)) << k;
    }
}

/// [`step_row`] of N neurons, up to a word of them: by a loop of known length over copies, which vectorises best.
#[inline(always)]
fn step_block<M: Model, const N: usize>(
    x: [f32; N],
    a: [f32; N],
    b: [f32; N],
    mut h: [f32; N],
    c: Charging,
    u: &NeuronU,
) -> ([f32; N], u32) {
    let (affine, mut fired) = (u.affine != 0, [0; N]);
    for k in 0..N {
        fired[k] = 0u8.wrapping_sub(step::<M>(&mut h[k], if affine { a[k] * x[k] + b[k] } else { x[k] }, c, u).into());
    }
    let bits = fired.as_chunks::<16>().0.iter().rev().fold(0, |bits, f| (bits << 16) | gather_bits(f));
    (h, bits)
}

/// Forward of neurons whose currents come from `x`; the rest as in [`Forward`].
pub(super) fn forward<M: Model>(
    u: &NeuronU,
    x: &impl Currents,
    [a, b, w, v0]: [&[f32]; 4],
    s: &mut [u32],
    [v_end, v_seq]: [&mut [f32]; 2],
) {
    let (steps, rows, c) = (u.steps as usize, u.rows as usize, u.c as usize);
    let (nw, tile, charging) = (words(c), u.tile(), u.charging(w));
    // All steps together where currents lie in memory; one by one, and more neurons at a time, where they are made, so that they stay in the
    // first-level cache.
    let made = x.room(1) > 0;
    let block = if made { 4 * BLOCK } else { BLOCK };
    let joined = (block / c.max(1)).max(1);
    let span = (joined * c).max(1);
    // Rows of whole words are one long row, and blocks are cut from it; others are whole rows, one by one.
    let whole = c.is_multiple_of(32);
    let (block, row) = if whole { (block, block) } else { (span, c) };
    let words_of = |neurons: usize| if whole { neurons / 32 } else { neurons / c * nw };
    let spread = |p: &[f32]| if u.affine != 0 { p.repeat(joined) } else { Vec::new() };
    let (a, b) = (spread(a), spread(b));
    let (s, v_end, v_seq) = (Shared::new(s), Shared::new(v_end), Shared::new(v_seq));
    (0..rows.div_ceil(tile)).into_par_iter().for_each(|i| {
        let (r0, n) = (i * tile, tile.min(rows - i * tile));
        scratch(n * c + x.room(n), |both| {
            let (v, room) = both.split_at_mut(n * c);
            if u.has_v0 != 0 {
                v.copy_from_slice(&v0[r0 * c..(r0 + n) * c]);
            } else {
                v.fill(u.rest);
            }
            let all = if made { Vec::new() } else { x.at_steps(steps, rows, r0, n, &mut []) };
            for t0 in (0..steps).step_by(if made { 1 } else { steps.max(1) }) {
                let one = [x.of(t0 * rows + r0..t0 * rows + r0 + n, room)];
                let x_of = if made { &one[..] } else { &all };
                simd(
                    #[inline(always)]
                    || {
                        for p in (0..n * c).step_by(span) {
                            let end = (p + span).min(n * c);
                            for first in (p..end).step_by(block) {
                                let m = block.min(end - first);
                                let v = &mut v[first..first + m];
                                let affine = if u.affine != 0 { first - p..first - p + m } else { 0..0 };
                                let (a, b) = (&a[affine.clone()], &b[affine]);
                                let (word, here) = (words_of(first), words_of(m));
                                for (t, z) in (t0..).zip(x_of) {
                                    let at = (t * rows + r0) * c + first;
                                    // The next block's.
                                    x.prefetch(at + m, BLOCK);
                                    let z = &z[first..first + m];
                                    // SAFETY: tiles are disjoint in rows, and so are the pieces they cut at each step.
                                    let s = unsafe { s.slice((t * rows + r0) * nw + word, here) };
                                    if m <= row {
                                        step_row::<M>(z, a, b, v, s, charging, u);
                                    } else {
                                        let (a, b) = if u.affine != 0 { (a, b) } else { (z, z) };
                                        let affine = a.chunks(row).zip(b.chunks(row));
                                        let pieces = z.chunks(row).zip(affine).zip(v.chunks_mut(row)).zip(s.chunks_mut(nw));
                                        for (((z, (a, b)), v), s) in pieces {
                                            step_row::<M>(z, a, b, v, s, charging, u);
                                        }
                                    }
                                    if u.store_v_seq != 0 {
                                        // SAFETY: as above.
                                        unsafe { v_seq.slice(at, m) }.copy_from_slice(v);
                                    }
                                }
                            }
                        }
                    },
                );
            }
            if u.store_v != 0 {
                // SAFETY: as above.
                unsafe { v_end.slice(r0 * c, n * c) }.copy_from_slice(v);
            }
        });
    });
}

impl Kernel for Forward {
    type Uniform = NeuronU;
    fn name(&self) -> &'static str {
        "neuron/forward"
    }
    fn variant(&self) -> String {
        self.kind.key().into()
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/neuron/forward.wgsl")
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into())]
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[
            ("x", Access::ReadF32),
            ("a", Access::ReadF32),
            ("b", Access::ReadF32),
            ("w", Access::ReadF32),
            ("v0", Access::ReadF32),
            ("s", Access::WriteU32),
            ("v", Access::WriteF32),
            ("v_seq", Access::WriteF32),
        ]
    }
    fn threads(&self, u: &NeuronU) -> usize {
        // One invocation a channel, rows padded to whole words.
        u.rows as usize * words(u.c as usize) * 32
    }
    fn cpu(&self, u: &NeuronU, args: &mut Args<'_>) {
        let x = Stored { x: args.f32(0), c: u.c as usize };
        let (inputs, s) = ([args.f32(1), args.f32(2), args.f32(3), args.f32(4)], args.out_u32(0));
        let membranes = [args.out_f32(1), args.out_f32(2)];
        with_model!(self.kind, M => forward::<M>(u, &x, inputs, s, membranes));
    }
    fn cases(&self) -> Vec<Case<NeuronU>> {
        let mut g = Gen::new("neuron/forward");
        let mut out = Vec::new();
        for (name, n) in settings(self.kind, SurrogateKind::Sigmoid, 4.0) {
            for (steps, rows, c) in [
                (4, 3, 32),
                (5, 7, 41),
                (1, 2, 1),
                (3, 0, 8),
                (3, 2, 0),
                (2, 70, 100),
                (3, 7, 96),
                (2, 33, 8),
                (2, 2, 320),
                (70, 2, 33),
            ] {
                let mut u = NeuronU::new(&n, steps, rows, c);
                let flags = (rows % 3 == 1, steps % 2 == 1);
                u.affine = u32::from(flags.0);
                u.has_v0 = u32::from(flags.1);
                u.store_v = u32::from(flags.1);
                u.store_v_seq = u32::from(flags.0);
                let (count, all) = (rows * c, steps * rows * c);
                let len = |on: bool, n: usize| if on { n } else { 0 };
                // Dyadic throughout, tau a power of two: spikes and membranes must be equal (a learned tau is not dyadic).
                let inputs = vec![
                    scaled(g.dyadic(all), 2.0),
                    g.dyadic(len(flags.0, c)),
                    g.dyadic(len(flags.0, c)),
                    Data::F32(vec![-0.3; usize::from(self.kind.learns_tau())]),
                    g.dyadic(len(flags.1, count)),
                ];
                let outputs = vec![steps * rows * words(c), len(flags.1, count), len(flags.0, all)];
                let case = Case::new(format!("{name} [{steps}, {rows}, {c}]"), u, inputs, outputs);
                out.push(if self.kind.learns_tau() { case } else { case.exact() });
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-5)
    }
}

fn scaled(d: Data, k: f32) -> Data {
    match d {
        Data::F32(v) => Data::F32(v.into_iter().map(|x| x * k).collect()),
        d => d,
    }
}

/// Settings that between them take every branch.
pub(super) fn settings(kind: NeuronKind, surrogate: SurrogateKind, alpha: f32) -> Vec<(&'static str, Neuron)> {
    let n = Neuron { neuron: kind, surrogate, alpha, ..Neuron::default() };
    vec![
        ("hard", Neuron { v_threshold: 0.5, ..n }),
        ("soft, no decay", Neuron { v_threshold: 0.5, v_reset: None, decay_input: false, detach_reset: false, ..n }),
        ("reset -0.25, tau 4", Neuron { tau: 4.0, v_reset: Some(-0.25), detach_reset: false, ..n }),
    ]
}

/// Every variant of the kernels.
pub fn all() -> Vec<Box<dyn super::AnyKernel>> {
    let mut v: Vec<Box<dyn super::AnyKernel>> = Vec::new();
    for &kind in NeuronKind::ALL {
        v.push(Box::new(Forward { kind }));
        for &surrogate in SurrogateKind::ALL {
            v.push(Box::new(Backward { kind, surrogate }));
            if !kind.learns_tau() {
                v.push(Box::new(BackwardNorm { kind, surrogate }));
            }
        }
    }
    v
}
