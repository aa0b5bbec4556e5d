//! Whole networks: exact parameter counts, and the same spikes whatever they run on.
//!
//! With dyadic weights (k/64), 1/tau = 1/2 and 0/1 inputs every sum is exact in float32, so that logits must be equal to the bit across
//! devices, representations, numbers of threads and chunkings of T.

use crate::gpu;
use libtest_mimic::{Failed, Trial};
use spikemix::ctx::{Ctx, Module};
use spikemix::device::Device;
use spikemix::model::{self, Net, Spec};
use spikemix::moe::{Semm, Width};
use spikemix::neuron::Neuron;
use spikemix::params::{Params, Role};
use spikemix::rng::Rng;
use spikemix::tensor::Tensor;
use std::collections::HashMap;

type Outcome = Result<(), Failed>;

fn counts() -> Outcome {
    let semm = |width| Some(Semm { width, ..Semm::default() });
    for (net, semm, want) in [
        (Net::Spikformer, None, 2_566_666),
        (Net::Spikformer, semm(Width::Base), 2_482_546),
        (Net::Spikformer, semm(Width::Small), 2_285_170),
        (Net::Spikingformer, None, 2_566_666),
        (Net::Spikingformer, semm(Width::Base), 2_482_546),
        (Net::SpikeDriven, None, 2_566_666),
    ] {
        let (_, params) = model::fresh(&Spec { net, semm, ..Spec::default() }, &Device::Cpu, 0)?;
        if params.learnable() != want {
            return Err(format!("{net:?} {semm:?}: {} parameters for {want}", params.learnable()).into());
        }
    }
    Ok(())
}

/// Every network, small.
pub fn specs() -> Vec<Spec> {
    let neuron = Neuron { v_threshold: 0.5, ..Neuron::default() };
    let semm = Some(Semm::default());
    // The second has integer spikes in front of its pooling.
    let mut out: Vec<Spec> = [
        &["delay 2 2", "conv 12", "pool", "flatten", "dropout 0.5", "delay 3 1", "fc 40", "block"][..],
        &["conv 12", "block", "pool", "pool", "pool", "flatten", "fc 40"],
    ]
    .map(|layers| layers.iter().map(|l| l.parse().unwrap()).collect())
    .map(|layers| Spec { net: Net::Csnn, layers, input_size: (16, 16), neuron, semm, ..Spec::default() })
    .into();
    for net in [Net::Spikformer, Net::Spikingformer, Net::SpikeDriven] {
        for semm in [None, Some(Semm { experts: 3, expert_dim: Some(11), ..Semm::default() })] {
            out.push(Spec {
                net,
                semm,
                dim: 40,
                depth: 1,
                heads: 4,
                neuron,
                pools: Some([true, true, false, false]),
                ..Spec::default()
            });
        }
    }
    out
}

/// Weights k/64 from the seed; norms that multiply by exactly 1 and shift by a dyadic number.
pub fn dyadic(params: &mut Params) -> Outcome {
    let device = params.device().clone();
    let mut new = Vec::new();
    for (id, p) in params.iter() {
        let mut rng = Rng::new(4).stream(p.name.as_str());
        let n = p.value.len();
        let mut k64 = |low: f32, spread: usize| -> Vec<f32> { (0..n).map(|_| low + rng.below(spread) as f32 / 64.0).collect() };
        let last = p.name.rsplit('.').next().unwrap_or_default();
        let values = match (p.role, last) {
            (Role::Weight, _) => k64(-0.25, 38),
            (Role::Bias, _) => k64(-0.125, 16),
            (Role::Norm, "weight") => vec![1.0; n],
            (Role::Norm, _) => k64(-0.75, 64),
            (Role::Buffer, "running_var") => vec![1.0 - 1e-5; n],
            (Role::Buffer, _) => vec![0.0; n],
        };
        new.push((id, Tensor::from_f32(&device, p.value.shape(), &values)?));
    }
    params.update(new);
    Ok(())
}

/// `[T, B, H, W, C]` of [`input`].
pub const SHAPE: [usize; 5] = [6, 2, 16, 16, 2];

/// Random spikes.
pub fn input() -> Vec<f32> {
    let mut rng = Rng::new(9);
    (0..SHAPE.iter().product()).map(|_| f32::from(u8::from(rng.f32() < 0.3))).collect()
}

/// Per-step logits of a whole clip.
pub fn logits(net: &dyn Module, params: &Params, x: &Tensor) -> Result<Vec<f32>, Failed> {
    Ok(net.forward(x, &mut Ctx::infer(params))?.to_vec()?)
}

/// Equal to the bit.
pub fn expect(what: &str, got: &[f32], want: &[f32]) -> Outcome {
    match got == want {
        true => Ok(()),
        false => {
            Err(format!("{what}: {} of {} logits differ", got.iter().zip(want).filter(|(a, b)| a != b).count(), want.len())
                .into())
        }
    }
}

fn equal_spikes(spec: &Spec) -> Outcome {
    let cpu = Device::Cpu;
    let (net, mut params) = model::fresh(spec, &cpu, 0)?;
    dyadic(&mut params)?;
    let x = Tensor::from_f32(&cpu, &SHAPE, &input())?;
    let want = logits(net.as_ref(), &params, &x)?;
    let step = want.len() / SHAPE[0];
    if want.chunks(step).all(|v| *v == want[..step]) {
        return Err("all steps have the same logits: no spikes reach the head, and nothing is tested".into());
    }
    expect("packed input", &logits(net.as_ref(), &params, &Tensor::spikes_from_f32(&cpu, &SHAPE, &input())?)?, &want)?;
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        expect(&format!("{threads} threads"), &pool.install(|| logits(net.as_ref(), &params, &x))?, &want)?;
    }
    let step = SHAPE[1..].iter().product::<usize>();
    for chunks in [vec![1; 6], vec![4, 2], vec![1, 5]] {
        let (mut state, mut got, mut at) = (HashMap::new(), Vec::new(), 0);
        for n in chunks.iter().copied() {
            let part =
                Tensor::from_f32(&cpu, &[n, SHAPE[1], SHAPE[2], SHAPE[3], SHAPE[4]], &input()[at * step..(at + n) * step])?;
            let mut cx = Ctx::stream(&params, state);
            got.extend(net.forward(&part, &mut cx)?.to_vec()?);
            state = cx.into_state();
            at += n;
        }
        expect(&format!("chunks {chunks:?}"), &got, &want)?;
    }
    Ok(())
}

fn equal_on_gpu(spec: &Spec, device: &Device) -> Outcome {
    let (net, mut params) = model::fresh(spec, &Device::Cpu, 0)?;
    dyadic(&mut params)?;
    let want = logits(net.as_ref(), &params, &Tensor::from_f32(&Device::Cpu, &SHAPE, &input())?)?;
    let there = params.to_device(device)?;
    expect("floats", &logits(net.as_ref(), &there, &Tensor::from_f32(device, &SHAPE, &input())?)?, &want)?;
    expect("packed", &logits(net.as_ref(), &there, &Tensor::spikes_from_f32(device, &SHAPE, &input())?)?, &want)
}

/// What to call a network in a trial's name.
pub fn name(spec: &Spec) -> String {
    let layers = if spec.layers.is_empty() { String::new() } else { format!(" of {}", spec.layers.len()) };
    format!("{:?}{}{layers}", spec.net, if spec.semm.is_some() { "+SEMM" } else { "" })
}

/// Parameter counts, and dyadic equality of each network.
pub fn trials() -> Vec<Trial> {
    let mut out = vec![Trial::test("networks::parameter_counts", counts)];
    for spec in specs() {
        let name = name(&spec);
        let s = spec.clone();
        out.push(Trial::test(format!("networks::dyadic::cpu::{name}"), move || equal_spikes(&spec)));
        out.push(gpu::trial(format!("networks::dyadic::gpu::{name}"), move |d| equal_on_gpu(&s, d)));
    }
    out
}
