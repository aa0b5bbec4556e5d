//! Backward of every operation against finite differences of its forward.
//!
//! - Most operations are linear in each element of each input, spikes included, so that a difference quotient of any width is exact but
//!   for rounding: floats are moved by 1, spikes are flipped.
//! - Neurons and norms are compared with a float64 forward in which the firing step is replaced by S + G(x) - G(x0), G the surrogate's
//!   primitive and x0 the value of x = H - v_threshold in the unperturbed run: same value, the surrogate's derivative.

use crate::gpu;
use libtest_mimic::{Failed, Trial};
use spikemix::ctx::Op;
use spikemix::device::Device;
use spikemix::neuron::{Neuron, NeuronKind};
use spikemix::ops::attention::{KeyValue, Mix, Query, Scores};
use spikemix::ops::conv::Conv3x3;
use spikemix::ops::depthwise::Depthwise3x3;
use spikemix::ops::dropout::Dropout;
use spikemix::ops::flatten::Flatten;
use spikemix::ops::gate::{Both, Halves, Hold, Mixture, RowGate, TokenGate};
use spikemix::ops::linear::Linear;
use spikemix::ops::mean::TokenMean;
use spikemix::ops::neuron::{NeuronLayer, Norm, Wants};
use spikemix::ops::norm::BatchNorm;
use spikemix::ops::pool::MaxPool;
use spikemix::ops::residual::Residual;
use spikemix::rng::Rng;
use spikemix::surrogate::SurrogateKind;
use spikemix::tensor::Tensor;

type Outcome = Result<(), Failed>;

/// An input of a case: its shape, its values, and how it is held.
#[derive(Clone)]
struct Input {
    shape: Vec<usize>,
    values: Vec<f32>,
    spikes: bool,
}

impl Input {
    fn tensor(&self, d: &Device) -> Result<Tensor, Failed> {
        Ok(match self.spikes {
            true => Tensor::planes_from_f32(d, &self.shape, &self.values)?,
            false => Tensor::from_f32(d, &self.shape, &self.values)?,
        })
    }
}

struct Make(Rng);

impl Make {
    fn f32(&mut self, shape: &[usize]) -> Input {
        let values = (0..shape.iter().product()).map(|_| self.0.uniform(-1.0, 1.0) as f32).collect();
        Input { shape: shape.to_vec(), values, spikes: false }
    }
    fn spikes(&mut self, shape: &[usize]) -> Input {
        let values = (0..shape.iter().product()).map(|_| f32::from(u8::from(self.0.f32() < 0.4))).collect();
        Input { shape: shape.to_vec(), values, spikes: true }
    }
    fn integers(&mut self, shape: &[usize]) -> Input {
        let values = (0..shape.iter().product()).map(|_| self.0.below(4) as f32).collect();
        Input { shape: shape.to_vec(), values, spikes: true }
    }
}

fn run(op: &dyn Op, inputs: &[Input], d: &Device) -> Result<(Vec<Tensor>, Vec<Tensor>), Failed> {
    let tensors = inputs.iter().map(|i| i.tensor(d)).collect::<Result<Vec<_>, _>>()?;
    let out = op.forward(&tensors.iter().collect::<Vec<_>>())?;
    Ok((out.outputs, out.saved))
}

/// <outputs, weights> in float64, over the first `outputs` outputs.
fn project(outputs: &[Tensor], weights: &[Vec<f32>]) -> Result<f64, Failed> {
    let mut sum = 0.0;
    for (o, w) in outputs.iter().zip(weights) {
        sum += o.to_vec()?.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    }
    Ok(sum)
}

/// Every element of every input of an operation that is linear in it.
fn multilinear(op: &dyn Op, inputs: &[Input], d: &Device) -> Outcome {
    let (outputs, saved) = run(op, inputs, d)?;
    let mut rng = Rng::new(5);
    let weights: Vec<Vec<f32>> = outputs.iter().map(|o| (0..o.len()).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()).collect();
    let dy = outputs
        .iter()
        .zip(&weights)
        .map(|(o, w)| Ok(Some(Tensor::from_f32(d, o.shape(), w)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let grads = op.backward(&saved, &mut dy.clone(), &vec![true; inputs.len()])?;
    let base = project(&outputs, &weights)?;
    for (i, input) in inputs.iter().enumerate() {
        let got = grads[i].as_ref().ok_or_else(|| format!("input {i} has no gradient"))?.to_vec()?;
        // About 40 elements of each input, spread over it.
        for e in (0..input.values.len()).step_by((input.values.len() / 40).max(1)) {
            let mut moved = inputs.to_vec();
            let v = &mut moved[i].values[e];
            let step = if input.spikes && *v != 0.0 { -1.0 } else { 1.0 };
            *v += step;
            let want = (project(&run(op, &moved, d)?.0, &weights)? - base) / f64::from(step);
            let (got, size) = (f64::from(got[e]), 1.0 + base.abs());
            if (got - want).abs() > 2e-5 * size {
                return Err(format!("{}: input {i} element {e}: backward {got}, difference {want}", op.name()).into());
            }
        }
    }
    Ok(())
}

fn multilinear_cases(d: &Device) -> Outcome {
    let mut m = Make(Rng::new(1));
    let (img, tok) = ([2, 2, 4, 3, 5], [2, 2, 3, 3, 6]);
    for x in [m.f32(&img), m.spikes(&img), m.integers(&img)] {
        multilinear(&Linear::default(), &[x.clone(), m.f32(&[5, 7]), m.f32(&[7])], d)?;
        multilinear(&Conv3x3::default(), &[x.clone(), m.f32(&[3, 3, 5, 4])], d)?;
        multilinear(&TokenMean { sum: false }, std::slice::from_ref(&x), d)?;
        multilinear(&TokenMean { sum: true }, std::slice::from_ref(&x), d)?;
        multilinear(&Flatten, std::slice::from_ref(&x), d)?;
        multilinear(&Dropout { share: 0.4, rng: Rng::new(2) }, std::slice::from_ref(&x), d)?;
        multilinear(&Residual, &[x.clone(), x], d)?;
    }
    multilinear(&Depthwise3x3, &[m.spikes(&img), m.f32(&[3, 3, 5])], d)?;
    let (q, k, v) = (m.spikes(&tok), m.spikes(&tok), m.spikes(&[2, 2, 3, 3, 8]));
    multilinear(&KeyValue { heads: 2 }, &[k.clone(), v.clone()], d)?;
    multilinear(&Query { heads: 2, scale: 0.25 }, &[q.clone(), m.f32(&[2, 2, 2, 3, 4])], d)?;
    multilinear(&Scores { heads: 3 }, &[q, k], d)?;
    multilinear(&Mix { heads: 2, scale: 0.5 }, &[m.f32(&[2, 2, 2, 9, 9]), v], d)?;
    multilinear(&Mixture, &[m.spikes(&[2, 2, 3, 3, 3]), m.spikes(&tok), m.spikes(&tok), m.spikes(&tok)], d)?;
    for expert in [0, 2] {
        multilinear(&RowGate { expert }, &[m.spikes(&[2, 2, 3, 3, 3]), m.f32(&[2, 2, 3, 3, 40])], d)?;
    }
    for window in [1, 2, 3, 9] {
        multilinear(&Hold { window, wants_open: false }, &[m.spikes(&[5, 2, 3, 3])], d)?;
    }
    multilinear(&Both, &[m.spikes(&tok), m.spikes(&tok)], d)?;
    multilinear(&TokenGate, &[m.spikes(&tok), m.spikes(&[2, 2, 6])], d)?;
    multilinear(&Halves { first: 35 }, &[m.spikes(&[2, 2, 2, 1, 70])], d)
}

/// Max pooling is linear only while no maximum changes, so its backward is compared with the rule written out.
fn pooling(d: &Device) -> Outcome {
    let mut m = Make(Rng::new(2));
    for x in [m.f32(&[1, 2, 5, 4, 3]), m.spikes(&[1, 2, 5, 4, 35]), m.integers(&[1, 2, 5, 4, 35])] {
        let (h, w, c) = (x.shape[2], x.shape[3], x.shape[4]);
        let (ho, wo) = (h.div_ceil(2), w.div_ceil(2));
        let (outputs, saved) = run(&MaxPool, std::slice::from_ref(&x), d)?;
        let dy = m.f32(outputs[0].shape());
        let got = MaxPool.backward(&saved, &mut [Some(dy.tensor(d)?)], &[true])?[0].as_ref().ok_or("no gradient")?.to_vec()?;
        let y = outputs[0].to_vec()?;
        let mut want = vec![0.0f32; x.values.len()];
        for o in 0..2 * ho * wo * c {
            let (k, ox, oy, n) = (o % c, o / c % wo, o / (c * wo) % ho, o / (c * wo * ho));
            let mut best: Option<usize> = None;
            for (ky, kx) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                let (iy, ix) = (2 * oy + ky, 2 * ox + kx);
                if iy >= 1 && iy <= h && ix >= 1 && ix <= w {
                    let e = ((n * h + iy - 1) * w + ix - 1) * c + k;
                    if best.is_none_or(|b| x.values[e] > x.values[b]) {
                        best = Some(e);
                    }
                }
            }
            let best = best.ok_or("an empty window")?;
            if y[o] != x.values[best] {
                return Err(format!("output {o}: {} for {}", y[o], x.values[best]).into());
            }
            want[best] += dy.values[o];
        }
        if let Some(e) = (0..want.len()).find(|&e| (want[e] - got[e]).abs() > 1e-5) {
            return Err(format!("element {e}: {} for {}", got[e], want[e]).into());
        }
    }
    Ok(())
}

/// The float64 forward of a norm (where there is one) and neurons: x \[t, rows, c\] to <s, gs> + <v, gv>, with the step taken from `x0`.
struct Reference<'a> {
    n: Neuron,
    norm: bool,
    size: (usize, usize, usize),
    gs: &'a [f32],
    gv: &'a [f32],
}

impl Reference<'_> {
    /// Returns the projection, and x = H - v_threshold of each neuron and step.
    fn run(&self, x: &[f64], gamma: &[f64], beta: &[f64], w: f64, x0: Option<&[f64]>) -> (f64, Vec<f64>) {
        let (t, rows, c) = self.size;
        let total = (t * rows) as f64;
        let mut z = x.to_vec();
        if self.norm {
            for k in 0..c {
                let column = || x.iter().skip(k).step_by(c);
                let mean = column().sum::<f64>() / total;
                let var = column().map(|v| (v - mean).powi(2)).sum::<f64>() / total;
                z.iter_mut().skip(k).step_by(c).for_each(|v| *v = gamma[k] * (*v - mean) / (var + 1e-5).sqrt() + beta[k]);
            }
        }
        let n = &self.n;
        let (rest, threshold) = (f64::from(n.rest()), f64::from(n.v_threshold));
        let k = if n.neuron == NeuronKind::Plif { 1.0 / (1.0 + (-w).exp()) } else { 1.0 / f64::from(n.tau) };
        let mut v = vec![rest; rows * c];
        let (mut sum, mut xs) = (0.0, Vec::new());
        for e in 0..t * rows * c {
            let v = &mut v[e % (rows * c)];
            // Of a new kind the charge function is written down here once more.
            let h = match (n.neuron, n.decay_input) {
                (NeuronKind::If, _) => *v + z[e],
                (NeuronKind::Lif | NeuronKind::Plif, true) => *v + (z[e] - (*v - rest)) * k,
                (NeuronKind::Lif | NeuronKind::Plif, false) => *v - (*v - rest) * k + z[e],
            };
            let x = h - threshold;
            let base = x0.map_or(x, |x0| x0[e]);
            let hard = if base >= 0.0 { 1.0 } else { 0.0 };
            let g = |x: f64| n.surrogate.primitive(x, f64::from(n.alpha));
            let s = hard + g(x) - g(base);
            let in_reset = if n.detach_reset { hard } else { s };
            *v = if n.v_reset.is_none() { h - threshold * in_reset } else { h * (1.0 - in_reset) + rest * in_reset };
            sum += s * f64::from(self.gs[e]) + *v * f64::from(self.gv[e]);
            xs.push(x);
        }
        (sum, xs)
    }
}

fn neurons(kind: NeuronKind, surrogate: SurrogateKind, d: &Device) -> Outcome {
    let base = Neuron { neuron: kind, surrogate, alpha: 2.0, ..Neuron::default() };
    let settings = [
        base,
        Neuron { detach_reset: false, tau: 3.0, decay_input: false, v_threshold: 0.6, ..base },
        Neuron { detach_reset: false, v_reset: None, ..base },
        Neuron { v_reset: Some(-0.25), detach_reset: false, tau: 1.5, ..base },
    ];
    for (i, n) in settings.into_iter().enumerate() {
        for norm in [false, true] {
            one_neuron(n, norm, 10 + i as u64, d)
                .map_err(|e| format!("{n:?}, norm {norm}: {}", e.message().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn one_neuron(n: Neuron, norm: bool, seed: u64, d: &Device) -> Outcome {
    let (t, rows, c) = (5, 6, 3);
    let mut m = Make(Rng::new(seed));
    let mut x = m.f32(&[t, rows, c]);
    x.values.iter_mut().for_each(|v| *v = *v * 2.0 + 0.4);
    let (gamma, beta) = (m.f32(&[c]), m.f32(&[c]));
    let (gs, gv) = (m.f32(&[t, rows, c]), m.f32(&[t, rows, c]));
    let w0 = 0.3f32;
    let zero = Input { shape: vec![c], values: vec![0.0; c], spikes: false };
    let mut inputs = vec![x.clone()];
    if norm {
        inputs.extend([gamma.clone(), beta.clone(), zero.clone(), zero]);
    }
    if n.neuron == NeuronKind::Plif {
        inputs.push(Input { shape: vec![1], values: vec![w0], spikes: false });
    }
    let op = NeuronLayer {
        neuron: n,
        norm: norm.then_some(Norm { training: true, eps: 1e-5, padding: None }),
        has_v0: false,
        wants: Wants { v: false, v_seq: true },
        active: None,
        is_part: false,
    };
    let (_, saved) = run(&op, &inputs, d)?;
    let grads = op.backward(&saved, &mut [Some(gs.tensor(d)?), Some(gv.tensor(d)?), None, None], &vec![true; inputs.len()])?;
    let r = Reference { n, norm, size: (t, rows, c), gs: &gs.values, gv: &gv.values };
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let point = [wide(&x.values), wide(&gamma.values), wide(&beta.values), vec![f64::from(w0)]];
    let (_, x0) = r.run(&point[0], &point[1], &point[2], point[3][0], None);
    // Which gradient belongs to which part of the point.
    let mut parts = vec![(0, 0)];
    if norm {
        parts.extend([(1, 1), (2, 2)]);
    }
    if n.neuron == NeuronKind::Plif {
        parts.push((inputs.len() - 1, 3));
    }
    for (input, part) in parts {
        let got = grads[input].as_ref().ok_or("no gradient")?.to_vec()?;
        let size = got.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for e in 0..got.len() {
            let at = |h: f64| {
                let mut p = point.clone();
                p[part][e] += h;
                r.run(&p[0], &p[1], &p[2], p[3][0], Some(&x0)).0
            };
            let h = 1e-5;
            let want = (at(h) - at(-h)) / (2.0 * h);
            if (f64::from(got[e]) - want).abs() > 2e-4 * f64::from(size) {
                return Err(format!("input {input} element {e}: backward {}, difference {want}", got[e]).into());
            }
        }
    }
    Ok(())
}

/// Batch norm by itself, in float64.
fn batch_norm(d: &Device) -> Outcome {
    let (rows, c) = (12, 3);
    let mut m = Make(Rng::new(3));
    let inputs = [m.f32(&[rows, c]), m.f32(&[c]), m.f32(&[c]), m.f32(&[c]), m.f32(&[c])];
    let dy = m.f32(&[rows, c]);
    let op = BatchNorm { training: true, eps: 1e-5, padding: None };
    let (outputs, saved) = run(&op, &inputs, d)?;
    if outputs.len() != 3 {
        return Err("mean and variance expected".into());
    }
    let grads = op.backward(&saved, &mut [Some(dy.tensor(d)?), None, None], &[true; 5])?;
    let forward = |p: &[Vec<f64>]| -> f64 {
        let mut sum = 0.0;
        for k in 0..c {
            let column: Vec<f64> = p[0].iter().skip(k).step_by(c).copied().collect();
            let mean = column.iter().sum::<f64>() / rows as f64;
            let var = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
            for (r, v) in column.iter().enumerate() {
                sum += f64::from(dy.values[r * c + k]) * (p[1][k] * (v - mean) / (var + 1e-5).sqrt() + p[2][k]);
            }
        }
        sum
    };
    let point: Vec<Vec<f64>> = inputs[..3].iter().map(|i| i.values.iter().map(|&v| f64::from(v)).collect()).collect();
    for i in 0..3 {
        let got = grads[i].as_ref().ok_or("no gradient")?.to_vec()?;
        for e in 0..got.len() {
            let at = |h: f64| {
                let mut p = point.clone();
                p[i][e] += h;
                forward(&p)
            };
            let want = (at(1e-5) - at(-1e-5)) / 2e-5;
            if (f64::from(got[e]) - want).abs() > 1e-4 {
                return Err(format!("input {i} element {e}: backward {}, difference {want}", got[e]).into());
            }
        }
    }
    Ok(())
}

/// Every operation, on the CPU and on the GPU device.
pub fn trials() -> Vec<Trial> {
    let mut out = Vec::new();
    let mut both = |name: String, f: std::sync::Arc<dyn Fn(&Device) -> Outcome + Send + Sync>| {
        let g = f.clone();
        out.push(Trial::test(format!("gradients::cpu::{name}"), move || f(&Device::Cpu)));
        out.push(gpu::trial(format!("gradients::gpu::{name}"), move |d| g(d)));
    };
    both("multilinear".into(), std::sync::Arc::new(multilinear_cases));
    both("max_pool".into(), std::sync::Arc::new(pooling));
    both("batch_norm".into(), std::sync::Arc::new(batch_norm));
    for &kind in NeuronKind::ALL {
        for &surrogate in SurrogateKind::ALL {
            let f = move |d: &Device| neurons(kind, surrogate, d);
            both(format!("neuron::{}::{}", kind.key(), surrogate.key()), std::sync::Arc::new(f));
        }
    }
    out
}
