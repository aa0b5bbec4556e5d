//! Padded steps count nowhere: a sample has the scores, loss, gradients, statistics and counts that it has by itself.
//!
//! Weights are dyadic, so that no sum depends on how many rows there are; what is left to rounding is weight gradients and norms' own sums.

use crate::gpu;
use crate::networks::{SHAPE, dyadic, expect, input, name, specs};
use libtest_mimic::{Failed, Trial};
use spikemix::counts::{Counts, Keep, Row};
use spikemix::ctx::{Ctx, Module};
use spikemix::data::NO_CLASS;
use spikemix::device::Device;
use spikemix::loss::Loss;
use spikemix::model::{self, Spec};
use spikemix::moe::{Semm, Skip};
use spikemix::neuron::{Neuron, NeuronKind};
use spikemix::padding::Padding;
use spikemix::params::Params;
use spikemix::tensor::Tensor;
use spikemix::train::answers;

type Outcome = Result<(), Failed>;

const LOSSES: [Loss; 2] =
    [Loss::CrossEntropy { label_smoothing: 0.1 }, Loss::Tet { lambda: 0.05, means: 1.0, label_smoothing: 0.1 }];
const PER_STEP: Loss = Loss::CrossEntropyPerStep { label_smoothing: 0.1 };
const LABELS: [u32; 2] = [3, 7];

/// Of the samples, or of all steps; some have no class, padded ones have one.
fn labels(loss: Loss, which: &[usize], steps: usize) -> Vec<u32> {
    let at = |t: usize, i: usize| if t % 3 == 1 { NO_CLASS } else { (LABELS[i] + t as u32) % 8 };
    match loss.per_step() {
        true => (0..steps).flat_map(|t| which.iter().map(move |&i| at(t, i))).collect(),
        false => which.iter().map(|&i| LABELS[i]).collect(),
    }
}

/// Samples of these lengths, in a batch of `steps` steps. What stands behind their ends is no zero, to be seen if it counts.
fn batch(which: &[usize], lengths: &[usize], steps: usize) -> (Vec<usize>, Vec<f32>) {
    let (all, [t, b, h, w, c]) = (input(), SHAPE);
    let frame = h * w * c;
    let mut x = Vec::new();
    for step in 0..steps {
        for (&sample, &n) in which.iter().zip(lengths) {
            assert!(n <= t);
            match step < n {
                true => x.extend_from_slice(&all[(step * b + sample) * frame..][..frame]),
                false => x.extend((0..frame).map(|i| (i % 3) as f32)),
            }
        }
    }
    (vec![steps, which.len(), h, w, c], x)
}

/// Everything a training step computes.
struct Step {
    /// Of the real steps, by sample.
    logits: Vec<Vec<f32>>,
    loss: f32,
    correct: f32,
    gradients: Vec<(String, Vec<f32>)>,
    statistics: Vec<Vec<f32>>,
    rates: [f64; 2],
}

fn step(net: &dyn Module, params: &Params, loss: Loss, which: &[usize], lengths: &[usize], steps: usize) -> Result<Step, Failed> {
    let d = params.device();
    let (shape, x) = batch(which, lengths, steps);
    let padding = Padding::new(d, steps, lengths)?;
    let mut cx = Ctx::train(params).with_padding(padding.clone()).with_counts(Counts::default());
    let logits = net.forward(&Tensor::from_f32(d, &shape, &x)?, &mut cx)?;
    let out = loss.compute(&logits, &labels(loss, which, steps), padding.as_ref())?;
    let gradients = cx.backward(&logits, out.grad)?;
    let of = |(_, p): (_, &spikemix::params::Param)| Some((p.name.clone(), gradients.of(&p.value)?.to_vec()));
    let gradients = params.iter().filter_map(of).map(|(n, g)| Ok((n, g?))).collect::<Result<_, Failed>>()?;
    let (updates, counts) = cx.finish();
    let statistics = updates.iter().map(|(_, t)| t.to_vec()).collect::<Result<_, _>>()?;
    let counts = counts.ok_or("no counts")?;
    let rates = [counts.firing_rate(), counts.router_firing_rate().unwrap_or(0.0)];
    let (y, k) = (logits.to_vec()?, logits.channels());
    let own = |b: usize| (0..lengths[b]).flat_map(|t| y[(t * which.len() + b) * k..][..k].to_vec()).collect();
    let logits = (0..which.len()).map(own).collect();
    Ok(Step { logits, loss: out.loss.item()?, correct: out.correct.item()?, gradients, statistics, rates })
}

fn near(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> Outcome {
    let size = want.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    match got.len() == want.len() && worst <= tolerance * size {
        true => Ok(()),
        false => Err(format!("{what}: off by {worst} of {size}").into()),
    }
}

fn same(what: &str, got: &Step, want: &Step) -> Outcome {
    for (g, w) in got.logits.iter().zip(&want.logits) {
        expect(what, g, w)?;
    }
    near(&format!("{what}: loss"), &[got.loss], &[want.loss], 2e-6)?;
    if (got.correct, got.rates) != (want.correct, want.rates) {
        return Err(format!("{what}: {:?} for {:?}", (got.correct, got.rates), (want.correct, want.rates)).into());
    }
    for (g, w) in got.statistics.iter().zip(&want.statistics) {
        expect(&format!("{what}: statistics"), g, w)?;
    }
    if got.gradients.len() != want.gradients.len() || want.gradients.iter().all(|(_, g)| g.iter().all(|v| *v == 0.0)) {
        return Err(format!("{what}: no gradients").into());
    }
    for ((name, g), (_, w)) in got.gradients.iter().zip(&want.gradients) {
        near(&format!("{what}: gradient of {name}"), g, w, 1e-4)?;
    }
    Ok(())
}

/// Training: a sample alone with and without padding, and two with more and with less of it.
fn training(spec: &Spec, d: &Device) -> Outcome {
    let (net, mut params) = model::fresh(spec, d, 0)?;
    dyadic(&mut params)?;
    for loss in LOSSES.into_iter().chain([PER_STEP]) {
        let run = |which: &[usize], lengths: &[usize], steps| step(net.as_ref(), &params, loss, which, lengths, steps);
        same("alone", &run(&[1], &[4], 6)?, &run(&[1], &[4], 4)?)?;
        same("two", &run(&[0, 1], &[3, 6], 9)?, &run(&[0, 1], &[3, 6], 6)?)?;
    }
    Ok(())
}

/// Inference: a batch is the sum of its samples, in scores, losses, answers and everything that is counted.
fn inference(spec: &Spec, d: &Device) -> Outcome {
    let (net, mut params) = model::fresh(spec, d, 0)?;
    dyadic(&mut params)?;
    let lengths = [3, 6];
    let run = |which: &[usize], lengths: &[usize], counts: Counts| -> Result<_, Failed> {
        let steps = lengths.iter().copied().max().unwrap_or(0);
        let (shape, x) = batch(which, lengths, steps);
        let padding = Padding::new(d, steps, lengths)?;
        let x = Tensor::from_f32(d, &shape, &x)?;
        let mut skipping = Ctx::infer(&params).with_padding(padding.clone()).with_counts(Counts::default());
        let logits = net.forward(&x, &mut skipping)?;
        let skipped = skipping.finish().1.ok_or("no counts")?.total().skipped;
        if padding.is_some() && skipped > 0 {
            return Err(format!("{skipped} additions skipped in a padded batch").into());
        }
        // What closed gates leave out depends on the batch.
        let mut cx = Ctx::infer(&params).with_padding(padding.clone()).without_skipping().with_counts(counts);
        expect("skipping", &net.forward(&x, &mut cx)?.to_vec()?, &logits.to_vec()?)?;
        let losses = LOSSES.iter().map(|l| l.compute(&logits, &labels(*l, which, steps), padding.as_ref())?.loss.item());
        let losses = losses.collect::<Result<Vec<_>, _>>()?;
        Ok((answers(&logits, padding.as_ref())?, losses, cx.finish().1.ok_or("no counts")?))
    };
    let none = || Counts::keeping(Keep { detail: true, ..Keep::default() });
    let (answer, losses, counts) = run(&[0, 1], &lengths, none())?;
    let (first, losses_0, apart) = run(&[0], &lengths[..1], none())?;
    let (second, losses_1, apart) = run(&[1], &lengths[1..], apart)?;
    if answer != [first, second].concat() {
        return Err(format!("answers {answer:?}").into());
    }
    let mean: Vec<f32> = losses_0.iter().zip(&losses_1).map(|(a, b)| (a + b) / 2.0).collect();
    near("losses", &losses, &mean, 2e-6)?;
    let counted = |r: &Row| (r.name.clone(), r.cost, r.spikes, r.opportunities, r.spikes_in, r.spikes_out, r.detail.clone());
    for (a, b) in counts.rows.iter().zip(&apart.rows) {
        if counted(a) != counted(b) || counts.gated(&a.name, &a.op) != apart.gated(&b.name, &b.op) {
            return Err(format!("counted together {:?}, apart {:?}", counted(a), counted(b)).into());
        }
    }
    let gates = |c: &Counts| format!("{:?}", c.routers);
    if counts.rows.len() != apart.rows.len()
        || gates(&counts) != gates(&apart)
        || spec.semm.is_some() == counts.routers.is_empty()
    {
        return Err(format!("routers together {}, apart {}", gates(&counts), gates(&apart)).into());
    }
    Ok(())
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    let mut out = Vec::new();
    let mut specs = specs();
    let learned = Neuron { neuron: NeuronKind::Plif, ..specs[1].neuron };
    specs.push(Spec { neuron: learned, ..specs[1].clone() });
    let lazy = |m| Semm { skip: Skip::Lazy, gate_window: 4, ..m };
    let with_experts: Vec<Spec> = specs.iter().filter(|s| s.semm.is_some()).cloned().collect();
    specs.extend(with_experts.into_iter().map(|s| Spec { semm: s.semm.map(lazy), ..s }));
    for spec in specs {
        type Check = fn(&Spec, &Device) -> Outcome;
        for (what, check) in [("training", training as Check), ("inference", inference)] {
            let skip = spec.semm.map(|m| format!("{:?}", m.skip)).unwrap_or_default();
            let name = format!("{}::{}::{skip}", name(&spec), spec.neuron.neuron.key());
            let s = spec.clone();
            out.push(gpu::trial(format!("padding::{what}::gpu::{name}"), move |d| check(&s, d)));
            let s = spec.clone();
            out.push(Trial::test(format!("padding::{what}::cpu::{name}"), move || check(&s, &Device::Cpu)));
        }
    }
    out
}
