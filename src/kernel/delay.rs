//! Channels side by side with their own past.

use super::{AnyKernel, Args, Case, Gen, Kernel, Tolerance};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Forward`] and [`Backward`].
    pub struct DelayU {
        /// Steps of y; backward: T.
        steps: u32,
        /// Places x samples.
        rows: u32,
        /// Channels of x.
        c: u32,
        /// How many times a channel comes.
        taps: u32,
        /// Steps between them.
        stride: u32,
        /// Steps of the past, at least (taps - 1) stride.
        past: u32,
        /// Which step of past and x, one behind the other, the first of y is without delay.
        first: u32
    }
}

impl DelayU {
    /// From its fields, in their order.
    pub fn new(fields: [usize; 7]) -> Self {
        let [steps, rows, c, taps, stride, past, first] = fields.map(|v| v as u32);
        DelayU { steps, rows, c, taps, stride, past, first }
    }
}

/// x\[T, rows, C\], past\[P, rows, C\] -> y\[steps, rows, taps C\]: channel k C + i of step t is channel i of step `first` + t - k stride of
/// past and x, one behind the other.
pub struct Forward;

impl Kernel for Forward {
    head!("delay/forward", DelayU, [x: ReadF32, past: ReadF32, y: WriteF32]);
    fn threads(&self, u: &DelayU) -> usize {
        u.steps as usize * u.rows as usize * u.c as usize * u.taps as usize
    }
    fn cpu(&self, u: &DelayU, args: &mut Args<'_>) {
        let (x, past, y) = (args.f32(0), args.f32(1), args.out_f32(0));
        let (rows, c, taps) = (u.rows as usize, (u.c as usize).max(1), (u.taps as usize).max(1));
        y.par_chunks_mut(taps * c).enumerate().with_min_len(64).for_each(|(row, y)| {
            let (t, row) = (u.first as usize + row / rows, row % rows);
            for (k, y) in y.chunks_mut(c).enumerate() {
                let t = t - k * u.stride as usize;
                let (source, t) = if t < u.past as usize { (past, t) } else { (x, t - u.past as usize) };
                y.copy_from_slice(&source[(t * rows + row) * c..][..c]);
            }
        });
    }
    fn cases(&self) -> Vec<Case<DelayU>> {
        let mut g = Gen::new("delay/forward");
        let mut out = Vec::new();
        for (steps, rows, c, taps, stride) in
            [(0, 2, 3, 2, 1), (1, 1, 1, 1, 1), (5, 3, 7, 3, 2), (4, 2, 2, 3, 4), (40, 20, 33, 4, 5)]
        {
            let past = (taps - 1) * stride;
            let mut case = |name: &str, y: usize, taps: usize, first: usize| {
                let u = DelayU::new([y, rows, c, taps, stride, past, first]);
                let inputs = vec![g.f32s(steps * rows * c), g.f32s(past * rows * c)];
                out.push(Case::new(format!("[{steps}, {rows}, {c}] {name}"), u, inputs, vec![y * rows * c * taps]));
            };
            case(&format!("{taps} x {stride}"), steps, taps, past);
            case("the new past", past, 1, steps);
        }
        out
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// dy\[T, rows, taps C\] -> dx\[T, rows, C\] of [`Forward`].
pub struct Backward;

impl Kernel for Backward {
    head!("delay/backward", DelayU, [dy: ReadF32, dx: WriteF32]);
    fn threads(&self, u: &DelayU) -> usize {
        u.steps as usize * u.rows as usize * u.c as usize
    }
    fn cpu(&self, u: &DelayU, args: &mut Args<'_>) {
        let (dy, dx) = (args.f32(0), args.out_f32(0));
        let (rows, c, stride) = (u.rows as usize, (u.c as usize).max(1), u.stride as usize);
        let wide = c * u.taps as usize;
        dx.par_chunks_mut(c).enumerate().with_min_len(64).for_each(|(row, dx)| {
            dx.fill(0.0);
            let (t, row) = (row / rows, row % rows);
            for k in (0..u.taps as usize).take_while(|k| t + k * stride < u.steps as usize) {
                let dy = &dy[((t + k * stride) * rows + row) * wide + k * c..][..c];
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
            }
        });
    }
    fn cases(&self) -> Vec<Case<DelayU>> {
        let mut g = Gen::new("delay/backward");
        [(0, 2, 3, 2, 1), (1, 1, 1, 1, 1), (5, 3, 7, 3, 2), (4, 2, 2, 3, 4), (40, 20, 33, 4, 5)]
            .map(|(steps, rows, c, taps, stride)| {
                let past = (taps - 1) * stride;
                let u = DelayU { steps, rows, c, taps, stride, past, first: past };
                let n = (steps * rows * c) as usize;
                Case::new(format!("[{steps}, {rows}, {c}] {taps} x {stride}"), u, vec![g.f32s(n * taps as usize)], vec![n])
            })
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}

/// Every kernel here.
pub fn all() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(Forward), Box::new(Backward)]
}
