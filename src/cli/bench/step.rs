//! `spikemix bench step`.

use crate::cli::{Place, print, print_json, table};
use crate::ctx::{Ctx, Module};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::model::{self, Net, Spec};
use crate::moe::Semm;
use crate::optim::{AdamW, AdamWSpec};
use crate::params::Params;
use crate::rng::Rng;
use crate::tensor::Tensor;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::time::Instant;

/// A backbone, with or without expert mixtures, under the names of `peer_step.py`.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
enum NetName {
    Spikformer,
    SpikformerSemm,
    Spikingformer,
    SpikingformerSemm,
    SpikeDriven,
    SpikeDrivenSemm,
}

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
    /// The network
    #[arg(long, value_enum, default_value = "spikformer_semm")]
    net: NetName,
    /// Width D
    #[arg(long, default_value_t = 256)]
    dim: usize,
    /// Transformer blocks
    #[arg(long, default_value_t = 2)]
    depth: usize,
    /// Height and width of the frames
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Steps T
    #[arg(long, default_value_t = 16)]
    steps_t: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Runs that are timed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    place: Place,
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
    for (name, v) in [("size", a.size), ("steps-t", a.steps_t), ("batch", a.batch), ("runs", a.runs)] {
        if v == 0 {
            return Err(Error::usage(format!("--{name} 0: must be at least 1")));
        }
    }
    let spec = spec(a);
    spec.validate().map_err(|e| Error::usage(e.to_string()))?;
    let device = a.place.open()?;
    let mut bench = Bench::new(&spec, &device, a)?;

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
    let infer_s = median(a.runs, &device, || bench.infer())?;

    let outcome = Outcome {
        net: a.net,
        dim: a.dim,
        depth: a.depth,
        size: a.size,
        steps_t: a.steps_t,
        batch: a.batch,
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

fn spec(a: &StepArgs) -> Spec {
    let (net, semm) = match a.net {
        NetName::Spikformer => (Net::Spikformer, false),
        NetName::SpikformerSemm => (Net::Spikformer, true),
        NetName::Spikingformer => (Net::Spikingformer, false),
        NetName::SpikingformerSemm => (Net::Spikingformer, true),
        NetName::SpikeDriven => (Net::SpikeDriven, false),
        NetName::SpikeDrivenSemm => (Net::SpikeDriven, true),
    };
    Spec { net, dim: a.dim, depth: a.depth, semm: semm.then(Semm::default), ..Spec::default() }
}

struct Bench {
    net: Box<dyn Module>,
    params: Params,
    optimiser: AdamW,
    x: Tensor,
    labels: Vec<u32>,
}

impl Bench {
    fn new(spec: &Spec, device: &Device, a: &StepArgs) -> Result<Self> {
        let (net, params) = model::fresh(spec, device, 0)?;
        let shape = [a.steps_t, a.batch, a.size, a.size, spec.in_channels];
        let mut rng = Rng::new(0).stream("bench");
        let x: Vec<f32> = (0..shape.iter().product()).map(|_| poisson(0.05, &mut rng)).collect();
        let x = Tensor::from_f32(device, &shape, &x)?;
        let labels = (0..a.batch).map(|_| rng.below(spec.classes) as u32).collect();
        Ok(Bench { net, params, optimiser: AdamW::new(AdamWSpec::default()), x, labels })
    }
    fn train_step(&mut self) -> Result<()> {
        let mut cx = Ctx::train(&self.params);
        let logits = self.net.forward(&self.x, &mut cx)?;
        let out = Loss::CrossEntropy { label_smoothing: 0.1 }.compute(&logits, &self.labels, None)?;
        let gradients = cx.backward(&logits, out.grad)?;
        let updates = cx.finish().0;
        self.params.update(updates);
        self.optimiser.step(&mut self.params, &gradients, 1e-3)
    }
    fn infer(&mut self) -> Result<()> {
        self.net.forward(&self.x, &mut Ctx::infer(&self.params)).map(|_| ())
    }
}

/// A Poisson number (Knuth's product of uniforms; for small means).
fn poisson(mean: f64, rng: &mut Rng) -> f32 {
    let floor = (-mean).exp();
    let (mut product, mut n) = (rng.f64(), 0);
    while product > floor {
        product *= rng.f64();
        n += 1;
    }
    n as f32
}

/// Median seconds of `runs` runs after one to warm up, each waited for.
fn median(runs: usize, device: &Device, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::new();
    for i in 0..=runs {
        device.synchronize()?;
        let start = Instant::now();
        f()?;
        device.synchronize()?;
        if i > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let n = times.len();
    Ok((times[(n - 1) / 2] + times[n / 2]) / 2.0)
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
    let ms = |s: f64| format!("{:.1} ms", 1e3 * s);
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
