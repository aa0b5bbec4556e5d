//! Asynchronous neurons against the clocked kernel.

use libtest_mimic::{Failed, Trial};
use spikemix::ctx::Op;
use spikemix::device::Device;
use spikemix::neuron::lazy::AsyncLayer;
use spikemix::neuron::{Neuron, NeuronKind};
use spikemix::ops::neuron::{NeuronLayer, Wants};
use spikemix::rng::Rng;
use spikemix::tensor::Tensor;

type Outcome = Result<(), Failed>;

const N: usize = 150;
const STEPS: usize = 60;

/// Currents k/64 in -2..2 at about `rate` of the neurons and steps, zero elsewhere.
fn currents(rate: f32, n: usize, steps: usize) -> Vec<f32> {
    let mut rng = Rng::new(21);
    (0..n * steps).map(|_| if rng.f32() < rate { rng.below(257) as f32 / 64.0 - 2.0 } else { 0.0 }).collect()
}

fn arrivals(x: &[f32]) -> Vec<(u32, f32)> {
    x.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, v)| (i as u32, *v)).collect()
}

/// Spikes `[T, N]` and membranes after the last step, clocked.
fn clocked(neuron: &Neuron, x: &[f32], n: usize) -> Result<(Vec<f32>, Vec<f32>), Failed> {
    let t = x.len() / n;
    let op = NeuronLayer { wants: Wants { v: true, v_seq: false }, ..NeuronLayer::plain(*neuron) };
    let out = op.forward(&[&Tensor::from_f32(&Device::Cpu, &[t, 1, n], x)?])?;
    Ok((out.outputs[0].to_vec()?, out.outputs[1].to_vec()?))
}

/// The same, asynchronous; steps without arrivals are skipped where possible.
fn lazy(neuron: &Neuron, x: &[f32], n: usize) -> Result<(Vec<f32>, AsyncLayer), Failed> {
    run(AsyncLayer::new(neuron, n)?, x, n)
}

fn run(mut layer: AsyncLayer, x: &[f32], n: usize) -> Result<(Vec<f32>, AsyncLayer), Failed> {
    let mut spikes = vec![0.0; x.len()];
    for (t, x) in x.chunks(n).enumerate() {
        let list = arrivals(x);
        if list.is_empty() && layer.skip(1) == 1 {
            continue;
        }
        for &i in layer.step(&list)? {
            spikes[t * n + i as usize] += 1.0;
        }
    }
    Ok((spikes, layer))
}

fn settings() -> Vec<(&'static str, Neuron)> {
    let n = Neuron { v_threshold: 0.5, ..Neuron::default() };
    vec![
        ("hard", n),
        ("no decay of the input", Neuron { decay_input: false, ..n }),
        // Currents of up to four thresholds leave membranes above it after a soft reset.
        ("soft", Neuron { v_reset: None, decay_input: false, ..n }),
        ("if", Neuron { neuron: NeuronKind::If, ..n }),
        ("if, soft", Neuron { neuron: NeuronKind::If, v_reset: None, ..n }),
        ("if, reset -0.25", Neuron { neuron: NeuronKind::If, v_reset: Some(-0.25), ..n }),
    ]
}

fn equal() -> Outcome {
    for (name, neuron) in settings() {
        for rate in [0.0, 0.0005, 0.01, 0.2, 1.0] {
            let x = currents(rate, N, STEPS);
            let (spikes, v) = clocked(&neuron, &x, N)?;
            let (got, layer) = lazy(&neuron, &x, N)?;
            if got != spikes || layer.membranes() != v {
                return Err(format!("{name} at {rate}: spikes or membranes differ").into());
            }
            let fired = spikes.iter().sum::<f32>();
            if (fired == 0.0) != (rate == 0.0) && rate >= 0.01 {
                return Err(format!("{name} at {rate}: {fired} spikes test nothing").into());
            }
            // Touched: what arrived, and neurons that a soft reset left above the threshold.
            let arrived = arrivals(&x).len() as u64;
            if layer.touched() < arrived || (neuron.v_reset.is_some() && layer.touched() != arrived) {
                return Err(format!("{name} at {rate}: {} touched for {arrived}", layer.touched()).into());
            }
        }
    }
    Ok(())
}

/// With another tau or rest, membranes are close.
fn close() -> Outcome {
    let n = Neuron { v_threshold: 0.5, ..Neuron::default() };
    let kinds = NeuronKind::ALL.iter().map(|&neuron| (neuron.key(), Neuron { neuron, tau: 4.0, ..n }));
    let others = [
        ("tau 3", Neuron { tau: 3.0, ..n }),
        ("tau 1", Neuron { tau: 1.0, ..n }),
        ("rest -0.25", Neuron { v_reset: Some(-0.25), ..n }),
    ];
    for (name, neuron) in kinds.chain(others) {
        let x = currents(0.05, N, STEPS);
        let (spikes, v) = match neuron.neuron {
            // The kernel takes w of a PLIF from outside; its start has the same 1/tau.
            NeuronKind::Plif => clocked(&Neuron { neuron: NeuronKind::Lif, ..neuron }, &x, N)?,
            _ => clocked(&neuron, &x, N)?,
        };
        let (got, layer) = lazy(&neuron, &x, N)?;
        let wrong = got.iter().zip(&spikes).filter(|(a, b)| a != b).count();
        let worst = layer.membranes().iter().zip(&v).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if wrong > 0 || worst > 1e-5 {
            return Err(format!("{name}: {wrong} spikes differ, membranes by {worst}").into());
        }
    }
    Ok(())
}

/// A learned 1/tau takes the place of the neuron's own; one that does not leak has none.
fn learned() -> Outcome {
    let n = Neuron { v_threshold: 0.5, ..Neuron::default() };
    let leaks = [NeuronKind::Lif, NeuronKind::Plif].map(|neuron| (Neuron { neuron, tau: 4.0, ..n }, n));
    let own = Neuron { neuron: NeuronKind::If, ..n };
    for (neuron, same) in leaks.into_iter().chain([(own, own)]) {
        let x = currents(0.05, N, STEPS);
        let (spikes, v) = clocked(&same, &x, N)?;
        let (got, layer) = run(AsyncLayer::new(&neuron, N)?.with_leak(0.5)?, &x, N)?;
        if got != spikes || layer.membranes() != v || v == lazy(&Neuron { tau: 4.0, ..n }, &x, N)?.1.membranes() {
            return Err(format!("{neuron:?}: not as with tau 2").into());
        }
    }
    Ok(())
}

fn edges() -> Outcome {
    let neuron = Neuron::default();
    let mut layer = AsyncLayer::new(&neuron, 3)?;
    let said = layer.step(&[(0, 1.0), (3, 1.0)]).err().ok_or("neuron 3 of 3")?.to_string();
    let ok = said.contains("neuron 3 of 3") && layer.steps() == 0 && layer.membranes() == [0.0; 3];
    // Currents of one neuron add up; a long silence leaves nothing.
    let ok = ok && layer.step(&[(1, 1.0), (2, 0.5), (1, 1.0)])? == [1] && layer.membranes() == [0.0, 0.0, 0.25];
    let ok = ok && layer.skip(u64::MAX / 2) == u64::MAX / 2 && layer.step(&[(2, 1.0)])?.is_empty() && layer.membranes()[2] == 0.5;
    layer.reset();
    let ok = ok && layer.steps() == 0 && layer.touched() == 0 && layer.membranes() == [0.0; 3];
    let ok = ok && AsyncLayer::new(&Neuron { tau: 0.5, ..neuron }, 3).is_err() && layer.clone().with_leak(1.5).is_err();
    let mut empty = AsyncLayer::new(&neuron, 0)?;
    if ok && empty.step(&[])?.is_empty() && empty.is_empty() { Ok(()) } else { Err(format!("{said}; {layer:?}").into()) }
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("lazy::equal", equal),
        Trial::test("lazy::close", close),
        Trial::test("lazy::learned", learned),
        Trial::test("lazy::edges", edges),
    ]
}
