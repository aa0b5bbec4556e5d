//! Depth-wise 3x3 convolutions of packed spikes: each channel has its own nine weights \[9, c\].

use super::product::{each_tap, split_range};
use super::{Access, Args, Case, Gen, Kernel, Tolerance, simd, words};
use crate::uniform;
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
        for (k, (d, s)) in d.iter_mut().zip(s).enumerate() {
            *d += if word >> k & 1 != 0 { *s } else { 0.0 };
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
                        each_tap(i, u.h as usize, u.w as usize, |tap, p| {
                            add_where(&mut dw[tap * c..(tap + 1) * c], &x[p * nw..(p + 1) * nw], &dy[i * c..(i + 1) * c]);
                        });
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
