//! Backward of the neurons over all T, alone and with the sums that a batch norm before them needs.

use super::{BLOCK, Currents, NeuronU, Stored, scaled, settings, step};
use crate::kernel::columns::{fold, span_rows, spread};
use crate::kernel::par::{Shared, prefetch, scratch};
use crate::kernel::{Access, Args, Case, Data, Gen, Kernel, Tolerance, simd};
use crate::neuron::{Charging, Model, NeuronKind};
use crate::surrogate::{Surrogate, SurrogateKind, with_surrogate};
use crate::with_model;
use rayon::prelude::*;

/// x, a, b, w as in [`Forward`](super::Forward), ds\[T, rows, C\], dv_seq -> dz\[T, rows, C\] (the gradient of the current), dw\[rows, C\] (of w, one share for each
/// neuron; empty where tau is not learned).
///
/// dL/dH\[t\] = dS g(H - Vth) + (dV + dL/dH\[t+1\] dH\[t+1\]/dV\[t\]) dV\[t\]/dH\[t\]. Clips start from rest: there is no `v0`.
pub struct Backward {
    /// Charge function.
    pub kind: NeuronKind,
    /// Surrogate gradient.
    pub surrogate: SurrogateKind,
}

/// dL/dH of one neuron at one step, from H, dL/dS, and dL/dV from the step after.
#[inline(always)]
fn back<S: Surrogate, const SOFT: bool, const DETACH: bool>(h: f32, ds: f32, dv: f32, u: &NeuronU) -> f32 {
    let x = h - u.v_threshold;
    let sg = S::grad(x, u.alpha);
    let below = if x >= 0.0 { 0.0 } else { 1.0 };
    let dv_dh = match (SOFT, DETACH) {
        (true, true) => 1.0,
        (true, false) => 1.0 - sg * u.v_threshold,
        (false, true) => below,
        (false, false) => below + sg * (u.rest - h),
    };
    ds * sg + dv * dv_dh
}

/// Backward of one block of neurons at one step: `d` holds dL/dS\[t\] and receives dz\[t\]; `h` holds H\[t\] and receives dL/dH\[t\]; `carry` is
/// dL/dV\[t\] from the step after.
#[inline(always)]
fn step_back<M: Model, S: Surrogate, const SOFT: bool, const DETACH: bool>(
    h: &mut [f32],
    d: &mut [f32],
    carry: &mut [f32],
    c: Charging,
    u: &NeuronU,
) {
    let n = h.len();
    // One length for all, so that the loop has no bounds to check and vectorises; and what is constant by value.
    let (d, carry, u) = (&mut d[..n], &mut carry[..n], &u.clone());
    let (dh_dv, dh_dx) = (M::dh_dv(c), M::dh_dx(c));
    for i in 0..n {
        let gh = back::<S, SOFT, DETACH>(h[i], d[i], carry[i], u);
        carry[i] = gh * dh_dv;
        h[i] = gh;
        d[i] = gh * dh_dx;
    }
}

/// `f` of the neurons of a block, compiled once more for a whole one, whose loops are then unrolled.
#[inline(always)]
fn known<R>(m: usize, f: impl FnOnce(usize) -> R) -> R {
    if m == BLOCK { f(BLOCK) } else { f(m) }
}

/// Which sums [`run`] returns.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum Wanted<'a> {
    /// None.
    Nothing,
    /// Of dz, \[C\].
    Alone,
    /// Of dz and of dz (x - mean), \[2, C\], with the mean \[C\].
    About(&'a [f32]),
}

/// One step forward of one block: H of each neuron, and the membrane after its reset.
#[inline(always)]
fn charge_row<M: Model>(x: &[f32], gain: &[f32], shift: &[f32], v: &mut [f32], h: &mut [f32], c: Charging, u: &NeuronU) {
    let n = x.len();
    let (gain, shift, v, h) = (&gain[..n], &shift[..n], &mut v[..n], &mut h[..n]);
    let (soft, rest, threshold) = (u.soft != 0, u.rest, u.v_threshold);
    for k in 0..n {
        h[k] = M::charge(v[k], gain[k] * x[k] + shift[k], c);
        let reset = if soft { h[k] - threshold } else { rest };
        v[k] = if h[k] >= threshold { reset } else { h[k] };
    }
}

/// The buffers of all kernels but for the currents.
pub(in crate::kernel) struct Buffers<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub w: &'a [f32],
    /// Empty where `dz` holds it.
    pub ds: &'a [f32],
    /// Of the membranes after each step, where they have a gradient.
    pub dv: &'a [f32],
    pub dz: &'a mut [f32],
    /// Where tau is learned.
    pub dw: &'a mut [f32],
}

/// Rows of a tile, a whole number of spans: where sums are wanted, dL/dH and x of all T steps stay in the second-level cache (256 KiB).
fn tile(u: &NeuronU, sums: bool) -> usize {
    let c = (u.c as usize).max(1);
    let all = if sums { 1 << 15 } else { 1 << 14 };
    let rows = (all / u.steps.max(1) as usize).clamp(512, 4096).div_ceil(c);
    rows.next_multiple_of(span_rows(c))
}

/// All kernels, with currents from `x`. The sums wanted are added up tile by tile and then over the tiles, whatever the
/// number of threads.
pub(in crate::kernel) fn run<M: Model, S: Surrogate>(
    u: &NeuronU,
    x: &impl Currents,
    io: Buffers<'_>,
    wanted: Wanted<'_>,
) -> Vec<f64> {
    let Buffers { a, b, w, ds, dv, .. } = io;
    let (steps, rows, c) = (u.steps as usize, u.rows as usize, u.c as usize);
    if c == 0 {
        return Vec::new();
    }
    let (tile, charging, span) = (tile(u, !matches!(wanted, Wanted::Nothing)), u.charging(w), span_rows(c) * c);
    // Gain, shift and mean of each neuron of a span of rows, so that the loops over it are long whatever the number of channels.
    let long = |p: &[f32], none: f32| if u.affine != 0 { spread(p) } else { vec![none; span] };
    let (gain, shift) = (long(a, 1.0), long(b, 0.0));
    let (mean, of_tile) = match wanted {
        Wanted::Nothing => (None, 0),
        Wanted::Alone => (None, c),
        Wanted::About(mean) => (Some(spread(mean)), 2 * c),
    };
    let tiles = rows.div_ceil(tile);
    let mut sums = vec![0.0; tiles * of_tile];
    let (all_dz, dw, parts) = (Shared::new(io.dz), Shared::new(io.dw), Shared::new(&mut sums));
    (0..tiles).into_par_iter().for_each(|i| {
        let (r0, rows_here) = (i * tile, tile.min(rows - i * tile));
        let n = rows_here * c;
        // dL/dH of one block, or of all that sums are wanted of; and x less its mean, for the steps of x lie so far apart that caches of
        // few ways forget them.
        let (held, kept) = (if of_tile > 0 { n } else { BLOCK }, if mean.is_some() { n } else { 0 });
        // What is used most begins a cache line.
        let parts_of = [BLOCK, BLOCK, steps * held, steps * kept, steps * x.room(rows_here)];
        scratch(parts_of.iter().sum(), |s| {
            let [v, carry, h, less, room] = cut(s, parts_of);
            let x_of = x.at_steps(steps, rows, r0, rows_here, room);
            // SAFETY: each tile has its own.
            let sums = unsafe { parts.slice(i * of_tile, of_tile) };
            simd(
                #[inline(always)]
                || {
                    let blocks = (0..n).step_by(span).flat_map(|p| {
                        (0..span.min(n - p)).step_by(BLOCK).map(move |q| (p + q, q, BLOCK.min(span.min(n - p) - q)))
                    });
                    for (p, q, m) in blocks {
                        let (gain, shift) = (&gain[q..q + m], &shift[q..q + m]);
                        let held = if of_tile > 0 { steps * p } else { 0 };
                        let h = &mut h[held..held + steps * m];
                        let (v, carry) = (&mut v[..m], &mut carry[..m]);
                        v.fill(u.rest);
                        carry.fill(0.0);
                        for (t, (x, h)) in x_of.iter().zip(h.chunks_exact_mut(m)).enumerate() {
                            let x = &x[p..p + m];
                            known(
                                m,
                                #[inline(always)]
                                |m| charge_row::<M>(&x[..m], gain, shift, v, h, charging, u),
                            );
                            if let Some(mean) = &mean {
                                let less = &mut less[steps * p + t * m..][..m];
                                less.iter_mut().zip(x).zip(&mean[q..q + m]).for_each(|((l, x), m)| *l = x - m);
                            }
                        }
                        for (t, h) in h.chunks_exact_mut(m).enumerate().rev() {
                            let at = (t * rows + r0) * c + p;
                            // The next block's.
                            x.prefetch(at + m, BLOCK);
                            if ds.is_empty() {
                                all_dz.prefetch(at + m, BLOCK);
                            } else {
                                prefetch(ds, at + m, BLOCK);
                            }
                            // SAFETY: tiles are disjoint in rows, and so are the pieces they cut at each step.
                            let dz = unsafe { all_dz.slice(at, m) };
                            if !ds.is_empty() {
                                dz.copy_from_slice(&ds[at..at + m]);
                            }
                            if u.store_v_seq != 0 {
                                carry.iter_mut().zip(&dv[at..at + m]).for_each(|(c, d)| *c += d);
                            }
                            known(
                                m,
                                #[inline(always)]
                                |m| {
                                    let (h, d, carry) = (&mut h[..m], &mut dz[..m], &mut carry[..m]);
                                    match (u.soft != 0, u.detach_reset != 0) {
                                        (true, true) => step_back::<M, S, true, true>(h, d, carry, charging, u),
                                        (true, false) => step_back::<M, S, true, false>(h, d, carry, charging, u),
                                        (false, true) => step_back::<M, S, false, true>(h, d, carry, charging, u),
                                        (false, false) => step_back::<M, S, false, false>(h, d, carry, charging, u),
                                    }
                                },
                            );
                        }
                        if u.learned == 0 {
                            continue;
                        }
                        // The membrane before each step, once more.
                        // SAFETY: as above.
                        let dw = unsafe { dw.slice(r0 * c + p, m) };
                        v.fill(u.rest);
                        dw.fill(0.0);
                        for t in 0..steps {
                            let (x, h) = (&x_of[t][p..p + m], &h[t * m..(t + 1) * m]);
                            for i in 0..m {
                                let z = gain[i] * x[i] + shift[i];
                                dw[i] += h[i] * M::dh_dk(v[i], z, charging);
                                step::<M>(&mut v[i], z, charging, u);
                            }
                        }
                        // dk/dw = k (1 - k), k = logistic(w).
                        dw.iter_mut().for_each(|d| *d *= charging.k * (1.0 - charging.k));
                    }
                    add_up(h, less, sums, [steps, n, span], M::dh_dx(charging));
                },
            );
        });
    });
    let mut total = vec![0.0f64; of_tile];
    for part in sums.chunks_exact(of_tile.max(1)) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += f64::from(*p));
    }
    total
}

/// Adds dz = `dh_dx` dL/dH of a tile up by channel, and where they are kept dz (x - mean): h and less\[blocks, steps, block\] -> sums, \[c\] or
/// \[2, c\].
#[inline(always)]
fn add_up(h: &[f32], less: &[f32], sums: &mut [f32], [steps, n, span]: [usize; 3], dh_dx: f32) {
    if sums.is_empty() {
        return;
    }
    let both = !less.is_empty();
    let mut long = [vec![0.0f32; span], vec![0.0f32; if both { span } else { 0 }]];
    let [s1, s2] = &mut long;
    for q in (0..span).step_by(BLOCK) {
        for t in (0..steps).rev() {
            for p in (q..n).step_by(span) {
                let m = BLOCK.min(span - q).min(n - p);
                let at = steps * p + t * m;
                let (h, s1) = (&h[at..at + m], &mut s1[q..q + m]);
                if both {
                    let (less, s2) = (&less[at..at + m], &mut s2[q..q + m]);
                    known(
                        m,
                        #[inline(always)]
                        |m| {
                            let (h, less, s1, s2) = (&h[..m], &less[..m], &mut s1[..m], &mut s2[..m]);
                            for k in 0..m {
                                let g = h[k] * dh_dx;
                                s1[k] += g;
                                s2[k] += g * less[k];
                            }
                        },
                    );
                } else {
                    s1.iter_mut().zip(h).for_each(|(s, h)| *s += h * dh_dx);
                }
            }
        }
    }
    let c = sums.len() / if both { 2 } else { 1 };
    sums.chunks_exact_mut(c).zip(&long).for_each(|(sums, s)| fold(s, sums));
}

/// Cuts parts of these lengths from `s`, one after the other.
fn cut<const N: usize>(mut s: &mut [f32], lengths: [usize; N]) -> [&mut [f32]; N] {
    lengths.map(|n| s.split_off_mut(..n).unwrap_or_default())
}

impl Kernel for Backward {
    type Uniform = NeuronU;
    fn name(&self) -> &'static str {
        "neuron/backward"
    }
    fn variant(&self) -> String {
        format!("{}, {}", self.kind.key(), self.surrogate.key())
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../../shaders/neuron/backward.wgsl")
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into()), ("surrogate", self.surrogate.wgsl().into())]
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[
            ("x", Access::ReadF32),
            ("a", Access::ReadF32),
            ("b", Access::ReadF32),
            ("w", Access::ReadF32),
            ("ds", Access::ReadF32),
            ("dv_seq", Access::ReadF32),
            ("dz", Access::WriteF32),
            ("dw", Access::WriteF32),
        ]
    }
    fn threads(&self, u: &NeuronU) -> usize {
        (u.rows * u.c) as usize
    }
    fn onto(&self) -> Option<usize> {
        Some(4)
    }
    fn cpu(&self, u: &NeuronU, args: &mut Args<'_>) {
        let (x, a, b, w, ds, dv) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3), args.f32(4), args.f32(5));
        let x = Stored { x, c: u.c as usize };
        let io = Buffers { a, b, w, ds, dv, dz: args.out_f32(0), dw: args.out_f32(1) };
        with_surrogate!(self.surrogate, S => with_model!(self.kind, M => run::<M, S>(u, &x, io, Wanted::Nothing)));
    }
    fn cases(&self) -> Vec<Case<NeuronU>> {
        let mut g = Gen::new("neuron/backward");
        let mut out = Vec::new();
        for (name, n) in settings(self.kind, self.surrogate, 2.0) {
            for (steps, rows, c) in [(4, 3, 32), (5, 7, 41), (1, 1, 1), (3, 0, 8), (3, 2, 0), (3, 7, 96), (2, 33, 8), (2, 2, 320)]
            {
                let mut u = NeuronU::new(&n, steps, rows, c);
                let flag = rows % 3 == 1;
                u.affine = u32::from(flag);
                u.store_v_seq = u32::from(flag);
                let all = steps * rows * c;
                let len = |n: usize| if flag { n } else { 0 };
                let inputs = vec![
                    scaled(g.dyadic(all), 2.0),
                    g.dyadic(len(c)),
                    g.dyadic(len(c)),
                    Data::F32(vec![-0.3; usize::from(self.kind.learns_tau())]),
                    g.f32s(all),
                    g.f32s(len(all)),
                ];
                let outputs = vec![all, if self.kind.learns_tau() { rows * c } else { 0 }];
                out.push(Case::new(format!("{name} [{steps}, {rows}, {c}]"), u, inputs, outputs));
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-5)
    }
}

/// [`Backward`] behind a batch norm in training: x\[T, rows, C\], a\[C\], b\[C\], mean\[C\], ds\[T, rows, C\] -> dz\[T, rows, C\], sums\[2, C\] of dz and of
/// dz (x - mean), as `norm/backward_reduce` gives them: while dz and x are at hand they cost no traffic.
///
/// For neurons whose tau is not learned and whose membranes have no gradient.
pub struct BackwardNorm {
    /// Charge function.
    pub kind: NeuronKind,
    /// Surrogate gradient.
    pub surrogate: SurrogateKind,
}

/// `parts()` of the shaders that add sums up.
pub(in crate::kernel) fn norm_parts(rows: u32) -> usize {
    (rows as usize).div_ceil(64).clamp(1, 1024)
}

impl Kernel for BackwardNorm {
    type Uniform = NeuronU;
    fn name(&self) -> &'static str {
        "neuron/backward_norm"
    }
    fn variant(&self) -> String {
        format!("{}, {}", self.kind.key(), self.surrogate.key())
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../../shaders/neuron/backward_norm.wgsl")
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into()), ("surrogate", self.surrogate.wgsl().into())]
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[
            ("x", Access::ReadF32),
            ("a", Access::ReadF32),
            ("b", Access::ReadF32),
            ("mean", Access::ReadF32),
            ("ds", Access::ReadF32),
            ("dz", Access::WriteF32),
            ("sums", Access::WriteF32),
        ]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &NeuronU) -> usize {
        norm_parts(u.rows) * (u.c as usize).div_ceil(32) * 256
    }
    fn finish(&self, u: &NeuronU) -> Option<[usize; 2]> {
        Some([norm_parts(u.rows) * 2 * u.c as usize, (u.c as usize).div_ceil(32) * 256])
    }
    fn onto(&self) -> Option<usize> {
        Some(4)
    }
    fn cpu(&self, u: &NeuronU, args: &mut Args<'_>) {
        let (x, a, b, mean, ds) = (args.f32(0), args.f32(1), args.f32(2), args.f32(3), args.f32(4));
        let x = Stored { x, c: u.c as usize };
        let io = Buffers { a, b, w: &[], ds, dv: &[], dz: args.out_f32(0), dw: &mut [] };
        let total =
            with_surrogate!(self.surrogate, S => with_model!(self.kind, M => run::<M, S>(u, &x, io, Wanted::About(mean))));
        args.out_f32(1).iter_mut().zip(total).for_each(|(s, t)| *s = t as f32);
    }
    fn cases(&self) -> Vec<Case<NeuronU>> {
        let mut g = Gen::new("neuron/backward_norm");
        let mut out = Vec::new();
        for (name, n) in settings(self.kind, self.surrogate, 2.0) {
            for (steps, rows, c) in [(4, 3, 32), (5, 130, 41), (2, 90, 48), (1, 1, 1), (3, 0, 8), (3, 2, 0)] {
                let u = NeuronU { affine: 1, ..NeuronU::new(&n, steps, rows, c) };
                let all = steps * rows * c;
                let inputs = vec![scaled(g.dyadic(all), 2.0), g.dyadic(c), g.dyadic(c), g.f32s(c), g.f32s(all)];
                out.push(Case::new(format!("{name} [{steps}, {rows}, {c}]"), u, inputs, vec![all, 2 * c]));
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-5)
    }
}
