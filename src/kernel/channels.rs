//! Work for the channels that a gate opens anywhere, and for no others: what [`super::active`] does for rows.
//!
//! [`MayFire`] finds the gates that the weights allow to open, and [`List`] numbers the channels at which any row of the gates has a spike; the other kernels read their count from its buffer, so that nobody
//! waits for it. What they write is compact, `[rows, count]`; a buffer may be longer, and **what lies behind is left as it was**. Packed
//! spikes stay where they were, and are zero where nothing was computed.

use super::active::SKIP;
use super::bit_matrix::{BitMatrix, Pick};
use super::columns;
use super::neuron::{NeuronU, step_row};
use super::par::Shared;
use super::product::{WALK_BELOW, Way, gpu_walk_below, product};
use super::{AnyKernel, Args, Case, Counted, Data, Gen, Kernel, Tolerance, simd, words};
use crate::neuron::{Model, Neuron, NeuronKind};
use crate::{uniform, with_model};
use rayon::prelude::*;

/// Channels that are listed at least, if any is: matrix products of fewer columns round in another way on the CPU.
pub const LEAST: u32 = 16;

uniform! {
    /// Uniform of [`List`].
    pub struct ListU {
        /// Rows.
        rows: u32,
        /// Channels.
        c: u32,
        /// Channels that are listed at least, if any is: [`LEAST`].
        least: u32
    }
}

/// r bits\[rows, c\] -> slots\[c\], list\[c\], count\[1\].
///
/// `list` holds the numbers of the channels at which any row has a spike, in order, and [`SKIP`] behind them; where they are fewer than `least`,
/// but not none, the first of the others too. `slots` holds the place of each channel in it, or [`SKIP`].
pub struct List;

impl Kernel for List {
    head!("channels/list", ListU, [r: ReadU32, slots: WriteU32, list: WriteU32, count: WriteU32]);
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &ListU) -> usize {
        // Without channels too there is a count to write.
        columns::threads(u.rows, words(u.c as usize) as u32).max(256)
    }
    fn finish(&self, u: &ListU) -> Option<[usize; 2]> {
        columns::finish(u.rows, words(u.c as usize) as u32, 1).map(|[scratch, _]| [scratch, 256])
    }
    fn cpu(&self, u: &ListU, args: &mut Args<'_>) {
        let (r, slots, list, count) = (args.u32(0), args.out_u32(0), args.out_u32(1), args.out_u32(2));
        let mut any = vec![0u32; words(u.c as usize)];
        r.chunks_exact(any.len().max(1)).for_each(|row| any.iter_mut().zip(row).for_each(|(a, w)| *a |= w));
        let open = |i: usize| any[i / 32] >> (i % 32) & 1 != 0;
        let opened = any.iter().map(|w| w.count_ones()).sum::<u32>();
        let mut extra = if opened > 0 { u.least.saturating_sub(opened) } else { 0 };
        let mut n = 0;
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = SKIP;
            if open(i) || extra > 0 {
                extra -= u32::from(!open(i));
                (*slot, list[n]) = (n as u32, i as u32);
                n += 1;
            }
        }
        list[n..].fill(SKIP);
        count[0] = n as u32;
    }
    fn cases(&self) -> Vec<Case<ListU>> {
        let mut g = Gen::new("channels/list");
        let mut out = Vec::new();
        for (rows, c, least, rate) in [
            (3, 5, 0, 0.2),
            (4, 40, 16, 0.05),
            (70, 33, 16, 0.0),
            (1300, 70, 16, 0.0005),
            (9, 2000, 16, 0.03),
            (2, 12, 16, 0.1),
            (5, 64, 1, 1.0),
            (0, 20, 16, 0.5),
            (3, 0, 16, 0.5),
        ] {
            let u = ListU { rows, c, least };
            let r = g.bits(rows as usize, c as usize, rate);
            let name = format!("[{rows}, {c}] at {rate}, at least {least}");
            out.push(Case::new(name, u, vec![r], vec![c as usize, c as usize, 1]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// `slots`, `list` and `count` of [`List`] for random gates, and the count.
fn listed(g: &mut Gen, c: u32, rate: f32) -> ([Data; 3], usize) {
    let (r, c) = (g.bits(1, c as usize, rate), c as usize);
    let (mut slots, mut list, mut count) = (vec![0; c], vec![0; c], [0]);
    let u = ListU { rows: 1, c: c as u32, least: 0 };
    Kernel::cpu(&List, &u, &mut Args::new(vec![r.words()], vec![&mut slots, &mut list, &mut count]));
    let n = count[0] as usize;
    ([Data::U32(slots), Data::U32(list), Data::U32(count.to_vec())], n)
}

uniform! {
    /// Uniform of [`MayFire`].
    pub struct MayFireU {
        /// Rows of `w`: input channels.
        cin: u32,
        /// Columns of `w`.
        cout: u32,
        /// The column of channel 0.
        first: u32,
        /// Channels that are looked at.
        c: u32,
        /// Planes of the spikes that arrive.
        planes: u32,
        /// Whether there is a `bias`.
        has_bias: u32,
        /// Added to the variance.
        eps: f32
    }
}

/// w\[cin, cout\], bias\[cout\] (or empty) and gamma, beta, mean, variance\[cout\] of a batch norm -> may bits\[1, c\]: the channels at which neurons whose
/// threshold is above their rest may fire. At the others the current would stay below zero, by more than rounding, even if every
/// weight that helps had its spikes, and no other.
pub struct MayFire;

impl Kernel for MayFire {
    head!(
        "channels/may_fire",
        MayFireU,
        [w: ReadF32, bias: ReadF32, gamma: ReadF32, beta: ReadF32, mean: ReadF32, variance: ReadF32, may: WriteU32]
    );
    fn threads(&self, u: &MayFireU) -> usize {
        u.c as usize
    }
    fn cpu(&self, u: &MayFireU, args: &mut Args<'_>) {
        let of = u.first as usize..(u.first + u.c) as usize;
        let [gamma, beta, mean, variance] = [2, 3, 4, 5].map(|i| &args.f32(i)[of.clone()]);
        let none = vec![0.0; of.len()];
        let bias = if u.has_bias != 0 { &args.f32(1)[of.clone()] } else { &none };
        let gain: Vec<f32> = gamma.iter().zip(variance).map(|(g, v)| g / (v + u.eps).sqrt()).collect();
        // What arrives at most, and all that rounding can be a share of.
        let (mut most, mut size) = (vec![0.0f32; of.len()], vec![0.0f32; of.len()]);
        for row in args.f32(0).chunks_exact((u.cout as usize).max(1)) {
            for (((w, gain), most), size) in row[of.clone()].iter().zip(&gain).zip(&mut most).zip(&mut size) {
                let z = w * gain;
                *most += z.max(0.0);
                *size += z.abs();
            }
        }
        let (planes, may) = (u.planes as f32, args.out_u32(0));
        may.fill(0);
        for i in 0..of.len() {
            let shift = beta[i] + (bias[i] - mean[i]) * gain[i];
            let all = planes * size[i] + beta[i].abs() + (bias[i].abs() + mean[i].abs()) * gain[i].abs();
            let below = planes * most[i] + shift + 1e-3 * all < 0.0;
            // Whatever is not a number may fire.
            may[i / 32] |= u32::from(!below) << (i % 32);
        }
    }
    fn cases(&self) -> Vec<Case<MayFireU>> {
        let mut g = Gen::new("channels/may_fire");
        let mut out = Vec::new();
        for (cin, cout, first, c, planes, has_bias) in
            [(5, 9, 2, 7, 1, 1), (40, 140, 70, 70, 1, 1), (33, 64, 0, 64, 3, 0), (1, 1, 0, 1, 1, 0), (0, 4, 0, 4, 1, 1)]
        {
            let u = MayFireU { cin, cout, first, c, planes, has_bias, eps: 1e-5 };
            let n = cout as usize;
            // Shifts about as large as what arrives.
            let (reach, shift) = ((cin * planes) as f32 / 4.0, g.f32s(n));
            let Data::F32(shift) = shift else { continue };
            let beta = Data::F32(shift.iter().map(|b| b * reach).collect());
            let variance = Data::F32(vec![0.5; n]);
            let inputs = vec![g.f32s(cin as usize * n), g.f32s(n * has_bias as usize), g.f32s(n), beta, g.f32s(n), variance];
            out.push(Case::new(format!("{c} of [{cin}, {cout}], {planes} planes"), u, inputs, vec![words(c as usize)]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

uniform! {
    /// Uniform of [`Linear`].
    pub struct LinearU {
        /// Rows of x.
        rows: u32,
        /// Planes of spikes.
        planes: u32,
        /// Input channels.
        cin: u32,
        /// Columns of `w`.
        cout: u32,
        /// The column of channel 0.
        first: u32,
        /// Channels that may be listed.
        c: u32,
        /// Whether `bias` is added.
        has_bias: u32
    }
}

/// x bits\[planes, rows, cin\], list, count, w\[cin, cout\], bias\[cout\] (or empty) -> y\[rows, count\], of the listed columns `first + channel` of w.
pub struct Linear;

impl Kernel for Linear {
    head!(
        "channels/linear",
        LinearU,
        [x: ReadU32, list: ReadU32, count: ReadU32, w: ReadF32, bias: ReadF32, y: WriteF32]
    );
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        gpu_walk_below(false)
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &LinearU) -> usize {
        super::matmul::tiles(u.rows, u.c, 1)
    }
    fn counted(&self, u: &LinearU) -> Option<Counted> {
        Some(Counted { input: 2, rows: 64, threads: super::matmul::tiles(u.rows, 1, 1) as u32 })
    }
    fn cpu(&self, u: &LinearU, args: &mut Args<'_>) {
        let (x, list, n, w, bias, y) =
            (args.u32(0), args.u32(1), args.u32(2)[0] as usize, args.f32(3), args.f32(4), args.out_f32(0));
        let (rows, c, planes) = (u.rows as usize, u.cin as usize, u.planes as usize);
        let pick = |row: &[f32]| list[..n].iter().map(|&c| row[(u.first + c) as usize]).collect::<Vec<_>>();
        let w: Vec<f32> = w.chunks_exact((u.cout as usize).max(1)).flat_map(pick).collect();
        let bias = if u.has_bias != 0 { pick(bias) } else { Vec::new() };
        let x = BitMatrix { x, rows, c, planes, pick: Pick::Each };
        product(Way::of(x.density(), WALK_BELOW), &x, &w, &bias, &mut y[..rows * n]);
    }
    fn cases(&self) -> Vec<Case<LinearU>> {
        let mut g = Gen::new("channels/linear");
        let mut out = Vec::new();
        for (rows, planes, cin, cout, first, c, rate, has_bias, open) in [
            (3, 1, 5, 7, 0, 7, 0.5, 1, 0.5),
            (70, 2, 64, 300, 130, 170, 0.05, 0, 0.8),
            (130, 1, 100, 65, 1, 40, 0.4, 1, 0.5),
            (40, 1, 40, 42, 0, 20, 0.04, 1, 0.0),
            (65, 3, 33, 64, 0, 64, 0.3, 0, 1.0),
            (0, 1, 20, 30, 0, 30, 0.3, 1, 0.5),
            (4, 1, 20, 30, 30, 0, 0.3, 1, 0.5),
        ] {
            let u = LinearU { rows, planes, cin, cout, first, c, has_bias };
            let ([_, list, count], n) = listed(&mut g, c, open);
            let x = g.bits((planes * rows) as usize, cin as usize, rate);
            let (w, bias, y) = ((cin * cout) as usize, (cout * has_bias) as usize, rows as usize * n);
            let name = format!("{planes} x [{rows}, {cin}] at {rate} to {n} of {c} of {cout}");
            let inputs = |w, bias| vec![x.clone(), list.clone(), count.clone(), w, bias];
            out.push(Case::new(format!("{name}, dyadic"), u, inputs(g.dyadic(w), g.dyadic(bias)), vec![y]).exact());
            out.push(Case::new(name, u, inputs(g.f32s(w), g.f32s(bias)), vec![y]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(2e-6)
    }
}

uniform! {
    /// Uniform of [`Fire`].
    pub struct FireU {
        /// T.
        steps: u32,
        /// Places x samples.
        rows: u32,
        /// Channels of s, which may be listed.
        c: u32,
        /// Where channel 0 stands in `a` and `b`.
        first: u32,
        /// Whether `a` and `b` apply.
        affine: u32,
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
        decay_input: u32
    }
}

impl FireU {
    /// The uniform of neurons over `[steps, rows, c]`.
    pub fn new(n: &Neuron, [steps, rows, c]: [usize; 3], first: usize, affine: bool) -> Self {
        let NeuronU { learned, k, rest, v_threshold, soft, decay_input, .. } = NeuronU::new(n, steps, rows, c);
        let [steps, rows, c, first] = [steps, rows, c, first].map(|n| n as u32);
        FireU { steps, rows, c, first, affine: u32::from(affine), learned, k, rest, v_threshold, soft, decay_input }
    }
    /// As [`super::neuron::Forward`] has it, of so many channels.
    fn neuron(&self, c: usize) -> NeuronU {
        let FireU { affine, learned, k, rest, v_threshold, soft, decay_input, .. } = *self;
        let n = NeuronU::new(&Neuron::default(), self.steps as usize, self.rows as usize, c);
        NeuronU { affine, learned, k, rest, v_threshold, soft, decay_input, ..n }
    }
}

/// x\[T rows, count\], slots\[c\], count, a, b, w\[1\] -> s bits\[T, rows, c\]: as [`super::neuron::Forward`] from rest at the channels that have a
/// slot, and silent at others. `a` and `b` hold channel 0 at `first`, and may be empty where `affine` is off.
pub struct Fire {
    /// Charge function.
    pub kind: NeuronKind,
}

impl Fire {
    fn run<M: Model>(u: &FireU, args: &mut Args<'_>) {
        let (x, slots, n, a, b) = (args.f32(0), args.u32(1), args.u32(2)[0] as usize, args.f32(3), args.f32(4));
        let list: Vec<usize> = (0..slots.len()).filter(|&c| slots[c] != SKIP).collect();
        let pick = |p: &[f32]| match u.affine {
            0 => Vec::new(),
            _ => list.iter().map(|c| p[u.first as usize + c]).collect(),
        };
        let (a, b, neuron) = (&pick(a)[..], &pick(b)[..], &u.neuron(n));
        let (steps, rows, nw, charging) = (u.steps as usize, u.rows as usize, words(u.c as usize), neuron.charging(args.f32(5)));
        let s = Shared::new(args.out_u32(0));
        let tile = neuron.tile();
        (0..rows.div_ceil(tile)).into_par_iter().for_each(|i| {
            let (mut v, mut fired) = (vec![0.0; n], vec![0; words(n)]);
            for row in i * tile..rows.min((i + 1) * tile) {
                v.fill(u.rest);
                for t in 0..steps {
                    let at = t * rows + row;
                    // SAFETY: rows are disjoint.
                    let s = unsafe { s.slice(at * nw, nw) };
                    s.fill(0);
                    simd(
                        #[inline(always)]
                        || step_row::<M>(&x[at * n..(at + 1) * n], a, b, &mut v, &mut fired, charging, neuron),
                    );
                    for (w, &word) in fired.iter().enumerate() {
                        let mut word = word;
                        while word != 0 {
                            let c = list[w * 32 + word.trailing_zeros() as usize];
                            s[c / 32] |= 1 << (c % 32);
                            word &= word - 1;
                        }
                    }
                }
            }
        });
    }
}

impl Kernel for Fire {
    head!(
        "channels/fire",
        FireU,
        [x: ReadF32, slots: ReadU32, count: ReadU32, a: ReadF32, b: ReadF32, w: ReadF32, s: WriteU32]
    );
    fn variant(&self) -> String {
        self.kind.key().into()
    }
    fn imports(&self) -> Vec<(&'static str, String)> {
        vec![("model", self.kind.wgsl().into())]
    }
    fn threads(&self, u: &FireU) -> usize {
        // One invocation a channel, rows padded to whole words.
        u.rows as usize * words(u.c as usize) * 32
    }
    fn counted(&self, u: &FireU) -> Option<Counted> {
        // All of them, or none where no channel is listed.
        Some(Counted { input: 2, rows: u.c, threads: Kernel::threads(self, u) as u32 })
    }
    fn cleared(&self) -> bool {
        true
    }
    fn cpu(&self, u: &FireU, args: &mut Args<'_>) {
        with_model!(self.kind, M => Self::run::<M>(u, args));
    }
    fn cases(&self) -> Vec<Case<FireU>> {
        let mut g = Gen::new("channels/fire");
        let mut out = Vec::new();
        let soft = Neuron { v_reset: None, decay_input: false, ..Neuron::default() };
        for n in [Neuron::default(), soft] {
            let n = Neuron { neuron: self.kind, v_threshold: 0.5, ..n };
            for (steps, rows, c, first, open) in [
                (4, 3, 32, 0, 0.3),
                (5, 7, 70, 41, 0.4),
                (1, 2, 1, 3, 1.0),
                (3, 70, 100, 0, 0.0),
                (6, 5, 65, 65, 1.0),
                (4, 0, 20, 0, 0.5),
                (0, 3, 20, 0, 0.5),
            ] {
                let affine = rows % 2 == 1;
                let u = FireU::new(&n, [steps, rows, c], first, affine);
                let params = if affine { first + c } else { 0 };
                let ([slots, _, count], listed) = listed(&mut g, c as u32, open);
                let inputs = vec![
                    g.dyadic(steps * rows * listed),
                    slots,
                    count,
                    g.dyadic(params),
                    g.dyadic(params),
                    Data::F32(vec![-0.3; usize::from(self.kind.learns_tau())]),
                ];
                let case = Case::new(format!("{listed} of [{steps}, {rows}, {c}]"), u, inputs, vec![steps * rows * words(c)]);
                out.push(if self.kind.learns_tau() { case } else { case.exact() });
            }
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    let mut v: Vec<Box<dyn AnyKernel>> = vec![Box::new(MayFire), Box::new(List), Box::new(Linear)];
    v.extend(NeuronKind::ALL.iter().map(|&kind| Box::new(Fire { kind }) as Box<dyn AnyKernel>));
    v
}
