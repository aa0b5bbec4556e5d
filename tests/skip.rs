//! Closed gates cost nothing and change nothing: networks that skip against the same networks that do not.

use crate::gpu;
use crate::infer::random_norms;
use crate::networks::{dyadic, expect, logits, name, specs};
use libtest_mimic::{Failed, Trial};
use spikemix::counts::{Counts, Keep};
use spikemix::ctx::{Ctx, Module};
use spikemix::device::Device;
use spikemix::infer::Session;
use spikemix::model::{self, Spec};
use spikemix::moe::emsa::{Attention, Emsa};
use spikemix::moe::emsp::Emsp;
use spikemix::moe::router::RouterKind;
use spikemix::moe::{Hidden, Router, Semm, Skip};
use spikemix::neuron::{Neuron, NeuronKind};
use spikemix::nn::attention::Residual;
use spikemix::nn::fold::fold;
use spikemix::nn::{ConvBn, Kind, Neurons};
use spikemix::ops::active::Active;
use spikemix::ops::channels::Channels;
use spikemix::params::{Build, Params};
use spikemix::rng::Rng;
use spikemix::tensor::Tensor;
use std::collections::HashMap;

type Outcome = Result<(), Failed>;

/// What the gates are made to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gates {
    AsTheyAre,
    Shut,
    Open,
    /// Expert 1 and every third channel are shut.
    Some,
}

/// Moves the shifts of the routers' norms, and of the gate half of EMSP, so far that nothing else matters.
fn force(params: &mut Params, gates: Gates) -> Outcome {
    if gates == Gates::AsTheyAre {
        return Ok(());
    }
    let mut new = Vec::new();
    for (id, p) in params.iter().filter(|(_, p)| p.name.ends_with("router.bn.bias") || p.name.ends_with("fc1.bn.bias")) {
        let n = p.value.len();
        let (first, every) = if p.name.contains("router") { (0, 1) } else { (n / 2, 3) };
        let mut v = p.value.to_vec()?;
        for (i, v) in v[first..].iter_mut().enumerate() {
            *v = match gates {
                Gates::Open => 64.0,
                Gates::Some if i % every != every - 1 && (every > 1 || i != 1) => *v,
                _ => -64.0,
            };
        }
        new.push((id, Tensor::from_f32(params.device(), p.value.shape(), &v)?));
    }
    params.update(new);
    Ok(())
}

/// Every network with experts and every router: as in the paper, with lazy gates, and with lazy gates decided for windows.
fn semm_specs() -> Vec<Spec> {
    let mut all = Vec::new();
    for (s, m) in specs().into_iter().filter_map(|s| Some((s.clone(), s.semm?))) {
        for &router in RouterKind::ALL.iter().filter(|r| **r != RouterKind::Open) {
            for (skip, gate_window) in [(Skip::Exact, 1), (Skip::Exact, 4), (Skip::Lazy, 1), (Skip::Lazy, 4)] {
                all.push(Spec { semm: Some(Semm { router, skip, gate_window, ..m }), ..s.clone() });
            }
        }
    }
    all
}

/// Event counts, `[T, B, 16, 16, 2]`.
fn input(steps: usize) -> Vec<f32> {
    let mut rng = Rng::new(3);
    (0..steps * 2 * 512).map(|_| if rng.f32() < 0.3 { 1.0 + rng.below(2) as f32 } else { 0.0 }).collect()
}

fn counted(net: &dyn Module, params: &Params, x: &Tensor, skips: bool) -> Result<(Vec<f32>, Counts), Failed> {
    let mut cx = Ctx::infer(params).with_counts(Counts::keeping(Keep { detail: true, ..Keep::default() }));
    if !skips {
        cx = cx.without_skipping();
    }
    let y = net.forward(x, &mut cx)?.to_vec()?;
    Ok((y, cx.finish().1.ok_or("no counts")?))
}

/// Skipping changes no bit of any result, and what it leaves out is what is counted.
fn same(spec: &Spec, device: &Device) -> Outcome {
    let on_cpu = matches!(device, Device::Cpu);
    for (gates, random) in [
        (Gates::AsTheyAre, false),
        (Gates::AsTheyAre, true),
        (Gates::Shut, true),
        (Gates::Open, true),
        (Gates::Some, false),
        (Gates::Some, true),
    ] {
        let (net, mut params) = model::fresh(spec, &Device::Cpu, 7)?;
        if random {
            random_norms(&mut params)?
        } else {
            dyadic(&mut params)?
        }
        force(&mut params, gates)?;
        for steps in if on_cpu { vec![6, 1] } else { vec![3] } {
            for folded in if on_cpu { vec![false, true] } else { vec![random] } {
                let params = if folded { fold(&params)? } else { params.clone() }.to_device(device)?;
                let what = format!("{gates:?}, random {random}, T {steps}, folded {folded}");
                let x = Tensor::planes_from_f32(device, &[steps, 2, 16, 16, 2], &input(steps))?;
                let (want, all) = counted(net.as_ref(), &params, &x, false)?;
                let (got, some) = counted(net.as_ref(), &params, &x, true)?;
                expect(&what, &got, &want)?;
                expect(&what, &logits(net.as_ref(), &params, &x)?, &want)?;
                balance(&what, &all, &some, gates)?;
            }
        }
    }
    Ok(())
}

/// Done and skipped add up to what is done without skipping, wherever the input is the same.
fn balance(what: &str, all: &Counts, some: &Counts, gates: Gates) -> Outcome {
    let (a, s) = (all.total(), some.total());
    if a.skipped != 0 || a.dense != s.dense || s.acs + s.skipped > a.acs {
        return Err(format!("{what}: {s:?} with skipping, {a:?} without").into());
    }
    // Lists of what is open are made with skipping alone.
    for row in some.rows.iter().filter(|r| r.op != "list") {
        let without = all.rows.iter().find(|r| r.name == row.name && r.op == row.op).ok_or("a row more")?;
        // Of maps that hear what routers and gates hear, whose spikes are the same; others hear spikes of what was skipped.
        let first = [".q.", ".k.", ".v.", ".router.", ".fc1."].iter().any(|m| row.name.contains(m));
        if (first || row.cost.skipped > 0) && row.cost.acs + row.cost.skipped != without.cost.acs {
            return Err(format!("{what}: {row:?} with skipping, {without:?} without").into());
        }
    }
    let work = |c: &Counts, stem: &str| -> u64 { c.rows.iter().filter(|r| r.name.contains(stem)).map(|r| r.cost.acs).sum() };
    match gates {
        // Of EMSP the gates are left out too, for the weights keep them shut.
        Gates::Shut if s.skipped == 0 || [".q.", ".k.", ".v.", ".fc1.", ".dw."].iter().any(|m| work(some, m) > 0) => {
            Err(format!("{what}: all gates are shut, and {s:?} was done").into())
        }
        Gates::Open if s != a => Err(format!("{what}: all gates are open, {s:?} with skipping, {a:?} without").into()),
        Gates::Some if work(some, ".q.1") > 0 || work(all, ".q.1") == 0 => Err(format!("{what}: expert 1 was computed").into()),
        Gates::Some if work(some, ".fc1.") * 10 > work(all, ".fc1.") * 9 => Err(format!(
            "{what}: every third gate of EMSP is shut, and {} of {} was done",
            work(some, ".fc1."),
            work(all, ".fc1.")
        )
        .into()),
        _ => Ok(()),
    }
}

/// A session gives what the whole clip gives with skipping, in chunks of any length: chunks cannot know what opens later and skip nothing,
/// but lazy experts skip there too.
fn session(spec: &Spec) -> Outcome {
    let (net, mut params) = model::fresh(spec, &Device::Cpu, 7)?;
    dyadic(&mut params)?;
    let params = fold(&params)?;
    let x = input(6);
    let want = logits(net.as_ref(), &params, &Tensor::from_f32(&Device::Cpu, &[6, 2, 16, 16, 2], &x)?)?;
    let mut session = Session::new(net, params);
    for chunks in [&[6][..], &[1; 6], &[2, 4]] {
        session.reset();
        let (mut at, mut got) = (0, Vec::new());
        for &n in chunks {
            let part = Tensor::from_f32(&Device::Cpu, &[n, 2, 16, 16, 2], &x[at * 1024..(at + n) * 1024])?;
            got.extend(session.push(&part)?.to_vec()?);
            at += n;
        }
        expect(&format!("chunks {chunks:?}"), &got, &want)?;
    }
    let (net, mut params) = model::fresh(spec, &Device::Cpu, 7)?;
    dyadic(&mut params)?;
    force(&mut params, Gates::Some)?;
    let mut cx = Ctx::stream(&params, HashMap::new()).with_counts(Counts::default());
    net.forward(&Tensor::from_f32(&Device::Cpu, &[6, 2, 16, 16, 2], &x)?, &mut cx)?;
    let skipped = cx.finish().1.ok_or("no counts")?.total().skipped;
    let lazy = spec.semm.is_some_and(|m| m.skip == Skip::Lazy);
    if (skipped > 0) != lazy { Err(format!("{skipped} additions skipped in a stream").into()) } else { Ok(()) }
}

/// Gates that are given.
struct Given(Tensor);

impl Router for Given {
    fn route(&self, _: &Tensor, _: &mut Ctx<'_>) -> spikemix::Result<Tensor> {
        Ok(self.0.clone())
    }
}

/// Of three samples one opens a gate at its second step, one never, one at its last: what is computed for each, counted.
fn samples() -> Outcome {
    let cpu = Device::Cpu;
    let (steps, dim) = (5, 32);
    for attention in [Attention::Ssa(0.25), Attention::Sdsa] {
        let mut params = Params::new(&cpu);
        let semm = Semm::default();
        let net = Emsa::new(&mut Build::new(&mut params, 3), Residual::Spikes, attention, dim, &semm, Neuron::default())?;
        random_norms(&mut params)?;
        let (shape, gates) = ([steps, 3, 2, 2, dim], [steps, 3, 2, 2, 4]);
        let mut r = vec![0.0; gates.iter().product()];
        // Token 1, expert 2 of sample 0; token 3, expert 0 of sample 2.
        r[3 * 16 + 4 + 2] = 1.0;
        r[(4 * 3 + 2) * 16 + 12] = 1.0;
        let net = net.with_router(Box::new(Given(Tensor::spikes_from_f32(&cpu, &gates, &r)?)));
        // One spike in every row, so that operations count rows.
        let x: Vec<f32> = (0..shape.iter().product()).map(|i| f32::from(u8::from(i % dim == i / dim % dim))).collect();
        let x = Tensor::spikes_from_f32(&cpu, &shape, &x)?;
        let ((want, all), (got, some)) = (counted(&net, &params, &x, false)?, counted(&net, &params, &x, true)?);
        expect(&format!("{attention:?}"), &got, &want)?;
        let acs = |c: &Counts, name: &str| c.rows.iter().find(|r| r.name == name).map_or(0, |r| r.cost.acs / 8);
        let width = if attention == Attention::Sdsa { 1 } else { 4 };
        // Rows of keys and values: two steps of sample 0 and five of sample 2, four tokens each; of queries: one token each.
        let got = ["k.conv", "v.conv", "q.0.conv", "q.1.conv", "q.2.conv"].map(|name| acs(&some, name));
        if got != [28, 28 * width, 5, 0, 2] || acs(&all, "q.1.conv") != 60 {
            return Err(format!("{attention:?}: rows {got:?}").into());
        }
    }
    Ok(())
}

/// A forward pass that skips on a GPU waits for nothing: the device counts the active rows and is told to dispatch as many as it counted.
fn without_reading() -> Outcome {
    let device = gpu::open()?;
    let spec = semm_specs().into_iter().next().ok_or("no networks")?;
    let (net, mut params) = model::fresh(&spec, &Device::Cpu, 7)?;
    random_norms(&mut params)?;
    let params = fold(&params)?.to_device(&device)?;
    let x = Tensor::planes_from_f32(&device, &[3, 2, 16, 16, 2], &input(3))?;
    device.profile(true);
    let reads = device.reads();
    let y = net.forward(&x, &mut Ctx::infer(&params))?;
    let reads = device.reads() - reads;
    device.profile(false);
    let rows = device.take_profile()?;
    let launched = |label: &str| rows.iter().find(|r| r.0 == label).map_or(0, |r| r.1);
    let [lists, maps, products] = ["active/list", "active/linear", "active/key_value"].map(launched);
    // EMSP: a list of the gates that may open, and then one of those that do anywhere; a map and a layer of neurons for each.
    let emsp = ["channels/may_fire", "channels/list", "channels/linear", "channels/fire (lif)"].map(launched);
    if emsp[0] == 0 || emsp[1..] != [2 * emsp[0]; 3] {
        return Err(format!("{emsp:?} channels that may fire, lists, maps to them and layers of neurons").into());
    }
    // A list for each expert and one for what keys and values share; maps for each expert's queries, keys, values and the two exits, of which
    // each looks for the rows that are alike and spreads what it made of them.
    let (blocks, experts) = (emsp[0], spec.semm.map_or(0, |m| m.experts as u64));
    if reads > 0 || [lists, maps, products] != [blocks * (experts + 1), blocks * (experts + 4), blocks] {
        return Err(format!("{reads} reads, {lists} lists, {maps} maps, {products} products in {blocks} blocks").into());
    }
    let shared = ["active/alike", "active/spread"].map(launched);
    if shared != [2 * blocks; 2] {
        return Err(format!("{shared:?} lists of what is alike and spreads of it in {blocks} blocks").into());
    }
    let all = net.forward(&x, &mut Ctx::infer(&params).without_skipping())?;
    expect("skipping", &y.to_vec()?, &all.to_vec()?)?;
    // Whatever is counted as an operation has its time, though what is timed is what the device does by itself.
    let mut cx = Ctx::infer(&params).with_counts(Counts::keeping(Keep { operations: false, seconds: true, ..Keep::default() }));
    net.forward(&x, &mut cx)?;
    let (timed, counts) = (cx.finish().1.ok_or("no times")?, counted(net.as_ref(), &params, &x, true)?.1);
    for row in counts.rows.iter().filter(|r| r.cost.dense > 0) {
        if !timed.rows.iter().any(|t| t.name == row.name && t.op == row.op && t.seconds > 0.0) {
            return Err(format!("no time for {} of {}", row.op, row.name).into());
        }
    }
    Ok(())
}

/// EMSP by itself, with every kind of neuron, hard and soft resets, with and without depth-wise experts: the same as without skipping. And the
/// experts that are listed are those whose gate opens.
fn emsp(device: &Device) -> Outcome {
    let (steps, dim, hidden) = (3, 24, 140);
    let mut rng = Rng::new(5);
    let shape = [steps, 2, 3, 3, dim];
    let x: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(u8::from(rng.f32() < 0.3))).collect();
    let x = Tensor::spikes_from_f32(device, &shape, &x)?;
    for (&kind, v_reset, depthwise, gates) in NeuronKind::ALL.iter().flat_map(|kind| {
        [
            (Some(0.0), true, Gates::AsTheyAre),
            (None, true, Gates::Some),
            (Some(-0.25), false, Gates::Some),
            (None, false, Gates::Shut),
        ]
        .map(|(v_reset, depthwise, gates)| (kind, v_reset, depthwise, gates))
    }) {
        let what = format!("{kind:?}, reset {v_reset:?}, depth-wise {depthwise}, {gates:?}");
        let neuron = Neuron { neuron: kind, v_reset, ..Neuron::default() };
        let semm = Semm { hidden: Hidden::Channels(hidden), depthwise, ..Semm::default() };
        let mut params = Params::new(&Device::Cpu);
        let net = Emsp::new(&mut Build::new(&mut params, 3), Residual::Spikes, dim, &semm, neuron)?;
        random_norms(&mut params)?;
        force(&mut params, gates)?;
        let params = params.to_device(device)?;
        let want = net.forward(&x, &mut Ctx::infer(&params).without_skipping())?.to_vec()?;
        expect(&what, &net.forward(&x, &mut Ctx::infer(&params))?.to_vec()?, &want)?;

        let r = net.gates(&x, &mut Ctx::infer(&params))?;
        let (listed, c, open) = (Channels::of(&r)?.list()?, r.channels(), r.to_vec()?);
        let opens = |k: u32| open.iter().skip(k as usize).step_by(c).any(|v| *v > 0.0);
        let mut opened: Vec<u32> = (0..c as u32).filter(|k| opens(*k)).collect();
        if !opened.is_empty() {
            let closed = (0..c as u32).filter(|k| !opens(*k)).take(16usize.saturating_sub(opened.len()));
            opened.extend(closed.collect::<Vec<_>>());
            opened.sort_unstable();
        }
        if listed != opened || (gates == Gates::Shut) != listed.is_empty() || gates == Gates::Some && listed.len() == hidden / 2 {
            return Err(format!("{what}: {listed:?} listed, {opened:?} open").into());
        }
    }
    Ok(())
}

/// Rows without spikes share a current and places without any share their neurons, whatever these do by their bias alone: a map and
/// neurons of every kind behind it give what they give row by row, with the norm and with the norm folded.
fn alike(device: &Device) -> Outcome {
    let (steps, cin, cout) = (5, 40, 70);
    let shape = [steps, 2, 3, 2, cin];
    let mut rng = Rng::new(6);
    // By place: spikes at every step, at none, at some.
    let arrives = |row: usize| [true, false, row / 12 == 3][row % 3];
    let x: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|i| f32::from(u8::from(arrives(i / cin) && (i % cin == i / cin % cin || rng.f32() < 0.2))))
        .collect();
    // Of every third neuron two spikes.
    let twice: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * if i % 3 == 0 { 2.0 } else { 1.0 }).collect();
    let inputs = [Tensor::spikes_from_f32(device, &shape, &x)?, Tensor::planes_from_f32(device, &shape, &twice)?];
    let want: Vec<u32> = (0..steps as u32 * 12).filter(|&row| arrives(row as usize) || row == 1).collect();
    for (x, &kind) in inputs.iter().flat_map(|x| NeuronKind::ALL.iter().map(move |kind| (x, kind))) {
        let rows = Active::alike(x)?.ok_or("nothing is alike")?;
        if rows.rows()? != want {
            return Err(format!("{:?} listed, {want:?} differ", rows.rows()?).into());
        }
        for v_reset in [Some(0.0), None] {
            let neuron = Neuron { neuron: kind, v_reset, ..Neuron::default() };
            let mut params = Params::new(&Device::Cpu);
            let mut b = Build::new(&mut params, 3);
            let map = ConvBn::new(&mut b, "map", Kind::PointwiseBias, cin, cout)?;
            let lif = Neurons::new(&mut b, "lif", neuron)?;
            random_norms(&mut params)?;
            for folded in [false, true] {
                let params = if folded { fold(&params)? } else { params.clone() }.to_device(device)?;
                let cx = &mut Ctx::infer(&params);
                let (want, got) = (map.spikes(x, &lif, cx)?, map.active_spikes(x, &rows, &lif, cx)?);
                let what = format!("{kind:?}, reset {v_reset:?}, folded {folded}, {} planes", x.planes());
                let silent = |s: &Tensor| -> Result<bool, Failed> {
                    let s = s.to_vec()?;
                    Ok(s.chunks(cout).enumerate().all(|(row, s)| row % 3 != 1 || s.iter().all(|s| *s == 0.0)))
                };
                if silent(&want)? {
                    return Err(format!("{what}: no neuron fires by its bias").into());
                }
                expect(&what, &got.to_vec()?, &want.to_vec()?)?;
                // Shared neurons have no state of their own to hand on.
                let mut stream = Ctx::stream(&params, HashMap::new());
                if map.active_spikes(x, &rows, &lif, &mut stream).is_ok() {
                    return Err(format!("{what}: a stream took neurons that places share").into());
                }
                expect(&what, &map.shared_current(x, &rows, cx)?.to_vec()?, &map.current(x, cx)?.to_vec()?)?;
            }
        }
    }
    // The CPU knows that all rows differ; where none does one stands for all.
    let full = Tensor::spikes_from_f32(device, &[2, 1, 3, 1], &[1.0; 6])?;
    let empty = Tensor::spikes_from_f32(device, &[2, 1, 3, 1], &[0.0; 6])?;
    let listed = |x: &Tensor| -> Result<Option<Vec<u32>>, Failed> { Ok(Active::alike(x)?.map(|a| a.rows()).transpose()?) };
    let of_full = if matches!(device, Device::Cpu) { None } else { Some((0..6).collect()) };
    if (listed(&full)?, listed(&empty)?) != (of_full, Some(vec![0])) {
        return Err(format!("{:?} of six rows with spikes, {:?} of six without", listed(&full)?, listed(&empty)?).into());
    }
    Ok(())
}

/// Without a router nothing can be skipped.
fn open_router() -> Outcome {
    let Some(mut spec) = semm_specs().pop() else { return Err("no networks".into()) };
    spec.semm = Some(Semm { router: RouterKind::Open, ..spec.semm.unwrap_or_default() });
    let (net, mut params) = model::fresh(&spec, &Device::Cpu, 7)?;
    random_norms(&mut params)?;
    let x = Tensor::planes_from_f32(&Device::Cpu, &[3, 2, 16, 16, 2], &input(3))?;
    let ((want, all), (got, some)) = (counted(net.as_ref(), &params, &x, false)?, counted(net.as_ref(), &params, &x, true)?);
    expect("open", &got, &want)?;
    if all.total() != some.total() { Err("something was skipped".into()) } else { Ok(()) }
}

/// Every network with experts.
pub fn trials() -> Vec<Trial> {
    let mut out = vec![Trial::test("skip::open_router", open_router), Trial::test("skip::samples", samples)];
    out.push(gpu::trial("skip::without_reading", |_| without_reading()));
    out.push(gpu::trial("skip::emsp::gpu", emsp));
    out.push(gpu::trial("skip::alike::gpu", alike));
    out.push(Trial::test("skip::alike::cpu", || alike(&Device::Cpu)));
    out.push(Trial::test("skip::emsp::cpu", || emsp(&Device::Cpu)));
    for spec in semm_specs() {
        let semm = spec.semm.unwrap_or_default();
        let name = format!("{} {:?} {:?} {}", name(&spec), semm.router, semm.skip, semm.gate_window);
        let (s, g) = (spec.clone(), spec.clone());
        out.push(Trial::test(format!("skip::same::cpu::{name}"), move || same(&spec, &Device::Cpu)));
        out.push(gpu::trial(format!("skip::same::gpu::{name}"), move |d| same(&g, d)));
        out.push(Trial::test(format!("skip::session::{name}"), move || session(&s)));
    }
    out
}
