//! A 3x3 convolution, the line of a batch norm and the neurons behind them in one kernel, for inference: neurons that are touched
//! only when something arrives.
//!
//! A pixel whose nine neighbours are empty at a step gets the current a 0 + b, the same at each such step. So the CPU twin leaves the
//! neurons of a pixel alone until a spike (or a nonzero count) arrives under one of its taps; it then adds up weights, makes up for the
//! idle steps with the membranes in registers, and takes the step. All pixels that nothing has reached since a clip began are alike, and
//! share one course of membranes (`Course`). Counts of few channels are multiplied by all weights wherever that takes less time than looking for
//! them ([`super::thin`]). At the end of a call every pixel is caught up with, so that the membranes it hands on are
//! those of the clocked kernel.
//!
//! # What is exact
//! Every idle step is the clocked kernel's own arithmetic, repeated until membranes no longer move, and an idle step that fires is a
//! step like any other. So spikes and membranes equal those of `conv/bits` where it walks followed by `neuron/forward`, to the bit, for
//! every neuron, tau, reset and shift: no layer has to be refused. Where the idle current is zero and 1/tau = 1/2, n steps are one
//! multiplication by 2^-n, taken only where it rounds nothing.
//!
//! # On a GPU
//! A workgroup keeps the membranes of a tile of places and channels in registers through all steps, so that no current is ever stored or
//! loaded. At each step it looks through the neighbours of its places once, and adds up weights only for places and taps at which something
//! has arrived; idle neurons cost their charge alone, which is repeated as on the CPU. Tiles full of spikes are multiplied instead, each
//! step as it comes (`shaders/common/arrivals.wgsl`). So the host need not know the rate, and what decides is the shape: a step follows the
//! other in one workgroup, where the clocked convolution does all of them side by side. Networks go this way where the tiles of one step
//! are enough to fill the card: [`gpu_suits`].

use super::bit_matrix::{BitMatrix, Line, Near, each_line};
use super::conv::{ConvU, FloatPatches, floats, spikes, walk_below};
use super::matmul::tiles;
use super::neuron::{NeuronU, forward, gather_bits, settings, step, step_row};
use super::par::{self, Shared, Stream};
use super::product::{add_rows, float_density, gpu_walk_below};
use super::thin::{self, Pixels};
use super::{Args, Case, Data, Gen, Kernel, Tolerance, simd, winograd, words};
use crate::neuron::{Charging, Model, Neuron, NeuronKind};
use crate::surrogate::SurrogateKind;
use crate::{uniform, with_model};
use rayon::prelude::*;
use std::ops::Range;

/// Share of spikes below which networks go by [`Fire`] on the CPU, measured by `spikemix bench async`: what a convolution by itself would walk,
/// and some more, for the currents that are neither stored nor fetched.
pub fn spikes_below(u: &ConvU) -> f64 {
    let more = match u.cin {
        _ if !winograd::suits(u) => 0.0,
        ..64 => 0.35,
        64..128 => 0.3,
        _ => 0.25,
    };
    walk_below(u, false).max(more)
}

/// Share of nonzero counts below which networks go by [`FireCounts`] on the CPU, measured by `spikemix bench async --counts`: looking for
/// the counts costs by input channels, what is saved goes by output channels. None where they always do, for the kernel multiplies what it
/// had better not walk.
pub fn counts_below(u: &ConvU) -> Option<f64> {
    if thin::suits(u) {
        return None;
    }
    Some(match (u.cin, u.cout) {
        (..=2, 128..) => 0.4,
        (..=2, 64..) => 0.15,
        (..=2, 32..) => 0.06,
        (..=2, _) => 0.04,
        _ => 0.015,
    })
}

/// Share of nonzero counts below which [`FireCounts`] walks those on the CPU that it can multiply; measured with either way forced on 16 to
/// 128 output channels.
fn walk_counts_below(u: &ConvU) -> f64 {
    let by_output = match u.cout {
        128.. => 0.035,
        64.. => 0.018,
        _ => 0.005,
    };
    if u.cin > 2 { by_output / 2.0 } else { by_output }
}

/// Tiles of one step from which on a card has enough to do with the steps one after another. Two for each of 128 compute units: not
/// measured, for want of a card (`spikemix bench async --device gpu` is what to measure it with). A software adapter is a few threads, which
/// any layer fills: there `bench async` found the way 1.5 to 2.5 times as fast at 0.1 % of spikes, and at 5 to 40 % mostly 0.8 to 1.1 times.
const GPU_TILES: usize = 256;

/// Whether [`Fire`] and [`FireCounts`] are the way for neurons behind a convolution on a GPU, software or not.
pub fn gpu_suits(u: &ConvU, steps: usize, software: bool) -> bool {
    software || fire_tiles((u.images as usize).checked_div(steps).unwrap_or(0) * (u.h * u.w) as usize, u.cout) >= GPU_TILES
}

/// Tiles of 64 places and 64 channels of one step.
fn fire_tiles(rows: usize, cout: u32) -> usize {
    tiles(rows as u32, cout, 1) / 256
}

uniform! {
    /// Uniform of [`Fire`] and [`FireCounts`].
    pub struct FireU {
        /// Images (T x B).
        images: u32,
        /// Height.
        h: u32,
        /// Width.
        w: u32,
        /// Input channels.
        cin: u32,
        /// Output channels.
        cout: u32,
        /// Planes of spikes (packed inputs only).
        planes: u32,
        /// T.
        steps: u32,
        /// Whether `v0` holds the membrane to start from.
        has_v0: u32,
        /// Whether the last membrane is wanted.
        store_v: u32,
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

impl FireU {
    /// The uniform of a convolution over `steps` x B images and the neurons behind it.
    pub fn new(conv: &ConvU, n: &Neuron, steps: usize) -> Self {
        let n = NeuronU::new(n, steps, 0, 0);
        FireU {
            images: conv.images,
            h: conv.h,
            w: conv.w,
            cin: conv.cin,
            cout: conv.cout,
            planes: conv.planes,
            steps: n.steps,
            has_v0: 0,
            store_v: 0,
            learned: n.learned,
            k: n.k,
            rest: n.rest,
            v_threshold: n.v_threshold,
            soft: n.soft,
            decay_input: n.decay_input,
        }
    }
    /// As the clocked kernel has it.
    fn neuron(&self) -> NeuronU {
        NeuronU {
            steps: self.steps,
            rows: self.rows() as u32,
            c: self.cout,
            affine: 1,
            has_v0: self.has_v0,
            store_v: self.store_v,
            store_v_seq: 0,
            learned: self.learned,
            k: self.k,
            rest: self.rest,
            v_threshold: self.v_threshold,
            soft: self.soft,
            decay_input: self.decay_input,
            detach_reset: 0,
            alpha: 0.0,
        }
    }
    fn conv(&self) -> ConvU {
        let (images, h, w, cin, cout, planes) = (self.images, self.h, self.w, self.cin, self.cout, self.planes);
        ConvU { images, h, w, cin, cout, planes, splits: 1, exact: 1 }
    }
    /// Lines of the images of one step.
    fn lines(&self) -> usize {
        (self.images * self.h).checked_div(self.steps).unwrap_or(0) as usize
    }
    /// Pixels of one step.
    fn rows(&self) -> usize {
        self.lines() * self.w as usize
    }
    fn taps(&self) -> usize {
        9 * self.cin as usize
    }
}

/// Pixels of a line that are listed together.
const TOGETHER: usize = 8;

/// Images of which only what is not zero is looked at.
trait Arrivals: Sync {
    /// What has been found around some pixels.
    type Found<'a>
    where
        Self: 'a;
    /// A line of output pixels.
    type Line;
    /// Words that [`Arrivals::find`] needs for so many output pixels, and [`Arrivals::list`] for one.
    fn room(&self, pixels: usize) -> [usize; 2];
    /// Sets `met[1 + x]` to nonzero where column x of the lines of `around` holds something; lines count through all images.
    fn meet(&self, around: Range<usize>, met: &mut [u32]);
    /// Looks through what lies around output pixels.
    fn find<'a>(&'a self, pixels: Range<usize>, room: &'a mut [u32]) -> Self::Found<'a>;
    /// The line that begins with an output pixel.
    fn line(found: &Self::Found<'_>, pixel: usize) -> Self::Line;
    /// Lists what reaches column x of a line; returns how much it is.
    fn list(&self, found: &Self::Found<'_>, line: &Self::Line, x: usize, room: &mut [u32]) -> usize;
    /// The convolution there, of what was listed.
    fn sum(&self, room: &[u32], len: usize, w: &[f32], y: &mut [f32]);
}

/// Adds to `met` the bits of `mask` that the `n` words of each pixel have.
#[inline(always)]
fn meet_line(x: &[u32], n: usize, mask: u32, met: &mut [u32]) {
    match n {
        // Loops of known length, which vectorise best.
        1 => met.iter_mut().zip(x).for_each(|(m, x)| *m |= x & mask),
        2 => met.iter_mut().zip(x.as_chunks::<2>().0).for_each(|(m, [x, y])| *m |= (x | y) & mask),
        _ => met.iter_mut().zip(x.chunks_exact(n.max(1))).for_each(|(m, x)| *m |= x.iter().fold(0, |all, x| all | x) & mask),
    }
}

impl Arrivals for BitMatrix<'_> {
    type Found<'a>
        = Near<'a>
    where
        Self: 'a;
    type Line = Line;
    fn room(&self, pixels: usize) -> [usize; 2] {
        [self.room_near(pixels), self.room(1)]
    }
    #[inline(always)]
    fn meet(&self, around: Range<usize>, met: &mut [u32]) {
        let (nw, width) = (words(self.c), met.len() - 2);
        for q in 0..self.planes {
            for line in around.clone() {
                let at = (q * self.rows + line * width) * nw;
                meet_line(&self.x[at..at + width * nw], nw, !0, &mut met[1..=width]);
            }
        }
    }
    #[inline(always)]
    fn find<'a>(&'a self, pixels: Range<usize>, room: &'a mut [u32]) -> Near<'a> {
        Near::new(self, pixels, room)
    }
    #[inline(always)]
    fn line(found: &Near<'_>, pixel: usize) -> Line {
        found.line(pixel)
    }
    #[inline(always)]
    fn list(&self, found: &Near<'_>, line: &Line, x: usize, room: &mut [u32]) -> usize {
        found.neighbours(line, x, room)
    }
    #[inline(always)]
    fn sum(&self, room: &[u32], len: usize, w: &[f32], y: &mut [f32]) {
        add_rows(&room[..len], w, y.len(), 0, y, &Stream::new(0));
    }
}

impl Arrivals for FloatPatches<'_> {
    type Found<'a>
        = ()
    where
        Self: 'a;
    /// Its first pixel.
    type Line = usize;
    fn room(&self, _: usize) -> [usize; 2] {
        [0, 18 * self.u.cin as usize + 2]
    }
    #[inline(always)]
    fn meet(&self, around: Range<usize>, met: &mut [u32]) {
        let (c, width) = (self.u.cin as usize, met.len() - 2);
        for line in around {
            let x = &self.x[line * width * c..(line + 1) * width * c];
            // Without the sign: -0 is nothing.
            meet_line(bytemuck::cast_slice(x), c, !(1 << 31), &mut met[1..=width]);
        }
    }
    #[inline(always)]
    fn find<'a>(&'a self, _: Range<usize>, _: &'a mut [u32]) {}
    #[inline(always)]
    fn line((): &(), pixel: usize) -> usize {
        pixel
    }
    #[inline(always)]
    fn list(&self, (): &(), line: &usize, x: usize, room: &mut [u32]) -> usize {
        let c = self.u.cin as usize;
        let (columns, values) = room.split_at_mut(9 * c + 1);
        let values: &mut [f32] = bytemuck::cast_slice_mut(values);
        let mut len = 0;
        each_line(line + x, self.u.h as usize, self.u.w as usize, |tap, source, pixels| {
            for (i, &x) in self.x[source * c..(source + pixels) * c].iter().enumerate() {
                // Written whether it counts or not: a branch that cannot be foretold costs more.
                (columns[len], values[len]) = ((tap * c + i) as u32, x);
                len += usize::from(x != 0.0);
            }
        });
        len
    }
    #[inline(always)]
    fn sum(&self, room: &[u32], len: usize, w: &[f32], y: &mut [f32]) {
        let (columns, values) = room.split_at(9 * self.u.cin as usize + 1);
        let values: &[f32] = bytemuck::cast_slice(values);
        let (columns, values, n) = (&columns[..len], &values[..len], y.len());
        // As products are ([`super::thin`]), so that the ways agree to the bit.
        let fused = fuses();
        let add = |y: f32, x: f32, w: f32| if fused { x.mul_add(w, y) } else { y + x * w };
        let (blocks, rest) = y.as_chunks_mut::<32>();
        for (i, y) in blocks.iter_mut().enumerate() {
            let mut sums = [0.0; 32];
            for (k, x) in columns.iter().zip(values) {
                let at = *k as usize * n + 32 * i;
                let w = &w[at..at + 32];
                for j in 0..32 {
                    sums[j] = add(sums[j], *x, w[j]);
                }
            }
            *y = sums;
        }
        rest.fill(0.0);
        for (k, x) in columns.iter().zip(values) {
            let w = &w[(*k as usize + 1) * n - rest.len()..(*k as usize + 1) * n];
            rest.iter_mut().zip(w).for_each(|(y, w)| *y = add(*y, *x, *w));
        }
    }
}

/// Whether the vectors of this machine add a product in one step.
#[inline(always)]
fn fuses() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

/// The neurons of one pixel: gain, shift and idle current of each channel, in whole words. Those that fill up the last word rest.
struct Layer {
    a: Vec<f32>,
    b: Vec<f32>,
    idle: Vec<f32>,
    charging: Charging,
    u: NeuronU,
    /// Whether idle steps halve the membrane.
    halves: bool,
}

impl Layer {
    fn new(u: &FireU, kind: NeuronKind, a: &[f32], b: &[f32], tau: &[f32]) -> Self {
        let whole = |p: &[f32]| {
            let mut p = p.to_vec();
            p.resize(32 * words(p.len()), 0.0);
            p
        };
        let (a, b, u) = (whole(a), whole(b), u.neuron());
        // As the clocked kernel has it, with its kind of zero.
        let idle: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a * 0.0 + b).collect();
        let charging = u.charging(tau);
        let halves = kind != NeuronKind::If && charging.k == 0.5 && u.rest == 0.0 && idle.iter().all(|z| *z == 0.0);
        Layer { a, b, idle, charging, u, halves }
    }
    /// `n` steps in which nothing arrives; calls `spikes(step, word, bits)` where neurons fire in them.
    #[inline(always)]
    fn idle<M: Model>(&self, v: &mut [f32], n: usize, mut spikes: impl FnMut(usize, usize, u32)) {
        if n == 0 {
            return;
        }
        // Two words at a time, so that steps need not wait for each other.
        let (pairs, rest) = v.as_chunks_mut::<64>();
        let (z, z_rest) = self.idle.as_chunks::<64>();
        for (i, (v, z)) in pairs.iter_mut().zip(z).enumerate() {
            self.idle_block::<M, 64>(v, z, n, |t, word, bits| spikes(t, 2 * i + word, bits));
        }
        let last = 2 * z.len();
        for (v, z) in rest.as_chunks_mut::<32>().0.iter_mut().zip(z_rest.as_chunks::<32>().0) {
            self.idle_block::<M, 32>(v, z, n, |t, word, bits| spikes(t, last + word, bits));
        }
    }
    /// [`Layer::idle`] of a few words, with the membranes in registers; done when they no longer move.
    #[inline(always)]
    fn idle_block<M: Model, const N: usize>(
        &self,
        v: &mut [f32; N],
        z: &[f32; N],
        n: usize,
        mut spikes: impl FnMut(usize, usize, u32),
    ) {
        if self.halves && halved(v, n, self.u.v_threshold) {
            return;
        }
        let (mut h, z) = (*v, *z);
        for t in 0..n {
            let before = h;
            let mut fired = [0u8; N];
            for k in 0..N {
                fired[k] = 0u8.wrapping_sub(step::<M>(&mut h[k], z[k], self.charging, &self.u).into());
            }
            let any = fired.iter().fold(0, |any, f| any | f);
            if any != 0 {
                for (i, f) in fired.as_chunks::<16>().0.iter().enumerate() {
                    spikes(t, i / 2, gather_bits(f) << (16 * (i % 2)));
                }
            } else if (0..N).fold(0, |moved, k| moved | (h[k].to_bits() ^ before[k].to_bits())) == 0 {
                break;
            }
        }
        *v = h;
    }
}

/// Halves membranes `n` times where that rounds nothing and no neuron fires.
#[inline(always)]
fn halved<const N: usize>(v: &mut [f32; N], n: usize, threshold: f32) -> bool {
    // Both factors are normal numbers.
    let (down, up) = (0.5f32.powi(n.min(126) as i32), 2f32.powi(n.min(126) as i32));
    let (mut h, mut exact) = (*v, n <= 126);
    for k in 0..N {
        h[k] *= down;
        exact &= h[k] * up == v[k] && v[k] < threshold;
    }
    if exact {
        *v = h;
    }
    exact
}

/// What the neurons of a pixel do that nothing ever reaches, from rest on.
struct Course {
    /// Membranes after 0, 1, .. T steps.
    v: Vec<f32>,
    /// Spikes of each step.
    s: Vec<u32>,
    /// Whether there are any.
    fires: bool,
}

impl Course {
    fn new<M: Model>(l: &Layer, steps: usize) -> Self {
        let (c, nw) = (l.a.len(), l.a.len() / 32);
        let (mut v, mut s) = (vec![l.u.rest; (steps + 1) * c], vec![0; steps * nw]);
        for t in 0..steps {
            v.copy_within(t * c..(t + 1) * c, (t + 1) * c);
            l.idle::<M>(&mut v[(t + 1) * c..(t + 2) * c], 1, |_, word, bits| s[t * nw + word] |= bits);
        }
        let fires = s.iter().any(|s| *s != 0);
        Course { v, s, fires }
    }
    /// Does `steps` of a pixel, in which nothing arrives; `words` are its spikes at a step, still zero.
    #[inline(always)]
    fn catch_up<'a, M: Model>(&self, l: &Layer, v: &mut [f32], steps: Range<usize>, words: impl Fn(usize) -> &'a mut [u32]) {
        if steps.start > 0 || l.u.has_v0 != 0 {
            return l.idle::<M>(v, steps.len(), |t, word, bits| words(steps.start + t)[word] |= bits);
        }
        let nw = l.a.len() / 32;
        v.copy_from_slice(&self.v[steps.end * v.len()..(steps.end + 1) * v.len()]);
        for t in steps.filter(|_| self.fires) {
            words(t).copy_from_slice(&self.s[t * nw..(t + 1) * nw]);
        }
    }
}

fn run<M: Model, X: Arrivals>(u: &FireU, kind: NeuronKind, x: &X, args: &mut Args<'_>) {
    let (w, v0) = (args.f32(1), args.f32(5));
    let l = Layer::new(u, kind, args.f32(2), args.f32(3), args.f32(4));
    let (steps, lines, h, width, c) = (u.steps as usize, u.lines(), u.h as usize, u.w as usize, u.cout as usize);
    let (whole, nw) = (l.a.len(), l.a.len() / 32);
    if whole * width == 0 {
        return;
    }
    let course = Course::new::<M>(&l, steps);
    let s = Shared::new(args.out_u32(0));
    let v_end = Shared::new(args.out_f32(1));
    // Lines of a task: what lies around them is looked through once for all, their membranes stay in the second-level cache, and there are
    // enough tasks.
    let some = ((1 << 14) / (width * whole)).clamp(1, lines.div_ceil(8).max(1));
    (0..lines.div_ceil(some)).into_par_iter().for_each(|task| {
        let (line0, n) = (task * some, some.min(lines - task * some));
        // From the start of a cache line, which no vector then straddles.
        let mut room = Vec::new();
        let (v, rest) = par::lines(&mut room, (n * width + 3 * TOGETHER) * whole).split_at_mut(n * width * whole);
        let (y, affine) = rest.split_at_mut(TOGETHER * whole);
        let (gain, shift) = affine.split_at_mut(TOGETHER * whole);
        gain.chunks_exact_mut(whole).for_each(|gain| gain.copy_from_slice(&l.a));
        shift.chunks_exact_mut(whole).for_each(|shift| shift.copy_from_slice(&l.b));
        y.fill(0.0);
        // The first step that each pixel has not done.
        let mut next = vec![0; n * width];
        let mut met = vec![0; n * (width + 2)];
        let [found, room] = x.room(n * width);
        let (mut found, mut lists) = (vec![0; found], [(); TOGETHER].map(|()| vec![0; room]));
        if u.has_v0 != 0 {
            for (v, v0) in v.chunks_exact_mut(whole).zip(v0[line0 * width * c..].chunks_exact(c)) {
                v[c..].fill(u.rest);
                v[..c].copy_from_slice(v0);
            }
        }
        // SAFETY: tasks are disjoint in lines, and within one the pieces are cut one after another.
        let words_at = |t: usize, px: usize, n: usize| unsafe { s.slice(((t * lines + line0) * width + px) * nw, n * nw) };
        for t in 0..steps {
            let at = t * lines + line0;
            words_at(t, 0, n * width).fill(0);
            simd(
                #[inline(always)]
                || {
                    met.fill(0);
                    for (line, met) in (at..).zip(met.chunks_exact_mut(width + 2)) {
                        x.meet(line - usize::from(line % h > 0)..line + 1 + usize::from(line % h + 1 < h), met);
                    }
                    if met.iter().all(|met| *met == 0) {
                        return;
                    }
                    let found = x.find(at * width..(at + n) * width, &mut found);
                    for (i, met) in met.chunks_exact(width + 2).enumerate() {
                        let line = X::line(&found, at * width + i * width);
                        for first in (0..width).step_by(TOGETHER) {
                            // Listed some pixels ahead of being summed: reading what has only just been written, at places that depend
                            // on the spikes, would stall.
                            let (mut reached, mut n) = ([(0, 0); TOGETHER], 0);
                            for column in first..width.min(first + TOGETHER) {
                                if met[column..][..3] != [0; 3] {
                                    reached[n] = (i * width + column, x.list(&found, &line, column, &mut lists[n]));
                                    n += 1;
                                }
                            }
                            for (k, ((px, len), list)) in reached[..n].iter().zip(&lists).enumerate() {
                                x.sum(list, *len, w, &mut y[k * whole..][..c]);
                                // What nothing has reached yet has its membranes from here, too.
                                if next[*px] < t || t == 0 {
                                    course.catch_up::<M>(&l, &mut v[px * whole..(px + 1) * whole], next[*px]..t, |t| {
                                        words_at(t, *px, 1)
                                    });
                                }
                                next[*px] = t + 1;
                            }
                            // Pixels next to each other at once.
                            let mut done = 0;
                            while done < n {
                                let px = reached[done].0;
                                let joined = (done..n).take_while(|k| reached[*k].0 == px + k - done).count();
                                let (of, affine) = (px * whole..(px + joined) * whole, ..joined * whole);
                                let y = &y[done * whole..][affine];
                                let s = words_at(t, px, joined);
                                step_row::<M>(y, &gain[affine], &shift[affine], &mut v[of], s, l.charging, &l.u);
                                done += joined;
                            }
                        }
                    }
                },
            );
        }
        simd(
            #[inline(always)]
            || {
                for (px, v) in v.chunks_exact_mut(whole).enumerate() {
                    course.catch_up::<M>(&l, v, next[px]..steps, |t| words_at(t, px, 1));
                    if u.store_v != 0 {
                        // SAFETY: as above.
                        unsafe { v_end.slice((line0 * width + px) * c, c) }.copy_from_slice(&v[..c]);
                    }
                }
            },
        );
    });
}

/// Counts of few channels, all of them multiplied, tile by tile at each step, before their neurons take them.
fn multiply<M: Model>(u: &FireU, args: &mut Args<'_>) {
    let x = Pixels { u: u.conv(), x: args.f32(0), weights: args.f32(1) };
    let (inputs, s) = ([args.f32(2), args.f32(3), args.f32(4), args.f32(5)], args.out_u32(0));
    forward::<M>(&u.neuron(), &x, inputs, s, [args.out_f32(1), &mut []]);
}

/// (steps, samples, h, w, cin, cout, planes, rate, steps from one with arrivals to the next)
type Size = (u32, u32, u32, u32, u32, u32, u32, f32, u32);

/// Every border, words that are not full, silence, and idle stretches at the start, between arrivals and at the end.
///
/// On a GPU: more places than a tile has and channels of two tiles with neither full, three planes, and tiles that are multiplied at one
/// step and walked at the next.
const SHAPES: [Size; 14] = [
    (6, 1, 3, 4, 2, 5, 1, 0.3, 4),
    (5, 2, 5, 5, 33, 40, 1, 0.01, 1),
    (4, 1, 1, 7, 3, 64, 2, 0.0, 1),
    (12, 1, 6, 1, 32, 70, 1, 0.01, 5),
    (3, 0, 4, 4, 4, 4, 1, 0.3, 1),
    (9, 1, 4, 3, 64, 129, 2, 0.05, 3),
    (1, 2, 2, 3, 3, 32, 1, 0.3, 1),
    (3, 2, 7, 7, 17, 70, 1, 0.02, 1),
    (3, 2, 7, 7, 17, 70, 1, 0.6, 2),
    (4, 1, 9, 8, 33, 65, 3, 0.3, 1),
    (3, 2, 5, 6, 32, 40, 2, 0.05, 1),
    (4, 2, 5, 33, 2, 48, 1, 0.3, 2),
    (3, 1, 7, 9, 4, 128, 1, 0.6, 1),
    (2, 1, 3, 3, 2, 0, 1, 0.3, 1),
];

/// Dyadic throughout, tau a power of two: spikes and membranes must be equal (a learned tau is not dyadic).
fn cases(name: &str, kind: NeuronKind, packed: bool) -> Vec<Case<FireU>> {
    let mut g = Gen::new(name);
    let mut out = Vec::new();
    for (what, n) in settings(kind, SurrogateKind::Sigmoid, 4.0) {
        for (i, (steps, samples, h, w, cin, cout, planes, rate, every)) in SHAPES.into_iter().enumerate() {
            let conv = ConvU { images: steps * samples, h, w, cin, cout, planes, splits: 1, exact: 1 };
            let carries = i % 2 == 1;
            let u = FireU { has_v0: u32::from(carries), store_v: u32::from(carries), ..FireU::new(&conv, &n, steps as usize) };
            let pixels = (conv.images * h * w) as usize;
            let (neurons, len) = (u.rows() * cout as usize, |on: bool, n: usize| if on { n } else { 0 });
            let spikes = g.bits(planes as usize * pixels, cin as usize, rate);
            let counts = if rate > 0.5 {
                g.dyadic(pixels * cin as usize)
            } else {
                g.counts(if rate > 0.0 { pixels * cin as usize } else { 0 })
            };
            let silence = |i: usize, all: usize| i * steps as usize / all % every as usize + 1 != every as usize;
            let x = match (packed, spikes, counts) {
                (true, Data::U32(mut x), _) => {
                    let plane = x.len() / planes as usize;
                    x.iter_mut().enumerate().filter(|(i, _)| silence(i % plane, plane)).for_each(|(_, x)| *x = 0);
                    Data::U32(x)
                }
                (_, _, Data::F32(mut x)) => {
                    x.resize(pixels * cin as usize, 0.0);
                    let all = x.len();
                    x.iter_mut().enumerate().filter(|(i, _)| silence(*i, all)).for_each(|(_, x)| *x = 0.0);
                    Data::F32(x)
                }
                (_, _, x) => x,
            };
            // Shifts of up to a quarter, one in two of the shapes none: most neurons stay silent while idle, some fire.
            let shift = match g.dyadic(cout as usize) {
                Data::F32(b) => Data::F32(b.iter().map(|b| if i % 4 < 2 { b * 0.75 } else { 0.0 }).collect()),
                d => d,
            };
            let inputs = vec![
                x,
                g.dyadic(u.taps() * cout as usize),
                g.dyadic(cout as usize),
                shift,
                Data::F32(vec![-0.3; usize::from(kind.learns_tau())]),
                g.dyadic(len(carries, neurons)),
            ];
            let outputs = vec![steps as usize * u.rows() * words(cout as usize), len(carries, neurons)];
            let case = Case::new(format!("{what} [{steps}, {samples}, {h}, {w}, {cin}] to {cout}"), u, inputs, outputs);
            out.push(if kind.learns_tau() { case } else { case.exact() });
        }
    }
    out
}

macro_rules! fire_kernel {
    ($(#[$doc:meta])* $name:ident, $stem:literal, $x:ident, $packed:literal, $word:ident, $arrivals:ident) => {
        $(#[$doc])*
        pub struct $name {
            /// Charge function.
            pub kind: NeuronKind,
        }
        impl Kernel for $name {
            head!($stem, FireU, [
                x: $x, w: ReadF32, a: ReadF32, b: ReadF32, tau: ReadF32, v0: ReadF32, s: WriteU32, v: WriteF32,
            ]);
            fn variant(&self) -> String {
                self.kind.key().into()
            }
            fn imports(&self) -> Vec<(&'static str, String)> {
                vec![("model", self.kind.wgsl().into())]
            }
            fn overrides(&self) -> Vec<(&'static str, f64)> {
                gpu_walk_below(false)
            }
            fn workgroup(&self) -> u32 {
                256
            }
            fn threads(&self, u: &FireU) -> usize {
                256 * fire_tiles(u.rows(), u.cout)
            }
            fn cpu(&self, u: &FireU, args: &mut Args<'_>) {
                let conv = u.conv();
                if !$packed && thin::suits(&conv) && float_density(args.f32(0)) >= walk_counts_below(&conv) {
                    return with_model!(self.kind, M => multiply::<M>(u, args));
                }
                let x = $arrivals(&conv, args.$word(0));
                with_model!(self.kind, M => run::<M, _>(u, self.kind, &x, args));
            }
            fn cases(&self) -> Vec<Case<FireU>> {
                cases($stem, self.kind, $packed)
            }
            fn tolerance(&self) -> Tolerance {
                Tolerance::Relative(1e-5)
            }
        }
    };
}

fire_kernel!(
    /// x bits\[planes, T, B, H, W, Ci\], w\[9, Ci, Co\], a\[Co\], b\[Co\], tau\[1\], v0\[B, H, W, Co\]
    /// -> s bits\[T, B, H, W, Co\], v\[B, H, W, Co\]: neurons behind a conv(x) + b, as `conv/bits` and `neuron/forward` give them.
    ///
    /// `tau` and `v0` may be empty where their flag is off, and the membranes are empty where they are not wanted.
    Fire, "conv/fire", ReadU32, true,
    u32, spikes
);
fire_kernel!(
    /// x f32\[T, B, H, W, Ci\], event counts; the rest as in [`Fire`].
    FireCounts, "conv/fire_counts", ReadF32, false,
    f32, floats
);

/// Every variant of both kernels.
pub fn all() -> Vec<Box<dyn super::AnyKernel>> {
    let mut v: Vec<Box<dyn super::AnyKernel>> = Vec::new();
    for &kind in NeuronKind::ALL {
        v.push(Box::new(Fire { kind }));
        v.push(Box::new(FireCounts { kind }));
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card takes the kernel where one step fills it, a software adapter always.
    #[test]
    fn suits_where_a_step_fills_the_card() {
        let conv = |images, cout| ConvU { images, h: 64, w: 64, cin: 8, cout, planes: 1, splits: 1, exact: 1 };
        // 64 tiles of places a sample and step.
        for (samples, cout, suits) in [(4, 64, true), (3, 64, false), (2, 65, true), (2, 64, false), (0, 64, false)] {
            assert_eq!(gpu_suits(&conv(10 * samples, cout), 10, false), suits, "{samples} {cout}");
            assert!(gpu_suits(&conv(10 * samples, cout), 10, true));
        }
        assert!(!gpu_suits(&conv(0, 64), 0, false));
    }
}
