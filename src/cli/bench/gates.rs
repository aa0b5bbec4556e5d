//! `spikemix bench gates`.

use crate::cli::{Place, print, print_json, table};
use crate::ctx::{Ctx, Module};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::moe::emsa::{Attention, Emsa};
use crate::moe::emsp::Emsp;
use crate::moe::{Router, Semm, Skip};
use crate::neuron::Neuron;
use crate::nn::attention::Residual;
use crate::params::{Build, Params};
use crate::rng::Rng;
use crate::tensor::Tensor;
use clap::Args;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Time the expert mixtures (EMSA and EMSP of Spikformer) by the share of open gates, with and without skipping.
///
/// Input and gates are random and given: EMSA's router is not in the times. Its gates are drawn by token, by sample or by expert for the
/// whole clip, or by token for every step anew, which leaves little to skip without changing results: a neuron must have heard what came
/// before. "lazy" is EMSA with semm.skip = "lazy", another network. EMSP's gates are drawn by channel: shut by shifts so low that the
/// weights alone tell ("by weights"), or just low enough for this input ("by input"), where to know them costs half of the first map. Running
/// statistics come from some training passes, so that layers fire.
///
/// "shared" is what all open gates need whichever they are: EMSA's keys, values and their product (where a sample has any open gate), and EMSP's
/// gates themselves. The rest is what gates can save. Times are the fastest of --runs, taken in turns; ratios are to the same with all
/// gates open.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench gates
  spikemix bench gates --dim 256 --tokens 8 --steps-t 16 --batch 4 --threads 2 --runs 9 --json")]
pub(in crate::cli) struct GatesArgs {
    /// Width D
    #[arg(long, default_value_t = 256)]
    dim: usize,
    /// Height and width of the grid of tokens
    #[arg(long, default_value_t = 8)]
    tokens: usize,
    /// Steps T
    #[arg(long, default_value_t = 16)]
    steps_t: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Share of spikes in the input
    #[arg(long, default_value_t = 0.2)]
    rate: f64,
    /// Runs of which the fastest counts
    #[arg(long, default_value_t = 7)]
    runs: usize,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Shares of open gates.
const OPEN: [f64; 4] = [0.0, 0.25, 0.5, 1.0];

/// One pattern of gates.
#[derive(Serialize)]
struct Row {
    mixture: &'static str,
    gates: &'static str,
    open: f64,
    seconds: f64,
    /// Of the same with all gates open.
    ratio: f64,
    seconds_shared: f64,
    /// What is not shared, of the same with all gates open.
    ratio_rest: f64,
    seconds_unskipped: f64,
}

#[derive(Serialize)]
struct Outcome {
    dim: usize,
    tokens: usize,
    steps_t: usize,
    batch: usize,
    rate: f64,
    runs: usize,
    device: String,
    threads: usize,
    rows: Vec<Row>,
}

/// Gates that are given.
struct Given(Tensor);

impl Router for Given {
    fn route(&self, _: &Tensor, _: &mut Ctx<'_>) -> Result<Tensor> {
        Ok(self.0.clone())
    }
}

/// What all open gates of a mixture need, without the rest.
struct Shared<M>(Arc<M>);

impl Module for Shared<Emsa> {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        self.0.keys_and_values(x, cx)
    }
}

impl Module for Shared<Emsp> {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        self.0.gates(x, cx)
    }
}

/// A mixture with one pattern of gates.
struct Setting {
    mixture: &'static str,
    gates: &'static str,
    open: f64,
    net: Arc<dyn Module>,
    shared: Box<dyn Module>,
    params: Params,
    /// Fastest seconds: with skipping, without, and of what is shared.
    best: [f64; 3],
}

/// Runs the command.
pub(super) fn run(a: &GatesArgs) -> Result<()> {
    let whole = [("--dim", a.dim), ("--tokens", a.tokens), ("--steps-t", a.steps_t), ("--batch", a.batch), ("--runs", a.runs)];
    if let Some((name, _)) = whole.iter().find(|(_, n)| *n == 0) {
        return Err(Error::usage(format!("{name} 0: must be at least 1")));
    }
    if !a.dim.is_multiple_of(4) {
        return Err(Error::usage(format!("--dim {}: must be a multiple of 4, the number of experts", a.dim)));
    }
    if !(0.0..=1.0).contains(&a.rate) {
        return Err(Error::usage(format!("--rate {}: must be from 0 to 1", a.rate)));
    }
    let tokens = a.tokens.saturating_mul(a.tokens);
    if [a.batch, tokens, a.dim.max(tokens)].into_iter().fold(a.steps_t, usize::saturating_mul) > 1 << 31 {
        return Err(Error::usage("maps of steps x batch x tokens x dim (or x tokens) of more than 2^31 values are too large"));
    }
    let device = a.place.open()?;
    let shape = [a.steps_t, a.batch, a.tokens, a.tokens, a.dim];
    let x = spikes(&device, &shape, a.rate, &mut Rng::new(0).stream("input"))?;
    let mut settings = settings(a, &device, &x)?;
    // In turns, so that what else the machine does hits all alike.
    for _ in 0..=a.runs {
        for s in &mut settings {
            let nets = [(&*s.net, true), (&*s.net, false), (&*s.shared, true)];
            for ((net, skips), best) in nets.into_iter().zip(&mut s.best) {
                let cx = Ctx::infer(&s.params);
                let mut cx = if skips { cx } else { cx.without_skipping() };
                let start = Instant::now();
                device.run(|| net.forward(&x, &mut cx))?;
                device.synchronize()?;
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
    }
    // Both are measured: where all is shared, noise may put one above the other.
    let rest = |s: &Setting| (s.best[0] - s.best[2]).max(0.0);
    let rows = settings.iter().map(|s| {
        let all_open = settings.iter().find(|a| a.open == 1.0 && a.mixture == s.mixture && a.gates == s.gates);
        Row {
            mixture: s.mixture,
            gates: s.gates,
            open: s.open,
            seconds: s.best[0],
            ratio: all_open.map_or(f64::NAN, |a| s.best[0] / a.best[0]),
            seconds_shared: s.best[2],
            ratio_rest: all_open.map_or(f64::NAN, |a| rest(s) / rest(a)),
            seconds_unskipped: s.best[1],
        }
    });
    let outcome = Outcome {
        dim: a.dim,
        tokens: a.tokens,
        steps_t: a.steps_t,
        batch: a.batch,
        rate: a.rate,
        runs: a.runs,
        device: device.describe(),
        threads: rayon::current_num_threads(),
        rows: rows.collect(),
    };
    if a.json { print_json(&outcome) } else { print(&text(&outcome)) }
}

fn settings(a: &GatesArgs, device: &Device, x: &Tensor) -> Result<Vec<Setting>> {
    let neuron = Neuron::default();
    let mut out = Vec::new();
    for (mixture, skip, gates) in [
        ("EMSA", Skip::Exact, "by token"),
        ("EMSA", Skip::Exact, "by sample"),
        ("EMSA", Skip::Exact, "by expert"),
        ("EMSA", Skip::Exact, "by token and step"),
        ("EMSA, lazy", Skip::Lazy, "by token and step"),
    ] {
        let semm = Semm { skip, ..Semm::default() };
        for open in OPEN {
            let mut params = Params::new(device);
            let attention = Attention::Ssa(0.25);
            let net = Emsa::new(&mut Build::new(&mut params, 0), Residual::Spikes, attention, a.dim, &semm, neuron)?;
            let m = semm.experts;
            let (mut rng, tokens) = (Rng::new(1).stream(gates), a.tokens * a.tokens);
            let first = |i: usize, n: usize| (i as f64) < open * n as f64;
            let mut r: Vec<f32> = (0..a.steps_t * a.batch * tokens * m)
                .map(|i| match gates {
                    "by sample" => first(i / (tokens * m) % a.batch, a.batch),
                    "by expert" => first(i % m, m),
                    _ => rng.f64() < open,
                })
                .map(|on| f32::from(u8::from(on)))
                .collect();
            if gates == "by token" {
                r = r[..a.batch * tokens * m].repeat(a.steps_t);
            }
            let r = Tensor::spikes_from_f32(device, &[a.steps_t, a.batch, a.tokens, a.tokens, m], &r)?;
            let net = Arc::new(net.with_router(Box::new(Given(r))));
            settle(&*net, &mut params, x)?;
            let shared = Box::new(Shared(net.clone()));
            out.push(Setting { mixture, gates, open, net, shared, params, best: [f64::INFINITY; 3] });
        }
    }
    let mut params = Params::new(device);
    let net = Arc::new(Emsp::new(&mut Build::new(&mut params, 0), Residual::Spikes, a.dim, &Semm::default(), neuron)?);
    settle(&*net, &mut params, x)?;
    let shift = params.find("fc1.bn.bias").ok_or_else(|| Error::shape("bench", "no fc1.bn.bias"))?;
    // Behind a norm six standard deviations are beyond what comes, and far from what could.
    for (gates, low) in [("by channel, by weights", -1e3), ("by channel, by input", -6.0)] {
        for open in OPEN {
            let (mut params, mut rng) = (params.clone(), Rng::new(2));
            let mut v = params.get(shift).value.to_vec()?;
            let half = v.len() / 2;
            v[half..].iter_mut().filter(|_| rng.f64() >= open).for_each(|v| *v = low);
            let v = Tensor::from_f32(device, &[v.len()], &v)?;
            params.update([(shift, v)]);
            let (net, shared) = (net.clone(), Box::new(Shared(net.clone())));
            out.push(Setting { mixture: "EMSP", gates, open, net, shared, params, best: [f64::INFINITY; 3] });
        }
    }
    Ok(out)
}

/// Running statistics of this input.
fn settle(net: &dyn Module, params: &mut Params, x: &Tensor) -> Result<()> {
    for _ in 0..20 {
        let mut cx = Ctx::train(params);
        net.forward(x, &mut cx)?;
        let updates = cx.finish().0;
        params.update(updates);
    }
    Ok(())
}

fn spikes(device: &Device, shape: &[usize], rate: f64, rng: &mut Rng) -> Result<Tensor> {
    let v: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(u8::from(rng.f64() < rate))).collect();
    Tensor::spikes_from_f32(device, shape, &v)
}

fn text(o: &Outcome) -> String {
    let mut rows = vec![
        ["mixture", "gates drawn", "open", "ms", "of all open", "shared ms", "rest", "ms, nothing skipped"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(o.rows.iter().map(|r| {
        vec![
            r.mixture.to_string(),
            r.gates.to_string(),
            format!("{:.0}%", 100.0 * r.open),
            format!("{:.2}", 1e3 * r.seconds),
            format!("{:.0}%", 100.0 * r.ratio),
            format!("{:.2}", 1e3 * r.seconds_shared),
            format!("{:.0}%", 100.0 * r.ratio_rest),
            format!("{:.2}", 1e3 * r.seconds_unskipped),
        ]
    }));
    format!(
        "{}\nT {}, batch {}, {}x{} tokens, D {}, input at {}; {}, {} threads; fastest of {}\n",
        table(&rows, &[false, false, true, true, true, true, true, true]),
        o.steps_t,
        o.batch,
        o.tokens,
        o.tokens,
        o.dim,
        o.rate,
        o.device,
        o.threads,
        o.runs
    )
}
