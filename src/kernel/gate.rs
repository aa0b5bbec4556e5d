//! Gates of rows of floats, and gates that are held for some steps.

use super::bits::tree;
use super::par::task_rows;
use super::spike::MaskU;
use super::{AnyKernel, Args, Case, Gen, Kernel, Tolerance, simd, words};
use crate::uniform;
use rayon::prelude::*;

/// r bits\[rows, experts\], x\[rows, c\] -> y\[rows, c\]: the row of x where the router chose the expert, else zeros.
pub struct Rows;

impl Kernel for Rows {
    head!("gate/rows", MaskU, [r: ReadU32, x: ReadF32, y: WriteF32]);
    fn threads(&self, u: &MaskU) -> usize {
        u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &MaskU, args: &mut Args<'_>) {
        let (r, x, c) = (args.u32(0), args.f32(1), (u.c as usize).max(1));
        let task = task_rows(c);
        args.out_f32(0).par_chunks_mut(task * c).enumerate().for_each(|(t, y)| {
            for (i, y) in y.chunks_mut(c).enumerate().map(|(i, y)| (t * task + i, y)) {
                match u.open(r, i) {
                    true => y.copy_from_slice(&x[i * c..(i + 1) * c]),
                    false => y.fill(0.0),
                }
            }
        });
    }
    fn cases(&self) -> Vec<Case<MaskU>> {
        let case = |(label, u, mut g): (String, MaskU, Gen)| {
            let all = u.rows as usize * u.c as usize;
            let inputs = vec![g.bits(u.rows as usize, u.experts as usize, 0.5), g.f32s(all)];
            Case::new(label, u, inputs, vec![all])
        };
        MaskU::cases("gate/rows").into_iter().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// r, x as in [`Rows`], dy\[rows, c\] -> dx\[rows, c\] = r dy, dr\[rows\] = sum of dy x.
pub struct RowsBackward;

impl Kernel for RowsBackward {
    head!("gate/rows_backward", MaskU, [r: ReadU32, x: ReadF32, dy: ReadF32, dx: WriteF32, dr: WriteF32]);
    fn threads(&self, u: &MaskU) -> usize {
        u.rows as usize * 32
    }
    fn cpu(&self, u: &MaskU, args: &mut Args<'_>) {
        let (r, x, dy) = (args.u32(0), args.f32(1), args.f32(2));
        let c = (u.c as usize).max(1);
        let task = task_rows(c);
        let (dx, dr) = (args.out_f32(0), args.out_f32(1));
        dx.par_chunks_mut(task * c).zip(dr.par_chunks_mut(task)).enumerate().for_each(|(t, (dx, dr))| {
            simd(
                #[inline(always)]
                || {
                    for (k, (dx, dr)) in dx.chunks_mut(c).zip(dr).enumerate() {
                        let i = t * task + k;
                        let (x, dy) = (&x[i * c..(i + 1) * c], &dy[i * c..(i + 1) * c]);
                        if u.open(r, i) {
                            dx.copy_from_slice(dy)
                        } else {
                            dx.fill(0.0)
                        }
                        let mut lanes = [0.0; 32];
                        for (x, dy) in x.chunks(32).zip(dy.chunks(32)) {
                            lanes.iter_mut().zip(x).zip(dy).for_each(|((l, x), d)| *l += x * d);
                        }
                        *dr = tree(lanes);
                    }
                },
            )
        });
    }
    fn cases(&self) -> Vec<Case<MaskU>> {
        let case = |(label, u, mut g): (String, MaskU, Gen)| {
            let (rows, all) = (u.rows as usize, u.rows as usize * u.c as usize);
            let inputs = vec![g.bits(rows, u.experts as usize, 0.5), g.dyadic(all), g.dyadic(all)];
            Case::new(label, u, inputs, vec![all, rows]).exact()
        };
        MaskU::cases("gate/rows_backward").into_iter().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

uniform! {
    /// Uniform of [`Hold`] and [`HoldBackward`].
    pub struct HoldU {
        /// T.
        steps: u32,
        /// Words (backward: floats) of a step.
        size: u32,
        /// Steps of a window.
        window: u32,
        /// Steps of the first window that lie before these.
        before: u32
    }
}

impl HoldU {
    /// Steps of the last window, if it goes on behind these.
    pub fn after(&self) -> usize {
        ((self.before + self.steps) % self.window) as usize
    }
    /// The step whose gates hold at step `t`; none where it lies before these.
    #[inline(always)]
    fn first(&self, t: usize) -> Option<usize> {
        (t + self.before as usize).checked_rem(self.window as usize).and_then(|since| t.checked_sub(since))
    }
    fn cases(name: &str) -> Vec<(String, HoldU, Gen)> {
        [(6, 5, 2, 0), (5, 70, 3, 2), (2, 3, 4, 1), (1, 9, 4, 3), (4, 1, 1, 0), (7, 2, 7, 0), (0, 3, 2, 0)]
            .map(|(steps, size, window, before)| {
                let label = format!("{steps} x {size}, windows of {window}, {before} before");
                let g = Gen::new(&format!("{name} {label}"));
                (label, HoldU { steps, size, window, before }, g)
            })
            .into()
    }
}

/// r\[T, size\] words, earlier\[before, size\] words (its first step is heard) -> y\[T, size\], open\[after, size\].
///
/// The gates of the first step of a window hold for all of it. `open` has as many steps as the last window has so far, its gates in
/// each, and nothing where it is complete: it is the `earlier` of the steps that follow.
pub struct Hold;

impl Kernel for Hold {
    head!("gate/hold", HoldU, [r: ReadU32, earlier: ReadU32, y: WriteU32, open: WriteU32]);
    fn threads(&self, u: &HoldU) -> usize {
        u.size as usize
    }
    fn cpu(&self, u: &HoldU, args: &mut Args<'_>) {
        let (r, earlier, y, open) = (args.u32(0), args.u32(1), args.out_u32(0), args.out_u32(1));
        let n = (u.size as usize).max(1);
        for (t, y) in y.chunks_exact_mut(n).enumerate() {
            y.copy_from_slice(u.first(t).map_or_else(|| &earlier[..n], |t| &r[t * n..(t + 1) * n]));
        }
        let last = match u.steps {
            0 => earlier.get(..n),
            t => y.get((t as usize - 1) * n..),
        };
        open.chunks_exact_mut(n).for_each(|o| o.copy_from_slice(last.unwrap_or_default()));
    }
    fn cases(&self) -> Vec<Case<HoldU>> {
        let case = |(label, u, mut g): (String, HoldU, Gen)| {
            let n = u.size as usize;
            let inputs = vec![g.below(u.steps as usize * n, 1 << 32), g.below(u.before as usize * n, 1 << 32)];
            Case::new(label, u, inputs, vec![u.steps as usize * n, u.after() * n])
        };
        HoldU::cases("gate/hold").into_iter().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// dy\[T, size\] -> dr\[T, size\]: at the first step of a window the sum over the window, else zero.
pub struct HoldBackward;

impl Kernel for HoldBackward {
    head!("gate/hold_backward", HoldU, [dy: ReadF32, dr: WriteF32]);
    fn threads(&self, u: &HoldU) -> usize {
        u.steps as usize * u.size as usize
    }
    fn cpu(&self, u: &HoldU, args: &mut Args<'_>) {
        let (dy, dr) = (args.f32(0), args.out_f32(0));
        let (n, steps) = ((u.size as usize).max(1), u.steps as usize);
        dr.par_chunks_mut(n).enumerate().for_each(|(t, dr)| {
            dr.fill(0.0);
            for s in (t..steps).take_while(|&s| u.first(s) == Some(t)) {
                dr.iter_mut().zip(&dy[s * n..(s + 1) * n]).for_each(|(r, d)| *r += d);
            }
        });
    }
    fn cases(&self) -> Vec<Case<HoldU>> {
        let case = |(label, u, mut g): (String, HoldU, Gen)| {
            let all = u.steps as usize * u.size as usize;
            Case::new(label, u, vec![g.f32s(all)], vec![all])
        };
        HoldU::cases("gate/hold_backward").into_iter().map(case).collect()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Samples`].
    pub struct SamplesU {
        /// T x B.
        samples: u32,
        /// Places of a sample.
        places: u32,
        /// Channels of the router.
        experts: u32
    }
}

/// r bits\[samples, places, experts\] -> y bits\[samples, places, 1\]: whether any gate of the sample is open.
pub struct Samples;

impl Kernel for Samples {
    head!("gate/samples", SamplesU, [r: ReadU32, y: WriteU32]);
    fn threads(&self, u: &SamplesU) -> usize {
        u.samples as usize * 64
    }
    fn cpu(&self, u: &SamplesU, args: &mut Args<'_>) {
        let (r, y, places) = (args.u32(0), args.out_u32(0), (u.places as usize).max(1));
        let gates = r.chunks(places * words(u.experts as usize).max(1));
        y.chunks_mut(places).zip(gates).for_each(|(y, r)| y.fill(u32::from(r.iter().any(|r| *r != 0))));
    }
    fn cases(&self) -> Vec<Case<SamplesU>> {
        let mut g = Gen::new("gate/samples");
        [(3, 4, 4, 0.1), (70, 1, 1, 0.5), (5, 200, 33, 0.0003), (2, 9, 3, 0.0), (1, 65, 64, 1.0), (0, 4, 4, 0.5)]
            .map(|(samples, places, experts, rate)| {
                let n = samples as usize * places as usize;
                let u = SamplesU { samples, places, experts };
                let name = format!("[{samples}, {places}, {experts}] at {rate}");
                Case::new(name, u, vec![g.bits(n, experts as usize, rate)], vec![n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(Rows), Box::new(RowsBackward), Box::new(Hold), Box::new(HoldBackward), Box::new(Samples)]
}
