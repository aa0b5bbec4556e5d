//! `spikemix profile`.

use super::eval::{Opened, Subject, Which};
use super::{print, print_json, say, table};
use crate::counts::{Counts, Keep};
use crate::ctx::{Ctx, Module};
use crate::data::{Loader, LoaderOptions, Samples, nearest};
use crate::error::{Error, Result};
use crate::files::{folder_of, not_over, write_atomic};
use crate::params::Params;
use crate::profile::energy::{CONVENTIONS, Convention, convention};
use crate::profile::html::{Clip, Page, page};
use crate::profile::modules::{Counted, HOW, Profile, Timing};
use crate::profile::report::{count, joules, percent, share};
use crate::train;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Show what each module of a trained network does: rates, operations, energy, time, routers; as tables, JSON or a page with pictures.
///
/// Four runs: one that counts everything but changes of membranes, clip by clip, one for these (closed gates skip nothing there), one batch
/// that is timed, and one clip whose spikes are drawn. Numbers are means a sample, a whole clip with all its steps; the end of the
/// report says how each was counted.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix profile runs/gestures-0/best.safetensors
  spikemix profile best.safetensors --html report.html --n 64 --convention spikingformer
  spikemix profile best.safetensors --data-dir /data/nmnist --n 200 --json")]
pub(super) struct ProfileArgs {
    #[command(flatten)]
    subject: Subject,
    /// At most this many samples, of each class alike; all by default
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    n: Option<usize>,
    /// What `energy_pj` is reckoned by, in the sum and of each module; `energy_convention` names it. One of horowitz45-fp32, horowitz45-fp16, horowitz45-int8, spikingformer, neurobench, horowitz45-fp32-cache, horowitz45-fp32-dram; `energy` lists them all
    #[arg(long, value_name = "NAME", default_value = "horowitz45-fp32")]
    convention: String,
    /// Write the report as one page with pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Which of the samples the page draws, from 0
    #[arg(long, value_name = "I", default_value_t = 0, requires = "html")]
    clip: usize,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `spikemix profile --json` prints.
#[derive(Serialize)]
struct Outcome {
    split: Which,
    accuracy: f64,
    loss: f64,
    parameters: usize,
    #[serde(flatten)]
    profile: Profile,
    classes: Vec<String>,
    confusion: Vec<Vec<u64>>,
    /// Samples of the batch that is timed.
    batch: usize,
    device: String,
    checkpoint: PathBuf,
    how: Vec<[&'static str; 2]>,
}

/// Passes of each kind that are timed.
const RUNS: u64 = 3;

/// Runs the command.
pub(super) fn run(a: &ProfileArgs) -> Result<()> {
    let convention = named(&a.convention)?;
    if a.n == Some(0) {
        return Err(Error::usage("--n 0: at least 1 sample is needed"));
    }
    if let Some(path) = &a.html {
        not_over(&a.subject.checkpoint, path, "--html")?;
        if path.extension().is_some_and(|e| !["html", "htm"].iter().any(|kind| e.eq_ignore_ascii_case(kind))) {
            return Err(Error::usage(format!("--html {}: give the page a name that ends with .html", path.display())));
        }
        // Told now, not when all has run.
        if !folder_of(path).is_dir() {
            return Err(Error::io(path, std::io::Error::new(std::io::ErrorKind::NotFound, "its folder is not there")));
        }
    }
    let opened = a.subject.open()?;
    let Opened { recipe, data, device, params, net, .. } = &opened;
    let all = a.subject.split.samples(data);
    let samples = match a.n {
        Some(n) if n < all.len() => Arc::new(all.limited(n, recipe.data.split_seed)),
        _ => all.clone(),
    };
    if a.html.is_some() && a.clip >= samples.len() {
        return Err(Error::usage(format!("--clip {}: there are {} samples, from 0", a.clip, samples.len())));
    }
    let batch = recipe.train.batch.min(samples.len()).max(1);

    let counts = Counts::keeping(Keep { detail: true, ..Keep::default() });
    let e = opened.evaluate("profile", &samples, batch, counts)?;
    let warnings: BTreeSet<String> = data.warnings().into_iter().chain(samples.warnings()).collect();
    warnings.iter().for_each(|w| say(&format!("warning: {w}")));
    let membranes = Counts::keeping(Keep { operations: false, membranes: true, ..Keep::default() });
    let membranes = opened.evaluate("membranes", &samples, batch, membranes)?.counts.unwrap_or_default();
    let timing = timing(&**net, params, &samples, batch)?;
    let counts = &e.counts.unwrap_or_default();
    let outcome = Outcome {
        split: a.subject.split,
        accuracy: e.accuracy,
        loss: e.loss,
        parameters: params.learnable(),
        profile: Profile::of(params, Counted { counts, membranes: &membranes, timing: &timing }, convention)?,
        classes: samples.dataset().classes().to_vec(),
        confusion: e.confusion,
        batch,
        device: device.describe(),
        checkpoint: a.subject.checkpoint.clone(),
        how: HOW.iter().map(|(what, how)| [*what, *how]).collect(),
    };
    if let Some(path) = &a.html {
        let clip = clip(&**net, params, &samples, a.clip, recipe.train.loss().per_step())?;
        let subtitle = format!(
            "{} samples of {} ({}), {} parameters, {} steps, {}",
            e.samples,
            recipe.data.name,
            outcome.split.name(),
            outcome.parameters,
            outcome.profile.steps,
            outcome.device
        );
        let command: Vec<String> = std::env::args().collect();
        let page = page(&Page {
            title: &recipe.name,
            subtitle: &subtitle,
            accuracy: outcome.accuracy,
            classes: &outcome.classes,
            confusion: &outcome.confusion,
            profile: &outcome.profile,
            clip: &clip,
            command: &command.join(" "),
        })?;
        write_atomic(path, page.as_bytes())?;
        say(&format!("report: {}", path.display()));
    }
    if a.json { print_json(&outcome) } else { print(&text(&outcome)) }
}

/// The convention of this name, or what the name may have been.
fn named(name: &str) -> Result<&'static Convention> {
    convention(name).ok_or_else(|| {
        let known: Vec<&str> = CONVENTIONS.iter().map(|c| c.name).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are {}", known.join(", ")),
        };
        Error::usage(format!("--convention {name}: there is no such convention; {hint}"))
    })
}

/// Times the first batch of `samples`: whole, operation by operation and kernel by kernel.
fn timing(net: &dyn Module, params: &Params, samples: &Arc<Samples>, batch: usize) -> Result<Timing> {
    let options = LoaderOptions { batch, shuffle: false, threads: 0, ..LoaderOptions::default() };
    let first = Loader::new(samples.clone(), options)?.epoch(0, 0).next().transpose()?;
    let Some(b) = first else { return Ok(Timing::default()) };
    let device = params.device();
    let (x, padding) = train::input(&b, device)?;
    let skipping = || Ctx::infer(params).with_padding(padding.clone());
    let whole = |cx: Ctx<'_>| -> Result<f64> {
        let (mut cx, began) = (cx, Instant::now());
        device.run(|| net.forward(&x, &mut cx))?;
        device.synchronize()?;
        Ok(began.elapsed().as_secs_f64())
    };
    // The first of each warms up.
    let times =
        (0..=RUNS).map(|_| Ok([whole(skipping())?, whole(skipping().without_skipping())?])).collect::<Result<Vec<_>>>()?;
    let median = |i: usize| {
        let mut v: Vec<f64> = times[1..].iter().map(|t| t[i]).collect();
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let counted = |counts: Counts| -> Result<Counts> {
        let mut cx = skipping().with_counts(counts);
        net.forward(&x, &mut cx)?;
        Ok(cx.finish().1.unwrap_or_default())
    };
    let fresh = || Counts::keeping(Keep { operations: false, seconds: true, ..Keep::default() });
    counted(fresh())?;
    let counts = (0..RUNS).try_fold(fresh(), |counts, _| counted(counts))?;
    device.profile(true);
    let done = (0..RUNS).try_for_each(|_| whole(skipping()).map(|_| ()));
    device.profile(false);
    let kernels = device.take_profile()?;
    done?;
    Ok(Timing { whole: median(0), unskipped: median(1), samples: b.indices.len() as u64, counts, batches: RUNS, kernels })
}

/// Runs sample `i` by itself and keeps its spikes.
fn clip(net: &dyn Module, params: &Params, samples: &Samples, i: usize, per_step: bool) -> Result<Clip> {
    let [_, h, w, channels] = samples.shape();
    let one = Arc::new(samples.only(i));
    let options = LoaderOptions { batch: 1, threads: 0, ..LoaderOptions::default() };
    let batch = Loader::new(one, options)?.epoch(0, 0).next().transpose()?;
    let sample = batch.ok_or_else(|| Error::usage(format!("--clip {i}: there is no such sample")))?;
    let x = train::input(&sample, params.device())?.0;
    let mut cx = Ctx::infer(params).with_counts(Counts::keeping(Keep { operations: false, clip: true, ..Keep::default() }));
    let logits = net.forward(&x, &mut cx)?;
    let counts = cx.finish().1.unwrap_or_default();
    let mut events = vec![0.0; h * w];
    for (at, v) in sample.x.iter().enumerate() {
        events[at / channels.max(1) % (h * w)] += v;
    }
    let classes = samples.dataset().classes();
    let class = |i: usize| classes.get(i).cloned().unwrap_or_else(|| i.to_string());
    let label = sample.labels.first().map_or(String::new(), |&l| class(l as usize));
    let answer = train::answers(&logits, None)?.first().map_or(String::new(), |&a| class(a));
    Ok(Clip {
        name: samples.dataset().describe(i),
        taken: match per_step {
            true => format!("Each step has a class of its own, most often {label}; the highest mean score has {answer}."),
            false => format!("Of class {label}, taken for {answer}."),
        },
        events,
        size: [h, w],
        neurons: counts.clip,
        gates: counts.clip_gates,
    })
}

fn header(words: &[&str]) -> Vec<Vec<String>> {
    vec![words.iter().map(|w| w.to_string()).collect()]
}

/// The tables.
fn text(o: &Outcome) -> String {
    let p = &o.profile;
    let right = |n: usize| -> Vec<bool> { (0..n).map(|i| i > 0).collect() };
    let mut rates =
        header(&["neurons", "rate", "over samples", "over steps", "count", "silent", "saturated", "spikes out", "updates"]);
    rates.extend(p.neurons.iter().map(|l| {
        let r = l.firing_rate;
        vec![
            l.name.clone(),
            percent(r.mean),
            format!("{} to {}", percent(r.sample_min), percent(r.sample_max)),
            format!("{} to {}", percent(r.step_min), percent(r.step_max)),
            l.neurons.to_string(),
            l.silent_neurons.to_string(),
            l.saturated_neurons.to_string(),
            count(l.spikes_out),
            count(l.neuron_updates),
        ]
    }));
    let blank = |v: f64| if v == 0.0 { String::new() } else { count(v) };
    let ms = |s: f64| format!("{:.3}", 1e3 * s);
    let mut modules = header(&[
        "module",
        "operation",
        "spikes in",
        "out",
        "MAC",
        "AC",
        "integer AC",
        "attention AC",
        "dense",
        "skipped",
        "gated",
        "bytes",
        "energy",
        "ms",
    ]);
    modules.extend(p.modules.iter().map(|m| {
        let counts = [m.spikes_in, m.spikes_out, m.effective_macs, m.effective_acs, m.integer_acs, m.attention_acs, m.dense_macs];
        let mut row = vec![m.name.clone(), m.op.clone()];
        row.extend(counts.into_iter().chain([m.skipped_sops, m.gated_sops, m.bytes_moved]).map(blank));
        row.extend([if m.energy_pj == 0.0 { String::new() } else { joules(m.energy_pj) }, ms(m.seconds)]);
        row
    }));
    let mut kernels = header(&["kernel", "launches a batch", "ms a sample"]);
    kernels.extend(p.kernels.iter().map(|k| vec![k.kernel.clone(), format!("{:.0}", k.launches), ms(k.seconds)]));
    let mut energy = header(&["convention", "energy a sample", "MAC", "AC", "of it memory"]);
    energy.extend(
        p.energy
            .iter()
            .map(|e| vec![e.convention.to_string(), joules(e.energy_pj), count(e.macs), count(e.acs), joules(e.memory_pj)]),
    );
    let mut even = header(&["against int8 dense", "dense runs", "spiking", "dense", "activity", "break-even"]);
    even.extend(p.break_even.iter().map(|b| {
        let runs = b.runs(p.steps).to_string();
        let at = b.break_even_activity.map_or("never".into(), percent);
        vec![b.convention.to_string(), runs, joules(b.spiking_pj), joules(b.dense_int8_pj), percent(b.activity), at]
    }));
    let mut routers = header(&[
        "router",
        "router_firing_rate",
        "experts_active_per_token",
        "expert_load_entropy",
        "expert_silence_fraction",
        "by expert",
    ]);
    for r in &p.routers_by_step {
        let steps = r.steps.iter().enumerate().map(|(t, r)| (format!("  step {t}"), r));
        routers.extend(std::iter::once((r.all.name.clone(), &r.all)).chain(steps).map(|(name, r)| {
            let by: Vec<String> = r.expert_rates.iter().map(|v| share(*v)).collect();
            vec![
                name,
                percent(r.router_firing_rate),
                format!("{:.2} of {}", r.experts_active_per_token, by.len()),
                r.entropy(),
                percent(r.expert_silence_fraction),
                by.join(" "),
            ]
        }));
    }
    let n = &p.neurobench;
    let s = n.synaptic_operations;
    let head = |rows: &[Vec<String>]| table(rows, &right(rows[0].len()));
    let mut parts = vec![head(&rates)];
    let mut aligned = right(14);
    aligned[1] = false;
    parts.push(table(&modules, &aligned));
    if routers.len() > 1 {
        parts.push(head(&routers));
    }
    let formulas: String = p.energy.iter().map(|e| format!("{}: {}\n", e.convention, e.about)).collect();
    parts.extend([head(&kernels), head(&energy), formulas, head(&even)]);
    parts.push(format!(
        "NeuroBench  Footprint {} bytes; ConnectionSparsity {:.4} of the weights; ActivationSparsity {:.4} of neurons x steps x samples\n\
         \x20           SynapticOperations a sample: Effective_MACs {}, Effective_ACs {}, Dense {}\n\
         \x20           MembraneUpdates a sample: {}\n",
        n.footprint,
        n.connection_sparsity,
        n.activation_sparsity,
        count(s.effective_macs),
        count(s.effective_acs),
        count(s.dense),
        count(n.membrane_updates)
    ));
    // Where steps are told apart they are what is scored.
    let scored: u64 = o.confusion.iter().flatten().sum();
    parts.push(format!(
        "energy            {} a sample by {}\n\
         skipped by gates  {} operations; {} more met a closed gate and were done\n\
         bytes moved       {} a sample\n\
         time              {} ms a sample on {}, in a batch of {}; {} ms with nothing skipped\n\
         accuracy          {} on {} {} {}\n",
        joules(p.activity.energy_pj),
        p.activity.energy_convention,
        count(p.activity.skipped_sops),
        count(p.gated_sops),
        count(p.bytes_moved),
        ms(p.seconds_per_sample),
        o.device,
        o.batch,
        ms(p.seconds_unskipped),
        percent(o.accuracy),
        scored,
        o.split.name(),
        if scored == p.activity.samples_counted { "samples" } else { "labelled steps" },
    ));
    parts.push(o.how.iter().map(|[what, how]| format!("{what}: {how}\n")).collect());
    parts.join("\n")
}
