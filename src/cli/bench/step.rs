//! `spikemix bench step`.

use super::net::{Bench, NetArgs, NetName, median};
use crate::cli::{print, print_json, table};
use crate::ctx::Ctx;
use crate::device::Device;
use crate::error::{Error, Result};
use clap::Args;
use serde::Serialize;

/// Time a training step (forward, backward, AdamW) and an inference pass.
///
/// The input is what a DVS gives: event counts, Poisson with a mean of 0.05, 2 channels; 10 classes. Times are medians of --runs runs
/// after one to warm up. peak_mib is the most memory the process ever held (on a GPU what its buffers hold), measured before inference.
/// Time by kernel comes from one more step, taken by the adapter's clock where it has one and by the host's otherwise.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench step --net spikformer_semm --dim 256 --depth 2 --size 128 --steps-t 16 --batch 4 --threads 2 --runs 5 --json
  spikemix bench step --net spike_driven --size 64 --device gpu")]
pub(in crate::cli) struct StepArgs {
    #[command(flatten)]
    net: NetArgs,
    /// Runs that are timed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One kernel's share of a training step.
#[derive(Serialize)]
struct KernelTime {
    kernel: String,
    launches: u64,
    seconds: f64,
}

/// What `spikemix bench step --json` prints.
#[derive(Serialize)]
struct Outcome {
    net: NetName,
    dim: usize,
    depth: usize,
    size: usize,
    steps_t: usize,
    batch: usize,
    threads: usize,
    runs: usize,
    device: String,
    /// Median seconds of a training step.
    train_s: f64,
    /// Median seconds of an inference pass.
    infer_s: f64,
    /// Null where the system does not say.
    peak_mib: Option<u64>,
    launches_per_step: u64,
    /// Buffers read back to the host in a training step.
    reads_per_step: u64,
    parameters: usize,
    kernels: Vec<KernelTime>,
}

/// Runs the command.
pub(super) fn run(a: &StepArgs) -> Result<()> {
    if a.runs == 0 {
        return Err(Error::usage("--runs 0: must be at least 1"));
    }
    let (n, spec) = (&a.net, a.net.spec()?);
    let device = n.place.open()?;
    let mut bench = Bench::new(&spec, &device, n)?;

    let train_s = median(a.runs, &device, || bench.train_step())?;
    let peak_mib = peak_mib(&device);
    let (launches, reads) = (device.launches(), device.reads());
    bench.train_step()?;
    let (launches, reads) = (device.launches() - launches, device.reads() - reads);
    device.synchronize()?;
    device.profile(true);
    let profiled = bench.train_step();
    device.profile(false);
    let kernels = device.take_profile()?;
    profiled?;
    let infer_s = median(a.runs, &device, || bench.infer(Ctx::infer(&bench.params)).map(|_| ()))?;

    let outcome = Outcome {
        net: n.net,
        dim: n.dim,
        depth: n.depth,
        size: n.size,
        steps_t: n.steps_t,
        batch: n.batch,
        threads: rayon::current_num_threads(),
        runs: a.runs,
        device: device.describe(),
        train_s,
        infer_s,
        peak_mib,
        launches_per_step: launches,
        reads_per_step: reads,
        parameters: bench.params.learnable(),
        kernels: kernels.into_iter().map(|(kernel, launches, seconds)| KernelTime { kernel, launches, seconds }).collect(),
    };
    if a.json { print_json(&outcome) } else { print(&text(&outcome)) }
}

/// The most memory held so far: of the process, or of the GPU's buffers.
fn peak_mib(device: &Device) -> Option<u64> {
    if let Device::Gpu(g) = device {
        // Freed buffers are kept, so in use and idle together are the most there was.
        return Some(g.memory().iter().sum::<u64>() >> 20);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.div_ceil(1024))
}

fn text(o: &Outcome) -> String {
    // Three figures, whatever the size.
    let ms = |s: f64| {
        let ms = 1e3 * s;
        let digits = if ms >= 100.0 { 0 } else { 1 + usize::from(ms < 10.0) + usize::from(ms < 1.0) };
        format!("{ms:.digits$} ms")
    };
    let head = table(
        &[
            vec![
                "training step".into(),
                ms(o.train_s),
                format!("{} launches, {} read-backs", o.launches_per_step, o.reads_per_step),
            ],
            vec!["inference".into(), ms(o.infer_s)],
            vec!["peak memory".into(), o.peak_mib.map_or("unknown".into(), |m| format!("{m} MiB"))],
            vec!["parameters".into(), o.parameters.to_string()],
            vec!["device".into(), o.device.clone()],
        ],
        &[false, true],
    );
    let total: f64 = o.kernels.iter().map(|k| k.seconds).sum();
    let mut rows = vec![["kernel", "launches", "time", "share"].map(String::from).to_vec()];
    rows.extend(o.kernels.iter().map(|k| {
        let share = format!("{:.1}%", 100.0 * k.seconds / total.max(1e-12));
        vec![k.kernel.clone(), k.launches.to_string(), ms(k.seconds), share]
    }));
    format!("{head}\n{}", table(&rows, &[false, true, true, true]))
}
