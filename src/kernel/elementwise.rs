//! Element by element on floats.

use super::{Access, Args, Case, Gen, Kernel, Tolerance, simd};
use crate::uniform;
use rayon::prelude::*;

uniform! {
    /// Uniform of [`Add`].
    pub struct AddU {
        /// Elements.
        n: u32
    }
}

/// y[n] = a[n] + b[n]: residuals of currents, and gradients that meet.
pub struct Add;

impl Kernel for Add {
    type Uniform = AddU;
    fn name(&self) -> &'static str {
        "elementwise/add"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/elementwise/add.wgsl")
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        &[("a", Access::ReadF32), ("b", Access::ReadF32), ("y", Access::WriteF32)]
    }
    fn threads(&self, u: &AddU) -> usize {
        u.n as usize
    }
    fn cpu(&self, _: &AddU, args: &mut Args<'_>) {
        let (a, b, y) = (args.f32(0), args.f32(1), args.out_f32(0));
        y.par_chunks_mut(1 << 14).zip(a.par_chunks(1 << 14)).zip(b.par_chunks(1 << 14)).for_each(|((y, a), b)| {
            simd(
                #[inline(always)]
                || y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a + b),
            )
        });
    }
    fn cases(&self) -> Vec<Case<AddU>> {
        let mut g = Gen::new("elementwise/add");
        [0, 1, 63, 64, 1000, 70_001]
            .map(|n| Case::new(format!("{n}"), AddU { n: n as u32 }, vec![g.f32s(n), g.f32s(n)], vec![n]).exact())
            .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}
