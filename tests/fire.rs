//! Neurons touched at arrivals against the clocked kernels, to the bit: by itself, and in the stems of networks.

use crate::gpu;
use crate::infer::{dyadic_gains, random_norms};
use libtest_mimic::{Failed, Trial};
use spikemix::counts::Counts;
use spikemix::ctx::{Ctx, Op};
use spikemix::device::Device;
use spikemix::infer::Session;
use spikemix::model::{self, Net, Spec};
use spikemix::neuron::{Neuron, NeuronKind};
use spikemix::nn::fold::fold;
use spikemix::ops::conv::Conv3x3;
use spikemix::ops::fire::{ConvFire, pays};
use spikemix::ops::neuron::{NeuronLayer, Norm, Wants};
use spikemix::params::Role;
use spikemix::rng::Rng;
use spikemix::tensor::Tensor;

type Outcome = Result<(), Failed>;

const EPS: f32 = 1e-5;

fn settings() -> Vec<(&'static str, Neuron)> {
    let n = Neuron { v_threshold: 0.5, ..Neuron::default() };
    let mut all: Vec<_> = NeuronKind::ALL.iter().map(|&neuron| (neuron.key(), Neuron { neuron, tau: 4.0, ..n })).collect();
    all.extend([
        ("tau 2", n),
        ("tau 3, no decay of the input, reset -0.25", Neuron { tau: 3.0, decay_input: false, v_reset: Some(-0.25), ..n }),
        ("tau 1", Neuron { tau: 1.0, ..n }),
        ("soft", Neuron { v_reset: None, ..n }),
        ("if, soft", Neuron { neuron: NeuronKind::If, v_reset: None, ..n }),
    ]);
    all
}

fn floats(rng: &mut Rng, shape: &[usize], low: f64, high: f64) -> Result<Tensor, Failed> {
    let v: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high) as f32).collect();
    Ok(Tensor::from_f32(&Device::Cpu, shape, &v)?)
}

/// Small integers at about `rate` of the places; in two steps of three, nothing.
fn arrivals(rng: &mut Rng, shape: &[usize], rate: f32, most: usize) -> Vec<f32> {
    let step: usize = shape[1..].iter().product();
    let mut some = |i: usize| i / step % 3 == 1 && rng.f32() < rate;
    let hits: Vec<bool> = (0..shape[0] * step).map(&mut some).collect();
    hits.into_iter().map(|hit| if hit { 1.0 + rng.below(most) as f32 } else { 0.0 }).collect()
}

/// The convolution as a sum over taps and channels in order.
fn convolved(x: &Tensor, w: &Tensor) -> Result<Tensor, Failed> {
    let &[t, b, h, wd, ci] = x.shape() else { return Err("no images".into()) };
    let (co, xs, ws) = (w.channels(), x.to_vec()?, w.to_vec()?);
    let mut y = vec![0.0f32; t * b * h * wd * co];
    for (i, y) in y.chunks_mut(co).enumerate() {
        for (tap, (ky, kx)) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))).enumerate() {
            let (yy, xx) = (i / wd % h + ky, i % wd + kx);
            if yy == 0 || xx == 0 || yy > h || xx > wd {
                continue;
            }
            let p = (i / (h * wd) * h + yy - 1) * wd + xx - 1;
            for c in (0..ci).filter(|c| xs[p * ci + c] != 0.0) {
                let w = &ws[(tap * ci + c) * co..(tap * ci + c + 1) * co];
                y.iter_mut().zip(w).for_each(|(y, w)| *y += xs[p * ci + c] * w);
            }
        }
    }
    Ok(Tensor::from_f32(&Device::Cpu, &[t, b, h, wd, co], &y)?)
}

/// Random weights: spikes and last membranes, in one run and in chunks.
fn equal(packed: bool) -> Outcome {
    let mut rng = Rng::new(31);
    for (name, neuron) in settings() {
        for (shape, co, rate, shift) in [
            ([7, 2, 5, 6, 40], 70, 0.02, 0.0),
            ([7, 1, 4, 4, 3], 32, 0.3, 0.4),
            ([9, 1, 30, 31, 2], 32, 0.003, 0.4),
            ([4, 2, 5, 33, 4], 48, 0.2, 0.4),
            ([12, 1, 9, 3, 33], 150, 0.002, 0.7),
            ([5, 1, 1, 4, 5], 20, 0.0, 0.1),
        ] {
            // Of packed spikes two planes, so that values are up to 2. Products of counts with 3 are rounded: as the convolution does it, where
            // that has one order whatever it meets.
            let thin = shape[4] <= 4 && co % 16 == 0;
            let v = arrivals(&mut rng, &shape, rate, if thin && !packed { 3 } else { 2 });
            let x = match packed {
                true => Tensor::planes_from_f32(&Device::Cpu, &shape, &v)?,
                false => Tensor::from_f32(&Device::Cpu, &shape, &v)?,
            };
            let w = floats(&mut rng, &[3, 3, shape[4], co], -0.5, 0.8)?;
            let mut norm = |low: f64, high: f64| floats(&mut rng, &[co], low, high);
            let mut params = vec![norm(-0.5, 2.0)?, norm(-shift, shift)?, norm(-0.1, 0.1)?, norm(0.5, 1.0)?];
            if shift == 0.0 {
                // No idle current at all: membranes are halved.
                params[2] = norm(0.0, 0.0)?;
            }
            if neuron.neuron.learns_tau() {
                params.push(Tensor::from_f32(&Device::Cpu, &[1], &[-0.7])?);
            }
            let y = match packed {
                false if !thin => convolved(&x, &w)?,
                _ => Conv3x3::default().forward(&[&x, &w])?.outputs.remove(0),
            };
            let wants = Wants { v: true, v_seq: false };
            let norm = Some(Norm { training: false, eps: EPS, padding: None });
            let all: Vec<&Tensor> = std::iter::once(&y).chain(&params).collect();
            let want = NeuronLayer { norm, wants, ..NeuronLayer::plain(neuron) }.forward(&all)?.outputs;
            for chunk in [shape[0], 3, 1] {
                let (mut spikes, mut v0): (Vec<u32>, Option<Tensor>) = (Vec::new(), None);
                let frame: usize = shape[1..].iter().product();
                for part in v.chunks(chunk * frame) {
                    let shape = [part.len() / frame, shape[1], shape[2], shape[3], shape[4]];
                    let x = match packed {
                        true => Tensor::planes_from_f32(&Device::Cpu, &shape, part)?,
                        false => Tensor::from_f32(&Device::Cpu, &shape, part)?,
                    };
                    let op = ConvFire { neuron, eps: EPS, has_v0: v0.is_some(), wants_v: true };
                    let all: Vec<&Tensor> = [&x, &w].into_iter().chain(&params).chain(&v0).collect();
                    let mut outs = op.forward(&all)?.outputs;
                    v0 = outs.pop();
                    spikes.extend(outs[0].words()?);
                }
                let v = v0.ok_or("no membrane")?.words()?;
                if spikes != want[0].words()? || v != want[1].words()? {
                    return Err(format!("{name}, {shape:?} to {co} in chunks of {chunk}: spikes or membranes differ").into());
                }
                if rate > 0.0 && spikes.iter().all(|s| *s == 0) {
                    return Err(format!("{name}, {shape:?}: no spikes, nothing is tested").into());
                }
            }
        }
    }
    Ok(())
}

/// The same on a GPU, by itself, for networks take it there only where it fills the card. Both kernels get numbers whose sums and
/// products are exact, for a driver may contract them in one and not in the other.
fn equal_on_gpu(device: &Device) -> Outcome {
    let mut rng = Rng::new(32);
    let co = 70;
    let mut parts = |shape: &[usize], unit: f32, most: usize| -> Result<Tensor, Failed> {
        let v: Vec<f32> = (0..shape.iter().product()).map(|_| unit * (rng.below(2 * most) as f32 - most as f32)).collect();
        Ok(Tensor::from_f32(device, shape, &v)?)
    };
    let (gamma, beta) = (parts(&[co], 0.25, 4)?, parts(&[co], 0.125, 4)?);
    let one = vec![1.0 - EPS; co];
    let (mean, var) = (parts(&[co], 0.0, 1)?, Tensor::from_f32(device, &[co], &one)?);
    let params = [gamma, beta, mean, var];
    let mut fired = 0;
    for (shape, rate) in [([7, 2, 7, 7, 17], 0.1), ([6, 1, 9, 9, 40], 0.9)] {
        let w = parts(&[3, 3, shape[4], co], 1.0 / 64.0, 16)?;
        let v = arrivals(&mut Rng::new(33), &shape, rate, 2);
        for x in [Tensor::planes_from_f32(device, &shape, &v)?, Tensor::from_f32(device, &shape, &v)?] {
            for neuron in
                [Neuron { tau: 2.0, ..Neuron::default() }, Neuron { neuron: NeuronKind::If, v_reset: None, ..Neuron::default() }]
            {
                let y = Conv3x3::default().forward(&[&x, &w])?.outputs.remove(0);
                let norm = Some(Norm { training: false, eps: EPS, padding: None });
                let wants = Wants { v: true, v_seq: false };
                let all: Vec<&Tensor> = std::iter::once(&y).chain(&params).collect();
                let want = NeuronLayer { norm, wants, ..NeuronLayer::plain(neuron) }.forward(&all)?.outputs;
                let op = ConvFire { neuron, eps: EPS, has_v0: false, wants_v: true };
                let all: Vec<&Tensor> = [&x, &w].into_iter().chain(&params).collect();
                let got = op.forward(&all)?.outputs;
                if got[0].words()? != want[0].words()? || got[1].words()? != want[1].words()? {
                    return Err(
                        format!("{}, {shape:?}, bits {}: spikes or membranes differ", neuron.neuron.key(), x.is_bits()).into()
                    );
                }
                fired += got[0].words()?.iter().map(|w| w.count_ones()).sum::<u32>();
            }
        }
    }
    if fired < 1000 { Err(format!("{fired} spikes: nothing is tested").into()) } else { Ok(()) }
}

const SHAPE: [usize; 5] = [6, 2, 16, 16, 2];

/// Sessions that take the fused kernel give the logits of the clocked engine on the whole clip, however they are cut. On a GPU, which may
/// contract a product and a sum in one kernel and not in another, with dyadic numbers.
fn session(spec: &Spec, packed: bool, device: &Device) -> Outcome {
    let mut rng = Rng::new(5);
    let v = arrivals(&mut rng, &SHAPE, 0.4, 1);
    let frame: usize = SHAPE[1..].iter().product();
    let card = match device {
        Device::Gpu(card) => Some(card),
        Device::Cpu => None,
    };
    // Counts are cut in a network so wide that convolutions of spikes may be multiplied in some chunks, where sums have another order.
    for exact in [true, false].into_iter().filter(|exact| *exact || card.is_none() && packed) {
        let (net, mut params) = model::fresh(spec, device, 3)?;
        if exact {
            dyadic_gains(&mut params)?
        } else {
            random_norms(&mut params)?
        };
        let params = fold(&params)?;
        let tensor = |shape: &[usize], v: &[f32]| match packed {
            true => Tensor::spikes_from_f32(device, shape, v),
            false => Tensor::from_f32(device, shape, v),
        };
        let x = tensor(&SHAPE, &v)?;
        let first = params.iter().find(|(_, p)| p.role == Role::Weight).ok_or("no weights")?.1;
        // A real card is not filled by so few neurons.
        if pays(&x, &first.value) != card.is_none_or(|card| card.is_software()) {
            return Err("the fused kernel is not taken, or by a card that it does not fill".into());
        }
        let run = |cx: Ctx<'_>| -> Result<Vec<f32>, Failed> {
            let mut cx = cx;
            Ok(net.forward(&x, &mut cx)?.to_vec()?)
        };
        // Where counts are kept, the engine is clocked.
        let want = run(Ctx::infer(&params).with_counts(Counts::default()))?;
        if run(Ctx::infer(&params))? != want {
            return Err(format!("dyadic {exact}: the whole clip differs from the clocked engine").into());
        }
        if want.chunks(want.len() / SHAPE[0]).all(|v| *v == want[..want.len() / SHAPE[0]]) {
            return Err("all steps have the same logits: nothing is tested".into());
        }
        let mut session = Session::new(net, params);
        for chunk in [1, 3, SHAPE[0]] {
            session.reset();
            let mut got = Vec::new();
            for part in v.chunks(chunk * frame) {
                let shape = [part.len() / frame, SHAPE[1], SHAPE[2], SHAPE[3], SHAPE[4]];
                got.extend(session.push(&tensor(&shape, part)?)?.to_vec()?);
            }
            if got != want {
                return Err(format!("dyadic {exact}, chunks of {chunk}: logits differ").into());
            }
        }
    }
    Ok(())
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    let mut out = vec![Trial::test("fire::equal::spikes", || equal(true)), Trial::test("fire::equal::counts", || equal(false))];
    out.push(gpu::trial("fire::equal::gpu", equal_on_gpu));
    let neuron = Neuron { v_threshold: 0.5, ..Neuron::default() };
    let layers = ["conv 12", "pool", "conv 16", "flatten", "fc 40"].iter().map(|l| l.parse().unwrap()).collect();
    let base = Spec { neuron, depth: 1, dim: 40, heads: 4, pools: Some([true, true, false, false]), ..Spec::default() };
    let csnn = Spec { net: Net::Csnn, layers, input_size: (16, 16), neuron, ..Spec::default() };
    let others = [Net::Spikformer, Net::Spikingformer, Net::SpikeDriven].map(|net| Spec { net, ..base.clone() });
    for spec in std::iter::once(csnn).chain(others) {
        let on_gpu = spec.clone();
        out.push(Trial::test(format!("fire::session::{:?}", spec.net), move || session(&spec, true, &Device::Cpu)));
        out.push(gpu::trial(format!("fire::session::gpu::{:?}", on_gpu.net), move |device| session(&on_gpu, true, device)));
    }
    // Event counts, which are multiplied in whole clips and walked in steps where nothing or little arrives: 16 channels in the first layer.
    for net in [Net::Spikformer, Net::Spikingformer, Net::SpikeDriven] {
        let spec = Spec { net, dim: 128, ..base.clone() };
        out.push(Trial::test(format!("fire::session::counts::{net:?}"), move || session(&spec, false, &Device::Cpu)));
    }
    out
}
