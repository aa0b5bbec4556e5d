//! Linear map, which is also the 1x1 convolution.

use super::{none, only, sum_splits};
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::matmul::{Bits, BitsU, BitsWeight, Dense, DenseU};
use crate::kernel::product::splits;
use crate::kernel::reduce::{ColumnSum, ColumnSumU};
use crate::tensor::{Repr, Tensor, launch1};

/// x `[.., Ci]` (spikes or floats), w `[Ci, Co]`, and optionally bias `[Co]` -> y `[.., Co]`.
///
/// A bias in front of a batch norm with batch statistics has no gradient in exact arithmetic. What rounding leaves of it would be noise
/// that Adam blows up to full steps, so that it is given as the zero it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linear {
    /// Whether a batch norm with batch statistics follows.
    pub before_norm: bool,
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (input, w) = (x[0], x[1]);
        let (rows, cin) = (input.rows(), input.channels());
        let &[wi, cout] = w.shape() else { return Err(Error::shape(self.name(), format!("weight {:?}", w.shape()))) };
        if wi != cin {
            return Err(Error::shape(self.name(), format!("input {:?} for weight [{wi}, {cout}]", input.shape())));
        }
        let empty = none(input.device())?;
        let bias = x.get(2).copied().unwrap_or(&empty);
        let has_bias = u32::from(x.len() > 2);
        let mut shape = input.shape().to_vec();
        shape.last_mut().into_iter().for_each(|c| *c = cout);
        let y = if input.is_bits() {
            launch1(&Bits, &BitsU { has_bias, ..bits_u(input, cout) }, &[input, w, bias], &shape, Repr::F32)?
        } else {
            let u = DenseU { m: rows as u32, k: cin as u32, n: cout as u32, ta: 0, tb: 0, has_bias, splits: 1 };
            launch1(&Dense, &u, &[input, w, bias], &shape, Repr::F32)?
        };
        Ok(Forward::one(y, vec![input.clone(), w.clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (x, w, dy) = (&saved[0], &saved[1], only(self.name(), dy)?);
        let (rows, cin, cout) = (x.rows(), x.channels(), w.shape()[1]);
        let empty = none(x.device())?;
        let dense = |m: usize, k: usize, n: usize, ta: u32, tb: u32, splits: usize| DenseU {
            m: m as u32,
            k: k as u32,
            n: n as u32,
            ta,
            tb,
            has_bias: 0,
            splits: splits as u32,
        };
        let dx = match needs[0] {
            true => Some(launch1(&Dense, &dense(rows, cout, cin, 0, 1, 1), &[dy, w, &empty], x.shape(), Repr::F32)?),
            false => None,
        };
        let dw = if !needs[1] {
            None
        } else {
            let s = splits(rows, cin * cout);
            let parts = if x.is_bits() {
                let u = BitsU { splits: s as u32, ..bits_u(x, cout) };
                launch1(&BitsWeight, &u, &[x, dy], &[s, cin, cout], Repr::F32)?
            } else {
                launch1(&Dense, &dense(cin, rows, cout, 1, 0, s), &[x, dy, &empty], &[s, cin, cout], Repr::F32)?
            };
            Some(sum_splits(&parts, &[cin, cout])?)
        };
        let mut out = vec![dx, dw];
        if needs.len() > 2 {
            let u = ColumnSumU { rows: rows as u32, c: cout as u32 };
            out.push(match (needs[2], self.before_norm) {
                (false, _) => None,
                (true, true) => Some(Tensor::zeros(x.device(), &[cout])?),
                (true, false) => Some(launch1(&ColumnSum, &u, &[dy], &[cout], Repr::F32)?),
            });
        }
        Ok(out)
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let (input, cout) = (x[0], x[1].shape()[1] as u64);
        let nonzero = super::border_counts(input, 1, 1)?.iter().sum::<u64>() * cout;
        let dense = input.len() as u64 * cout;
        Ok(if input.is_bits() {
            Cost { acs: nonzero, dense, ..Cost::default() }
        } else {
            Cost { macs: nonzero, dense, ..Cost::default() }
        })
    }
}

fn bits_u(x: &Tensor, cout: usize) -> BitsU {
    BitsU {
        rows: x.rows() as u32,
        planes: x.planes() as u32,
        cin: x.channels() as u32,
        cout: cout as u32,
        has_bias: 0,
        splits: 1,
    }
}
