//! 3x3 convolutions, stride 1, padding 1, without bias: images \[images, h, w, c\], weights \[9, cin, cout\] (tap = 3 ky + kx).
//!
//! The gradient of the input is the same convolution of dy with the weights turned round.

use super::bit_matrix::{BitMatrix, Pick};
use super::matmul::{tiles, transpose};
use super::product::{Rows, WALK_BELOW, WALK_WEIGHT_BELOW, Way, dense, dense_weight, gpu_walk_below, product, weight_product};
use super::{Access, Args, Case, Data, Gen, Kernel, Tolerance, thin, winograd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of the convolutions.
    pub struct ConvU {
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
        /// Runs of images that a weight gradient sums apart.
        splits: u32,
        /// Whether sums of dyadic numbers shall come out exact (of an output; gradients never need to).
        exact: u32
    }
}

impl ConvU {
    fn pixels(&self) -> usize {
        self.images as usize * self.h as usize * self.w as usize
    }
    pub(super) fn taps(&self) -> usize {
        9 * self.cin as usize
    }
}

/// Images of floats as rows of nine neighbours.
pub struct FloatPatches<'a> {
    /// Values \[images, h, w, cin\].
    pub x: &'a [f32],
    /// Sizes.
    pub u: ConvU,
}

impl Rows for FloatPatches<'_> {
    fn rows(&self) -> usize {
        self.u.pixels()
    }
    fn k(&self) -> usize {
        self.u.taps()
    }
    fn unit(&self) -> usize {
        self.u.h as usize * self.u.w as usize
    }
    fn fill(&self, first: usize, n: usize, out: &mut [f32]) {
        let (h, w, c) = (self.u.h as usize, self.u.w as usize, self.u.cin as usize);
        for (i, out) in out.chunks_exact_mut(9 * c).enumerate().take(n) {
            let (x, y, base) = ((first + i) % w, (first + i) / w % h, (first + i) / (w * h) * h * w);
            let (x0, x1) = (x.saturating_sub(1), (x + 2).min(w));
            for ky in 0..3 {
                let out = &mut out[ky * 3 * c..(ky + 1) * 3 * c];
                if y + ky < 1 || y + ky > h {
                    out.fill(0.0);
                    continue;
                }
                // The taps of one line are neighbours in memory.
                let line = base + (y + ky - 1) * w;
                let skip = (x0 + 1 - x) * c;
                let len = (x1 - x0) * c;
                out[..skip].fill(0.0);
                out[skip..skip + len].copy_from_slice(&self.x[(line + x0) * c..(line + x1) * c]);
                out[skip + len..].fill(0.0);
            }
        }
    }
}

pub(super) fn floats<'a>(u: &ConvU, x: &'a [f32]) -> FloatPatches<'a> {
    FloatPatches { x, u: *u }
}

pub(super) fn spikes<'a>(u: &ConvU, x: &'a [u32]) -> BitMatrix<'a> {
    BitMatrix {
        x,
        rows: u.pixels(),
        c: u.cin as usize,
        planes: u.planes as usize,
        pick: Pick::Neighbours(u.h as usize, u.w as usize),
    }
}

/// Share of nonzeros below which a convolution (its weight gradient, where `weight` is set) walks them.
pub fn walk_below(u: &ConvU, weight: bool) -> f64 {
    match (winograd::suits(u), weight, u.cin) {
        // An exact product has 49 points for 36; with many channels the walk's weights no longer lie near.
        (true, false, ..128) if u.exact != 0 => 0.27,
        (true, false, _) if u.exact != 0 => 0.18,
        (true, false, _) => 0.14,
        // With few channels the transforms of tiles weigh less than the walk, with many the sums at each of their points more.
        (true, true, ..64) => 0.11,
        (true, true, ..256) => 0.14,
        (true, true, _) => 0.35,
        (false, false, _) => WALK_BELOW,
        (false, true, _) => WALK_WEIGHT_BELOW,
    }
}

/// x, w\[9, cin, cout\] -> y\[images, h, w, cout\] by a product, whatever x holds.
fn dense_forward(u: &ConvU, x: &(impl Rows + winograd::Pixels), w: &[f32], y: &mut [f32]) {
    match winograd::suits(u) {
        true => winograd::forward(u, x, w, y),
        false => dense(x, w, &[], y),
    }
}

/// x, dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\] by a product, whatever x holds.
fn dense_gradient(u: &ConvU, x: &(impl Rows + winograd::Pixels), dy: &[f32], dw: &mut [f32]) {
    match winograd::suits(u) {
        true => winograd::weight(u, x, dy, dw),
        false => dense_weight(x, dy, u.cout as usize, u.splits as usize, dw),
    }
}

/// Packed spikes, w\[9, cin, cout\] -> y\[images, h, w, cout\] in a given way; the dense one is Winograd's where it suits.
pub fn forward_by(way: Way, u: &ConvU, x: &BitMatrix<'_>, w: &[f32], y: &mut [f32]) {
    match way {
        Way::Dense => dense_forward(u, x, w, y),
        Way::Walk => product(way, x, w, &[], y),
    }
}

/// Packed spikes, dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\] in a given way, as [`forward_by`].
pub fn weight_by(way: Way, u: &ConvU, x: &BitMatrix<'_>, dy: &[f32], dw: &mut [f32]) {
    match way {
        Way::Dense => dense_gradient(u, x, dy, dw),
        Way::Walk => weight_product(way, x, dy, u.cout as usize, u.splits as usize, dw),
    }
}

/// (images, h, w, cin, cout, planes, splits, rate)
type Size = (u32, u32, u32, u32, u32, u32, u32, f32);

/// Sizes that between them meet every border.
const SHAPES: [Size; 12] = [
    (1, 3, 4, 2, 5, 1, 1, 0.5),
    (2, 5, 5, 33, 40, 1, 3, 0.05),
    (1, 1, 7, 3, 64, 2, 2, 0.3),
    (3, 6, 1, 32, 70, 1, 1, 0.03),
    (2, 4, 4, 40, 129, 2, 4, 0.4),
    (0, 4, 4, 4, 4, 1, 1, 0.5),
    (2, 5, 7, 16, 48, 2, 3, 0.5),
    (1, 12, 24, 48, 16, 1, 2, 0.6),
    (3, 18, 35, 2, 32, 1, 2, 0.1),
    (1, 2, 17, 3, 16, 1, 1, 0.5),
    (2, 9, 9, 33, 20, 3, 1, 0.1),
    (2, 5, 6, 32, 40, 2, 1, 0.05),
];

/// A case of dyadic numbers. Their sums are exact but by transformed tiles where that is not asked for.
fn dyadic(name: String, u: ConvU, inputs: Vec<Data>, output: usize) -> Case<ConvU> {
    let case = Case::new(name, u, inputs, vec![output]);
    if u.exact != 0 || !winograd::suits(&u) { case.exact() } else { case }
}

/// Those of a kernel of packed spikes or of floats, by weight or not.
fn cases(name: &str, bits: bool, weight: bool) -> Vec<Case<ConvU>> {
    let mut g = Gen::new(name);
    let mut out = Vec::new();
    for (images, h, w, cin, cout, planes, splits, rate) in SHAPES {
        let u = ConvU { images, h, w, cin, cout, planes, splits, exact: 0 };
        let x = |g: &mut Gen, dyadic: bool| match (bits, dyadic) {
            (true, _) => g.bits(planes as usize * u.pixels(), cin as usize, rate),
            (false, true) => g.counts(u.pixels() * cin as usize),
            (false, false) => g.f32s(u.pixels() * cin as usize),
        };
        let (weights, y) = (u.taps() * cout as usize, u.pixels() * cout as usize);
        let (second, result) = if weight { (y, splits as usize * weights) } else { (weights, y) };
        let name = format!("[{images}, {h}, {w}, {cin}] to {cout}, planes {planes} splits {splits}");
        for exact in if weight { 0..=0 } else { 0..=1 } {
            let (u, name) = (ConvU { exact, ..u }, format!("{name} exact {exact}"));
            out.push(dyadic(format!("{name}, dyadic"), u, vec![x(&mut g, true), g.dyadic(second)], result));
            out.push(Case::new(name, u, vec![x(&mut g, false), g.f32s(second)], vec![result]));
        }
    }
    out
}

macro_rules! conv_kernel {
    ($(#[$doc:meta])* $name:ident, $stem:literal, $bits:literal, $weight:literal, $bindings:expr, $x:ident, $run:expr) => {
        $(#[$doc])*
        pub struct $name;
        impl Kernel for $name {
            type Uniform = ConvU;
            fn name(&self) -> &'static str {
                concat!("conv/", $stem)
            }
            fn wgsl(&self) -> &'static str {
                include_str!(concat!("../../shaders/conv/", $stem, ".wgsl"))
            }
            fn overrides(&self) -> Vec<(&'static str, f64)> {
                if $bits || !$weight { gpu_walk_below($weight) } else { Vec::new() }
            }
            fn bindings(&self) -> &'static [(&'static str, Access)] {
                $bindings
            }
            fn workgroup(&self) -> u32 {
                256
            }
            fn threads(&self, u: &ConvU) -> usize {
                if $weight {
                    tiles(9 * u.cin, u.cout, u.splits)
                } else {
                    tiles(u.pixels() as u32, u.cout, 1)
                }
            }
            fn cpu(&self, u: &ConvU, args: &mut Args<'_>) {
                $run(u, args.$x(0), args.f32(1), args.out_f32(0));
            }
            fn cases(&self) -> Vec<Case<ConvU>> {
                cases(self.name(), $bits, $weight)
            }
            fn tolerance(&self) -> Tolerance {
                Tolerance::Relative(3e-6)
            }
        }
    };
}

conv_kernel!(
    /// x f32\[images, h, w, cin\], w\[9, cin, cout\] -> y\[images, h, w, cout\].
    Forward, "forward", false, false, &[("x", Access::ReadF32), ("w", Access::ReadF32), ("y", Access::WriteF32)], f32,
    |u: &ConvU, x, w: &_, y: &mut _| match thin::suits(u) {
        true => thin::forward(u, x, w, y),
        false => dense_forward(u, &floats(u, x), w, y),
    }
);
conv_kernel!(
    /// x bits\[planes, images, h, w, cin\], w\[9, cin, cout\] -> y\[images, h, w, cout\].
    Bits, "bits", true, false, &[("x", Access::ReadU32), ("w", Access::ReadF32), ("y", Access::WriteF32)], u32,
    |u: &ConvU, x, w: &_, y: &mut _| {
        let x = spikes(u, x);
        forward_by(Way::of(x.density(), walk_below(u, false)), u, &x, w, y);
    }
);
conv_kernel!(
    /// x f32\[images, h, w, cin\], dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\].
    Weight, "weight", false, true, &[("x", Access::ReadF32), ("dy", Access::ReadF32), ("dw", Access::WriteF32)], f32,
    |u: &ConvU, x, dy: &_, dw: &mut _| match thin::suits(u) {
        true => thin::weight(u, x, dy, dw),
        false => dense_gradient(u, &floats(u, x), dy, dw),
    }
);
conv_kernel!(
    /// x bits\[planes, images, h, w, cin\], dy\[images, h, w, cout\] -> dw\[splits, 9, cin, cout\].
    BitsWeight, "bits_weight", true, true, &[("x", Access::ReadU32), ("dy", Access::ReadF32), ("dw", Access::WriteF32)], u32,
    |u: &ConvU, x, dy: &_, dw: &mut _| {
        let x = spikes(u, x);
        weight_by(Way::of(x.density(), walk_below(u, true)), u, &x, dy, dw);
    }
);

/// dy\[images, h, w, cout\], w\[9, cin, cout\] -> dx\[images, h, w, cin\]: the convolution of dy with the weights turned round.
pub struct Backward;

impl Kernel for Backward {
    type Uniform = ConvU;
    fn name(&self) -> &'static str {
        "conv/backward"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv/backward.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("dy", Access::ReadF32), ("w", Access::ReadF32), ("dx", Access::WriteF32)]
    }
    fn workgroup(&self) -> u32 {
        256
    }
    fn threads(&self, u: &ConvU) -> usize {
        tiles(u.pixels() as u32, u.cin, 1)
    }
    fn cpu(&self, u: &ConvU, args: &mut Args<'_>) {
        let (dy, w, dx) = (args.f32(0), args.f32(1), args.out_f32(0));
        let u = &ConvU { cin: u.cout, cout: u.cin, exact: 0, ..*u };
        dense_forward(u, &floats(u, dy), &turned(u, w), dx);
    }
    fn cases(&self) -> Vec<Case<ConvU>> {
        let mut g = Gen::new(self.name());
        let mut out = Vec::new();
        for (images, h, w, cin, cout, planes, splits, _) in SHAPES {
            let u = ConvU { images, h, w, cin, cout, planes, splits, exact: 0 };
            let (y, weights, x) = (u.pixels() * cout as usize, u.taps() * cout as usize, u.pixels() * cin as usize);
            let name = format!("[{images}, {h}, {w}, {cout}] to {cin}");
            out.push(dyadic(format!("{name}, dyadic"), u, vec![g.dyadic(y), g.dyadic(weights)], x));
            out.push(Case::new(name, u, vec![g.f32s(y), g.f32s(weights)], vec![x]));
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Relative(3e-6)
    }
}

/// w\[9, cout, cin\] -> \[9, cin, cout\] with the taps turned round.
fn turned(u: &ConvU, w: &[f32]) -> Vec<f32> {
    let (cin, cout) = (u.cin as usize, u.cout as usize);
    let (mut y, size) = (vec![0.0; w.len()], (cin * cout).max(1));
    y.par_chunks_mut(size).zip(w.par_chunks(size).rev()).for_each(|(y, w)| transpose(w, cout, cin, y));
    y
}

#[cfg(test)]
mod tests {
    use super::super::par::Stream;
    use super::*;

    /// Outputs that are written past the caches are those of each image by itself.
    #[test]
    fn long_outputs() {
        for (cin, cout) in [(2, 32), (2, 48), (16, 32)] {
            let u = ConvU { images: 8, h: 128, w: 128, cin, cout, planes: 1, splits: 1, exact: 0 };
            let mut rng = crate::rng::Rng::new(1);
            let mut numbers = |n: usize| (0..n).map(|_| (rng.u32() % 64) as f32 / 64.0).collect::<Vec<_>>();
            let (x, w) = (numbers(u.pixels() * cin as usize), numbers(u.taps() * cout as usize));
            let run = |u: &ConvU, x: &[f32]| {
                let mut y = vec![0u32; u.pixels() * cout as usize];
                Kernel::cpu(&Forward, u, &mut Args::new(vec![bytemuck::cast_slice(x), bytemuck::cast_slice(&w)], vec![&mut y]));
                y
            };
            let one = ConvU { images: 1, ..u };
            let each: Vec<u32> = x.chunks(one.pixels() * cin as usize).flat_map(|x| run(&one, x)).collect();
            assert!(each.len() >= Stream::FROM && run(&u, &x) == each, "{cin} {cout}");
        }
    }

    /// The same of spikes that are walked, two planes of them.
    #[test]
    fn long_outputs_of_walks() {
        for cin in [32, 33] {
            let u = ConvU { images: 4, h: 128, w: 128, cin, cout: 64, planes: 2, splits: 1, exact: 0 };
            let one = ConvU { images: 1, ..u };
            let Data::U32(x) = Gen::new("long").bits(2 * u.pixels(), cin as usize, 0.02) else { unreachable!() };
            let Data::F32(w) = Gen::new("weights").dyadic(u.taps() * 64) else { unreachable!() };
            let run = |u: &ConvU, x: &[u32]| {
                let mut room = Vec::new();
                let y = super::super::par::lines(&mut room, u.pixels() * 64);
                forward_by(Way::Walk, u, &spikes(u, x), &w, y);
                y.to_vec()
            };
            let (low, high) = x.split_at(x.len() / 2);
            let planes = low.chunks(low.len() / 4).zip(high.chunks(low.len() / 4));
            let each: Vec<f32> = planes.flat_map(|(low, high)| run(&one, &[low, high].concat())).collect();
            assert!(each.len() >= Stream::FROM && run(&u, &x) == each, "{cin}");
        }
    }

    /// A float64 convolution written out, against both ways of the CPU twin.
    #[test]
    fn agrees_with_the_definition() {
        for case in cases("definition", false, false) {
            let u = case.uniform;
            let (Data::F32(x), Data::F32(w)) = (&case.inputs[0], &case.inputs[1]) else { unreachable!() };
            let (h, wd, ci, co) = (u.h as i64, u.w as i64, u.cin as usize, u.cout as usize);
            let mut y = vec![0u32; case.outputs[0]];
            Kernel::cpu(&Forward, &u, &mut Args::new(vec![bytemuck::cast_slice(x), bytemuck::cast_slice(w)], vec![&mut y]));
            let y: &[f32] = bytemuck::cast_slice(&y);
            let mut sums = Vec::new();
            for (i, o) in (0..u.pixels() as i64).flat_map(|i| (0..co).map(move |o| (i, o))) {
                let (mut sum, mut size) = (0.0f64, 0.0f64);
                for (ky, kx) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                    let (yy, xx) = (i / wd % h + ky - 1, i % wd + kx - 1);
                    if yy < 0 || xx < 0 || yy >= h || xx >= wd {
                        continue;
                    }
                    let p = ((i / (wd * h) * h + yy) * wd + xx) as usize;
                    let tap = (ky * 3 + kx) as usize;
                    for c in 0..ci {
                        let term = f64::from(x[p * ci + c]) * f64::from(w[(tap * ci + c) * co + o]);
                        sum += term;
                        size += term.abs();
                    }
                }
                sums.push((sum, size));
            }
            let largest = sums.iter().fold(0.0, |m: f64, (sum, _)| m.max(sum.abs()));
            for (k, ((sum, size), got)) in sums.iter().zip(y).enumerate() {
                let bound = if u.exact != 0 { 1e-6 * size } else { 3e-6 * largest };
                assert!(
                    (f64::from(*got) - sum).abs() <= bound,
                    "{}: pixel {} channel {}: {got} {sum}",
                    case.name,
                    k / co,
                    k % co
                );
            }
        }
    }
}
