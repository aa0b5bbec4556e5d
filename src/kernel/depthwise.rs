//! Depth-wise 3x3 convolutions of packed spikes: each channel has its own nine weights \[9, c\].

use super::bit_matrix::each_tap;
use super::bits::keep;
use super::neuron::{NeuronU, step_row};
use super::par::Shared;
use super::product::split_range;
use super::{Access, Args, Case, Counted, Data, Gen, Kernel, Tolerance, simd, words};
use crate::neuron::{Model, Neuron, NeuronKind};
use crate::{uniform, with_model};
use rayon::prelude::*;

uniform! {
    /// Uniform of the depth-wise convolutions.
    pub struct DepthwiseU {
        /// Images (T x B).
        images: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Channels.
        c: u32,
        /// Runs of pixels that the weight gradient sums apart.
        splits: u32
    }
}

impl DepthwiseU {
    fn pixels(&self) -> usize {
        self.images as usize * self.h as usize * self.w as usize
    }
}

fn cases(
    name: &str,
    second: impl Fn(&DepthwiseU) -> usize,
    bits: bool,
    out: impl Fn(&DepthwiseU) -> usize,
) -> Vec<Case<DepthwiseU>> {
    let mut g = Gen::new(name);
    [(1, 3, 4, 5, 1), (2, 5, 1, 40, 3), (2, 8, 8, 96, 4), (1, 1, 1, 33, 2), (0, 4, 4, 8, 1)]
        .map(|(images, h, w, c, splits)| {
            let u = DepthwiseU { images, h, w, c, splits };
            let x = if bits { g.bits(u.pixels(), c as usize, 0.3) } else { g.dyadic(u.pixels() * c as usize) };
            let name = format!("[{images}, {h}, {w}, {c}], splits {splits}");
            Case::new(name, u, vec![x, g.dyadic(second(&u))], vec![out(&u)]).exact()
        })
        .into()
}

/// dst\[k\] += src\[k\] where bit k of `bits` is set.
#[inline(always)]
fn add_where(dst: &mut [f32], bits: &[u32], src: &[f32]) {
    for ((d, s), &word) in dst.chunks_mut(32).zip(src.chunks(32)).zip(bits) {
        // Whole words by a loop of known length, which vectorises best.
        if let (Ok(d), Ok(s)) = (<&mut [f32; 32]>::try_from(&mut *d), <&[f32; 32]>::try_from(s)) {
            for k in 0..32 {
                d[k] += keep(s[k], word, k);
            }
            continue;
        }
        for (k, (d, s)) in d.iter_mut().zip(s).enumerate() {
            *d += keep(*s, word, k);
        }
    }
}

/// x bits\[images, h, w, c\], w\[9, c\] -> y\[images, h, w, c\].
pub struct Forward;

impl Kernel for Forward {
    type Uniform = DepthwiseU;
    fn name(&self) -> &'static str {
        "conv/depthwise"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv/depthwise.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("x", Access::ReadU32), ("w", Access::ReadF32), ("y", Access::WriteF32)]
    }
    fn threads(&self, u: &DepthwiseU) -> usize {
        u.pixels() * u.c as usize
    }
    fn cpu(&self, u: &DepthwiseU, args: &mut Args<'_>) {
        let (x, w, y) = (args.u32(0), args.f32(1), args.out_f32(0));
        let (c, nw) = (u.c as usize, words(u.c as usize));
        // Rows of whole words, like the spikes.
        let mut padded = vec![[0.0f32; 32]; 9 * nw];
        for (to, from) in padded.chunks_exact_mut(nw.max(1)).zip(w.chunks_exact(c.max(1))) {
            to.as_flattened_mut()[..c].copy_from_slice(from);
        }
        y.par_chunks_mut(64 * c.max(1)).enumerate().for_each(|(b, y)| {
            simd(
                #[inline(always)]
                || {
                    for (i, y) in y.chunks_exact_mut(c).enumerate() {
                        let (mut taps, mut n) = ([(0, 0); 9], 0);
                        each_tap(b * 64 + i, u.h as usize, u.w as usize, |tap, p| {
                            taps[n] = (tap * nw, p * nw);
                            n += 1;
                        });
                        // The sums of a word of channels stay in registers through all taps.
                        for (q, y) in y.chunks_mut(32).enumerate() {
                            let mut sums = [0.0f32; 32];
                            for &(tap, p) in &taps[..n] {
                                let (word, w) = (x[p + q], &padded[tap + q]);
                                for k in 0..32 {
                                    sums[k] += if word & 1 << k != 0 { w[k] } else { 0.0 };
                                }
                            }
                            y.copy_from_slice(&sums[..y.len()]);
                        }
                    }
                },
            );
        });
    }
    fn cases(&self) -> Vec<Case<DepthwiseU>> {
        cases(self.name(), |u| 9 * u.c as usize, true, |u| u.pixels() * u.c as usize)
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

/// dy\[images, h, w, c\], w\[9, c\] -> dx\[images, h, w, c\].
pub struct Input;

impl Kernel for Input {
    type Uniform = DepthwiseU;
    fn name(&self) -> &'static str {
        "conv/depthwise_input"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv/depthwise_input.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("dy", Access::ReadF32), ("w", Access::ReadF32), ("dx", Access::WriteF32)]
    }
    fn threads(&self, u: &DepthwiseU) -> usize {
        u.pixels() * u.c as usize
    }
    fn cpu(&self, u: &DepthwiseU, args: &mut Args<'_>) {
        let (dy, w, dx) = (args.f32(0), args.f32(1), args.out_f32(0));
        let c = u.c as usize;
        dx.par_chunks_mut(64 * c.max(1)).enumerate().for_each(|(b, dx)| {
            simd(
                #[inline(always)]
                || {
                    for (i, dx) in dx.chunks_exact_mut(c).enumerate() {
                        dx.fill(0.0);
                        each_tap(b * 64 + i, u.h as usize, u.w as usize, |tap, p| {
                            let (dy, w) = (&dy[p * c..(p + 1) * c], &w[(8 - tap) * c..(9 - tap) * c]);
                            dx.iter_mut().zip(dy).zip(w).for_each(|((dx, dy), w)| *dx += dy * w);
                        });
                    }
                },
            );
        });
    }
    fn cases(&self) -> Vec<Case<DepthwiseU>> {
        cases(self.name(), |u| 9 * u.c as usize, false, |u| u.pixels() * u.c as usize)
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

/// x bits\[images, h, w, c\], dy\[images, h, w, c\] -> dw\[splits, 9, c\].
pub struct Weight;

impl Kernel for Weight {
    type Uniform = DepthwiseU;
    fn name(&self) -> &'static str {
        "conv/depthwise_weight"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv/depthwise_weight.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("x", Access::ReadU32), ("dy", Access::ReadF32), ("dw", Access::WriteF32)]
    }
    fn threads(&self, u: &DepthwiseU) -> usize {
        u.splits as usize * 9 * u.c as usize
    }
    fn cpu(&self, u: &DepthwiseU, args: &mut Args<'_>) {
        let (x, dy, dw) = (args.u32(0), args.f32(1), args.out_f32(0));
        let (c, nw) = (u.c as usize, words(u.c as usize));
        dw.par_chunks_mut((9 * c).max(1)).enumerate().for_each(|(s, dw)| {
            let (first, end) = split_range(u.pixels(), u.splits as usize, s);
            dw.fill(0.0);
            simd(
                #[inline(always)]
                || {
                    for i in first..end {
                        each_tap(
                            i,
                            u.h as usize,
                            u.w as usize,
                            #[inline(always)]
                            |tap, p| {
                                add_where(&mut dw[tap * c..(tap + 1) * c], &x[p * nw..(p + 1) * nw], &dy[i * c..(i + 1) * c]);
                            },
                        );
                    }
                },
            );
        });
    }
    fn cases(&self) -> Vec<Case<DepthwiseU>> {
        cases(self.name(), |u| u.pixels() * u.c as usize, true, |u| (u.splits * 9 * u.c) as usize)
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(1e-6)
    }
}

uniform! {
    /// Uniform of [`Gated`].
    pub struct GatedU {
        /// Images (T x B).
        images: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Channels.
        c: u32,
        /// T.
        steps: u32,
        /// Whether 1/tau = logistic(tau).
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
        decay_input: u32
    }
}

impl GatedU {
    /// The uniform for images \[T, B, h, w, c\] and these neurons.
    pub fn new(n: &Neuron, [steps, batch, h, w, c]: [usize; 5]) -> Self {
        let n = NeuronU::new(n, steps, 0, 0);
        GatedU {
            images: (steps * batch) as u32,
            h: h as u32,
            w: w as u32,
            c: c as u32,
            steps: steps as u32,
            learned: n.learned,
            k: n.k,
            rest: n.rest,
            v_threshold: n.v_threshold,
            soft: n.soft,
            decay_input: n.decay_input,
        }
    }
    /// Pixels of one step.
    fn rows(&self) -> usize {
        (self.images * self.h * self.w).checked_div(self.steps).unwrap_or(0) as usize
    }
    /// As the clocked kernel has it.
    fn neuron(&self) -> NeuronU {
        let (learned, k, rest, v_threshold) = (self.learned, self.k, self.rest, self.v_threshold);
        let (soft, decay_input) = (self.soft, self.decay_input);
        let n = NeuronU::new(&Neuron::default(), self.steps as usize, self.rows(), self.c as usize);
        NeuronU { affine: 1, learned, k, rest, v_threshold, soft, decay_input, ..n }
    }
}

/// x bits\[T, B, h, w, c\], gate bits of that shape, w\[9, c\], a\[c\], b\[c\], tau\[1\], open\[1\] -> s bits of that shape: gate AND the spikes of neurons
/// behind a [`Forward`] and the line a y + b, which start from rest. `open`, c at most, is zero only where no gate is open, and nothing is
/// dispatched then.
///
/// A neuron whose gate does not open any more is left alone: of a neuron on a GPU, of all channels of a pixel on the CPU. What is emitted
/// is that of the three kernels one after another, to the bit, and no current is stored.
pub struct Gated {
    /// Charge function.
    pub kind: NeuronKind,
}

impl Gated {
    fn run<M: Model>(u: &GatedU, args: &mut Args<'_>) {
        let (x, gate, w, a, b) = (args.u32(0), args.u32(1), args.f32(2), args.f32(3), args.f32(4));
        let n = u.neuron();
        let (steps, rows, c, charging) = (u.steps as usize, u.rows(), u.c as usize, n.charging(args.f32(5)));
        let nw = words(c);
        let s = Shared::new(args.out_u32(0));
        (0..rows).into_par_iter().for_each(|row| {
            let at = |t: usize| (t * rows + row) * nw;
            let end = (0..steps).rev().find(|&t| gate[at(t)..at(t) + nw].iter().any(|g| *g != 0)).map_or(0, |t| t + 1);
            let (mut v, mut y) = (vec![u.rest; c], vec![0.0; c]);
            for t in 0..steps {
                // SAFETY: pixels are disjoint.
                let s = unsafe { s.slice(at(t), nw) };
                s.fill(0);
                if t >= end {
                    continue;
                }
                simd(
                    #[inline(always)]
                    || {
                        y.fill(0.0);
                        each_tap(t * rows + row, u.h as usize, u.w as usize, |tap, p| {
                            add_where(&mut y, &x[p * nw..(p + 1) * nw], &w[tap * c..(tap + 1) * c]);
                        });
                        step_row::<M>(&y, a, b, &mut v, s, charging, &n);
                    },
                );
                s.iter_mut().zip(&gate[at(t)..]).for_each(|(s, g)| *s &= g);
            }
        });
    }
}

impl Kernel for Gated {
    head!(
        "conv/depthwise_gated",
        GatedU,
        [x: ReadU32, gate: ReadU32, w: ReadF32, a: ReadF32, b: ReadF32, tau: ReadF32, open: ReadU32, s: WriteU32]
    );
    fn variant(&self) -> String {
        self.kind.key().into()
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into())]
    }
    fn threads(&self, u: &GatedU) -> usize {
        // One invocation a channel, rows padded to whole words.
        u.rows() * words(u.c as usize) * 32
    }
    fn counted(&self, u: &GatedU) -> Option<Counted> {
        // All of them, or none.
        Some(Counted { input: 6, rows: u.c, threads: self.threads(u) as u32 })
    }
    fn cleared(&self) -> bool {
        true
    }
    fn cpu(&self, u: &GatedU, args: &mut Args<'_>) {
        with_model!(self.kind, M => Self::run::<M>(u, args));
    }
    fn cases(&self) -> Vec<Case<GatedU>> {
        let mut g = Gen::new("conv/depthwise_gated");
        let mut out = Vec::new();
        let soft = Neuron { v_reset: None, decay_input: false, ..Neuron::default() };
        for n in [Neuron::default(), soft] {
            let n = Neuron { neuron: self.kind, v_threshold: 0.5, ..n };
            for (shape, open) in [
                ([4, 1, 3, 5, 32], 0.3),
                ([5, 2, 1, 4, 41], 0.1),
                ([1, 2, 1, 1, 1], 0.5),
                ([3, 2, 4, 3, 100], 0.0),
                ([6, 1, 2, 2, 65], 1.0),
            ] {
                let u = GatedU::new(&n, shape);
                let (pixels, c) = (shape[..4].iter().product(), shape[4]);
                let tau = Data::F32(vec![-0.3; usize::from(self.kind.learns_tau())]);
                let (x, gate) = (g.bits(pixels, c, 0.4), g.bits(pixels, c, open));
                let any = Data::U32(vec![u32::from(gate.words().iter().any(|w| *w != 0))]);
                let inputs = vec![x, gate, g.dyadic(9 * c), g.dyadic(c), g.dyadic(c), tau, any];
                let case = Case::new(format!("{shape:?}, {open} open"), u, inputs, vec![pixels * words(c)]);
                out.push(if self.kind.learns_tau() { case } else { case.exact() });
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Those of each kind of neuron.
pub fn all() -> Vec<Box<dyn super::AnyKernel>> {
    NeuronKind::ALL.iter().map(|&kind| Box::new(Gated { kind }) as Box<dyn super::AnyKernel>).collect()
}
