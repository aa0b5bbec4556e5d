//! `spikemix bench memory`.

use super::net::{Bench, NetArgs, NetName};
use crate::cli::{print, print_json, table};
use crate::counts::{Counts, Keep};
use crate::ctx::Ctx;
use crate::error::Result;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Compare the memory that a training step keeps for backward with what it should keep.
///
/// Predicted is a float for each neuron, step and sample (the current it got: the output of the convolution or product before it) and a
/// bit for its spike. Kept is what the tape really holds after the forward pass, each buffer once, with the module that keeps it first;
/// inputs and parameters are left out. A convolution of frames of up to four channels is not kept: backward computes it again, for it takes
/// little time and is the largest of all. The peak is the most that buffers of the device held during the step, and of it the part
/// that is there between steps (parameters, optimiser, input).
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench memory
  spikemix bench memory --net spikingformer --dim 128 --size 64 --steps-t 8 --json")]
pub(in crate::cli) struct MemoryArgs {
    #[command(flatten)]
    net: NetArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Bytes of one part of the network.
#[derive(Default, Serialize)]
struct Row {
    module: String,
    predicted: u64,
    kept: u64,
}

/// What `spikemix bench memory --json` prints; all in bytes.
#[derive(Serialize)]
struct Outcome {
    net: NetName,
    dim: usize,
    depth: usize,
    size: usize,
    steps_t: usize,
    batch: usize,
    device: String,
    modules: Vec<Row>,
    /// Sums over modules.
    predicted: u64,
    kept: u64,
    /// Kept a step of time.
    kept_per_step: u64,
    /// Of buffers, between training steps and at most within one.
    resident: u64,
    peak: u64,
}

/// The part of the network that a module stands in: `sps`, `block.0.attn`.
fn part(place: &str) -> String {
    let mut names = place.split('.');
    let first = names.next().unwrap_or_default();
    match (names.next(), names.next()) {
        (Some(n), Some(part)) if n.parse::<usize>().is_ok() => format!("{first}.{n}.{part}"),
        _ => first.into(),
    }
}

/// Runs the command.
pub(super) fn run(a: &MemoryArgs) -> Result<()> {
    let (n, spec) = (&a.net, a.net.spec()?);
    let device = n.place.open()?;
    let mut bench = Bench::new(&spec, &device, n)?;
    // The first step makes the optimiser's moments.
    bench.train_step()?;
    device.reset_peak();
    let resident = device.held().live;
    bench.train_step()?;
    let peak = device.held().peak;

    let mut parts: BTreeMap<String, Row> = BTreeMap::new();
    let counts = Counts::keeping(Keep { operations: true, ..Keep::default() });
    for row in bench.infer(Ctx::infer(&bench.params).with_counts(counts))?.finish().1.unwrap_or_default().neurons() {
        parts.entry(part(&row.name)).or_default().predicted += row.opportunities * 4 + row.opportunities.div_ceil(8);
    }
    for (place, bytes) in bench.forward()?.0.kept(&bench.x) {
        parts.entry(part(&place)).or_default().kept += bytes;
    }
    let modules: Vec<Row> = parts.into_iter().map(|(module, r)| Row { module, ..r }).collect();
    let (predicted, kept) = modules.iter().fold((0, 0), |(p, k), r| (p + r.predicted, k + r.kept));
    let outcome = Outcome {
        net: n.net,
        dim: n.dim,
        depth: n.depth,
        size: n.size,
        steps_t: n.steps_t,
        batch: n.batch,
        device: device.describe(),
        predicted,
        kept,
        kept_per_step: kept / n.steps_t as u64,
        resident,
        peak,
        modules,
    };
    if a.json { print_json(&outcome) } else { print(&text(&outcome)) }
}

fn text(o: &Outcome) -> String {
    let mib = |b: u64| format!("{:.1} MiB", b as f64 / f64::from(1 << 20));
    let row = |name: &str, p: u64, k: u64| {
        vec![name.into(), mib(p), mib(k), if p > 0 { format!("{:.2}", k as f64 / p as f64) } else { "-".into() }]
    };
    let mut rows = vec![["module", "predicted", "kept", "kept/predicted"].map(String::from).to_vec()];
    rows.extend(o.modules.iter().filter(|r| r.kept > 0).map(|r| row(&r.module, r.predicted, r.kept)));
    rows.push(row("all", o.predicted, o.kept));
    format!(
        "{}\nkept a step of time {}; buffers between training steps {}, at most within one {}\n",
        table(&rows, &[false, true, true, true]),
        mib(o.kept_per_step),
        mib(o.resident),
        mib(o.peak)
    )
}
