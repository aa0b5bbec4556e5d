//! Stand-in until the networks are merged: a linear readout of mean activity. Take the other side of a merge conflict here.
use crate::ctx::{Ctx, Forward, Module, Op};
use crate::error::{Error, Result};
use crate::params::{Build, Init, ParamId, Role};
use crate::tensor::Tensor;
use crate::tensor::torch::Layout;
use serde::{Deserialize, Serialize};

/// Stand-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Stand-in.
    pub net: String,
    /// Stand-in.
    pub dim: usize,
    /// Stand-in.
    pub in_channels: usize,
    /// Stand-in.
    pub classes: usize,
}
impl Default for Spec {
    fn default() -> Self {
        Spec { net: "spikformer".into(), dim: 256, in_channels: 2, classes: 10 }
    }
}
impl Spec {
    /// Stand-in.
    pub fn validate(&self) -> Result<()> {
        if self.dim % 8 != 0 {
            return Err(Error::config("model.dim", "must be a multiple of 8"));
        }
        Ok(())
    }
}
struct Linear {
    w: ParamId,
    b: ParamId,
}
/// Stand-in.
pub fn build(spec: &Spec, b: &mut Build<'_>) -> Result<Box<dyn Module>> {
    let mut h = b.scope("head");
    let n = 16 * spec.in_channels;
    Ok(Box::new(Linear {
        w: h.param("weight", &[n, spec.classes], Role::Weight, Layout::Linear, Init::FanIn(n))?,
        b: h.param("bias", &[spec.classes], Role::Bias, Layout::Plain, Init::FanIn(n))?,
    }))
}
impl Module for Linear {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let (w, b) = (cx.param(self.w), cx.param(self.b));
        cx.apply1("head", Readout, &[x, &w, &b])
    }
}
struct Readout;
fn pooled(x: &Tensor) -> Result<Vec<f32>> {
    let s = x.shape();
    let (tb, h, w, c) = (s[0] * s[1], s[2], s[3], s[4]);
    let v = x.to_vec()?;
    let mut y = vec![0.0; tb * 16 * c];
    for i in 0..tb {
        for p in 0..h {
            for q in 0..w {
                for k in 0..c {
                    y[(i * 16 + (4 * p / h) * 4 + 4 * q / w) * c + k] += v[((i * h + p) * w + q) * c + k] * 16.0 / (h * w) as f32;
                }
            }
        }
    }
    Ok(y)
}
impl Op for Readout {
    fn name(&self) -> &'static str {
        "readout"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let (m, w, b) = (pooled(x[0])?, x[1].to_vec()?, x[2].to_vec()?);
        let (n, k) = (x[1].shape()[0], x[1].shape()[1]);
        let mut y = Vec::new();
        for row in m.chunks(n) {
            for j in 0..k {
                y.push(b[j] + (0..n).map(|i| row[i] * w[i * k + j]).sum::<f32>());
            }
        }
        let s = x[0].shape();
        let y = Tensor::from_f32(x[0].device(), &[s[0], s[1], k], &y)?;
        Ok(Forward::one(y, vec![x[0].clone(), x[1].clone()]))
    }
    fn backward(&self, saved: &[Tensor], dy: &[Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let (m, g) = (pooled(&saved[0])?, dy[0].as_ref().map(|d| d.to_vec()).transpose()?.unwrap_or_default());
        let (n, k) = (saved[1].shape()[0], saved[1].shape()[1]);
        let (mut dw, mut db) = (vec![0.0; n * k], vec![0.0; k]);
        for (row, g) in m.chunks(n).zip(g.chunks(k)) {
            for j in 0..k {
                db[j] += g[j];
                (0..n).for_each(|i| dw[i * k + j] += row[i] * g[j]);
            }
        }
        let d = saved[0].device();
        Ok(vec![None, Some(Tensor::from_f32(d, &[n, k], &dw)?), Some(Tensor::from_f32(d, &[k], &db)?)])
    }
}
