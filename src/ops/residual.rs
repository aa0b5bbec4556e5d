//! Residual sums.

use super::only;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::elementwise::{Add, AddU};
use crate::kernel::spike::{Concat, ConcatU};
use crate::tensor::{Repr, Tensor, launch1};

/// a + b of one shape. Floats are added; of spikes the planes are kept side by side, so that the sum is an integer spike map and nothing is
/// unpacked.
pub struct Residual;

impl Op for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let &[a, b] = x else { return Err(Error::shape(self.name(), "two inputs expected")) };
        if a.shape() != b.shape() || a.is_bits() != b.is_bits() {
            return Err(Error::shape(self.name(), format!("{a:?} and {b:?}")));
        }
        let y = if a.is_bits() {
            let u = ConcatU { na: a.storage().len() as u32, nb: b.storage().len() as u32 };
            launch1(&Concat, &u, &[a, b], a.shape(), Repr::Bits { planes: a.planes() + b.planes() })?
        } else {
            launch1(&Add, &AddU { n: a.len() as u32 }, &[a, b], a.shape(), Repr::F32)?
        };
        Ok(Forward::one(y, Vec::new()))
    }
    fn is_cheap(&self, x: &[&Tensor]) -> bool {
        // What neurons take from a sum of currents is a map more than a convolution and its spikes.
        !x[0].is_bits()
    }
    fn backward(&self, _: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dy = only(self.name(), dy)?;
        Ok(vec![Some(dy.clone()), Some(dy.clone())])
    }
}
