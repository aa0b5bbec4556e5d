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
/// Predicted is a float for each output of a convolution, a linear map or a product of attention with queries, of each step and sample, and a bit
/// for each neuron's spike. Kept is what the tape really holds after the forward pass, each buffer once, with the module that keeps it
/// first; inputs and parameters are left out. "at a step" is a T-th of both: what another step of time adds. What takes little time is
/// not kept but computed again in backward: convolutions of frames of up to four channels, K^T V, and of a chain of residual sums of
/// currents three of four. Buffers are all that the device holds: between training steps parameters, optimiser and input, within one the
/// gradients too that are on their way.
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
    /// Of both, a step of time.
    predicted_per_step: u64,
    kept_per_step: u64,
    /// Of buffers, between training steps and at most within one.
    resident: u64,
    peak: u64,
}

/// The part of the network that a module stands in: `patch_embed`, `block.0.attn`, `mlp.0`; `stem` for those that stand by themselves in
/// front of the blocks.
fn part(place: &str) -> String {
    let names: Vec<&str> = place.split('.').collect();
    match names[..] {
        ["block", n, part, ..] => format!("block.{n}.{part}"),
        [part @ ("attn" | "mlp"), n, ..] => format!("{part}.{n}"),
        ["stages" | "lifs" | "pools" | "rpe" | "rpe_lif", ..] => "stem".into(),
        ["head_lif", ..] => "head".into(),
        _ => names[0].into(),
    }
}

/// Operations whose output a layer of neurons takes for its current, or a norm for its input.
const MAPS: [&str; 6] = ["conv3x3", "linear", "depthwise3x3", "query", "mix", "token_sum"];

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
    let all = Ctx::infer(&bench.params).with_counts(counts).without_skipping();
    for row in bench.infer(all)?.finish().1.unwrap_or_default().rows {
        let floats = if MAPS.contains(&row.op.as_str()) { row.elements } else { 0 };
        parts.entry(part(&row.name)).or_default().predicted += 4 * floats + row.opportunities.div_ceil(8);
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
        predicted_per_step: predicted / n.steps_t as u64,
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
    rows.extend(o.modules.iter().filter(|r| r.kept + r.predicted > 0).map(|r| row(&r.module, r.predicted, r.kept)));
    rows.push(row("all", o.predicted, o.kept));
    rows.push(row("at a step", o.predicted_per_step, o.kept_per_step));
    format!(
        "{}\nbuffers between training steps {}, at most within one {}, {} more\n",
        table(&rows, &[false, true, true, true]),
        mib(o.resident),
        mib(o.peak),
        mib(o.peak.saturating_sub(o.resident))
    )
}
