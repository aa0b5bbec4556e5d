//! Batch-norm folding: a pass over [`Params`] that moves the norms' gains into the weights before them.
//!
//! For inference a norm is a line, gain (y - mean) + beta with gain = gamma / sqrt(var + eps), and y is linear in the weights. So each
//! output channel's weights are multiplied by its gain, and what remains of convolution and norm is one shift,
//! beta + (bias - mean) gain. Names and shapes stay, so that folded parameters are parameters of the same model and can be saved as a
//! checkpoint of it.
//!
//! The network computes the same but for rounding. Gains that are powers of two and dyadic parameters leave nothing to round: spikes
//! and scores are then equal.

use super::EPS;
use crate::error::{Error, Result};
use crate::params::{ParamId, Params};
use crate::tensor::Tensor;

/// Parameters of the same network with its batch norms folded: each norm has gain 1 (weight 1, variance 1 - eps), mean 0 and the
/// shift as its bias, the convolution before it has bias 0, and [`Params::is_folded`] says so. Where nothing is left to normalise, modules
/// then skip the norm.
///
/// Folded parameters are for inference; in training the norms take batch statistics as ever. Parameters that are folded already come
/// back as they are.
///
/// # Errors
/// A norm without a convolution of its name, or parts whose sizes do not fit.
///
/// ```
/// use spikemix::{device::Device, model, nn::fold::fold};
/// let (_net, params) = model::fresh(&model::Spec { dim: 16, heads: 2, ..Default::default() }, &Device::Cpu, 0)?;
/// let folded = fold(&params)?;
/// assert!(folded.is_folded() && !params.is_folded());
/// # Ok::<(), spikemix::Error>(())
/// ```
pub fn fold(params: &Params) -> Result<Params> {
    let mut out = params.clone();
    if params.is_folded() {
        return Ok(out);
    }
    let mut new = Vec::new();
    for (id, p) in params.iter() {
        if let Some(stem) = p.name.strip_suffix(".bn.running_var") {
            fold_one(params, stem, id, &mut new)?;
        }
    }
    out.update(new);
    out.mark_folded();
    Ok(out)
}

/// Folds the norm `stem.bn`, whose variance is `var`, into `stem.conv`.
fn fold_one(params: &Params, stem: &str, var: ParamId, new: &mut Vec<(ParamId, Tensor)>) -> Result<()> {
    let find = |name: &str| {
        let full = format!("{stem}.{name}");
        params.find(&full).ok_or_else(|| Error::shape("fold", format!("there is no {full} to fold {stem}.bn into")))
    };
    let [gamma, beta, mean, weight] = ["bn.weight", "bn.bias", "bn.running_mean", "conv.weight"].map(find);
    let (gamma, beta, mean, weight) = (gamma?, beta?, mean?, weight?);
    let bias = params.find(&format!("{stem}.conv.bias"));
    let read = |id: ParamId| params.get(id).value.to_vec();
    let (g, b, m, v) = (read(gamma)?, read(beta)?, read(mean)?, read(var)?);
    let c = g.len();
    let conv_bias = bias.map_or_else(|| Ok(vec![0.0; c]), read)?;
    let w = &params.get(weight).value;
    if w.channels() != c || [b.len(), m.len(), v.len(), conv_bias.len()] != [c; 4] {
        return Err(Error::shape("fold", format!("{stem}: a norm of {c} channels behind weights {:?}", w.shape())));
    }
    // As the kernel computes it, so that what is exact there is exact here.
    let gain: Vec<f32> = (0..c).map(|i| g[i] / (v[i] + EPS).sqrt()).collect();
    let shift = |i: usize| (f64::from(b[i]) + (f64::from(conv_bias[i]) - f64::from(m[i])) * f64::from(gain[i])) as f32;
    // Output channels are the last axis of every layout.
    let scaled: Vec<f32> = w.to_vec()?.iter().enumerate().map(|(i, w)| w * gain[i % c.max(1)]).collect();
    let mut set = |id: ParamId, data: &[f32]| -> Result<()> {
        new.push((id, Tensor::from_f32(params.device(), params.get(id).value.shape(), data)?));
        Ok(())
    };
    set(weight, &scaled)?;
    set(gamma, &vec![1.0; c])?;
    set(beta, &(0..c).map(shift).collect::<Vec<_>>())?;
    set(mean, &vec![0.0; c])?;
    set(var, &vec![1.0 - EPS; c])?;
    if let Some(id) = bias {
        set(id, &vec![0.0; c])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Ctx;
    use crate::device::Device;
    use crate::nn::{ConvBn, Kind};
    use crate::params::Build;
    use crate::rng::Rng;

    #[test]
    fn a_gain_of_one_is_exact() {
        assert_eq!(1.0 / ((1.0 - EPS) + EPS).sqrt(), 1.0);
    }

    /// Every kind of convolution gives the same currents with its norm folded, and with the shift alone where norms are skipped.
    #[test]
    fn currents_stay() {
        for kind in [Kind::Pointwise, Kind::PointwiseBias, Kind::Conv3x3, Kind::Depthwise] {
            let (cin, cout) = if kind == Kind::Depthwise { (6, 6) } else { (5, 6) };
            let mut params = Params::new(&Device::Cpu);
            let conv = ConvBn::new(&mut Build::new(&mut params, 1), "a", kind, cin, cout).unwrap();
            let random: Vec<_> = params
                .iter()
                .map(|(id, p)| {
                    let mut rng = Rng::new(3).stream(p.name.as_str());
                    let data: Vec<f32> = (0..p.value.len()).map(|_| 0.1 + rng.f32()).collect();
                    (id, Tensor::from_f32(&Device::Cpu, p.value.shape(), &data).unwrap())
                })
                .collect();
            params.update(random);
            let mut rng = Rng::new(5);
            let x: Vec<f32> = (0..2 * 4 * 3 * cin).map(|_| f32::from(u8::from(rng.f32() < 0.3))).collect();
            let x = Tensor::spikes_from_f32(&Device::Cpu, &[2, 1, 4, 3, cin], &x).unwrap();
            let current = |p: &Params| conv.current(&x, &mut Ctx::infer(p)).unwrap().to_vec().unwrap();
            let want = current(&params);
            let folded = fold(&params).unwrap();
            // Setting a parameter takes the mark away: norms are then computed though they are trivial.
            let mut plain = folded.clone();
            plain.update([]);
            assert!(folded.is_folded() && !plain.is_folded());
            for p in [&folded, &plain, &fold(&folded).unwrap(), &fold(&plain).unwrap()] {
                let worst = current(p).iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
                assert!(worst < 1e-5, "{kind:?}: {worst}");
            }
        }
    }

    #[test]
    fn a_norm_alone_is_refused() {
        let mut params = Params::new(&Device::Cpu);
        let mut b = Build::new(&mut params, 0);
        super::super::BatchNormLayer::new(&mut b.scope("a").scope("bn"), 3).unwrap();
        let said = fold(&params).err().unwrap().to_string();
        assert!(said.contains("no a.conv.weight to fold a.bn into"), "{said}");
    }
}
