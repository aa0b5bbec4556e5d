//! `spikemix bench neuron`.

use super::net::{median, median_behind};
use crate::cli::{Place, print, print_json, table};
use crate::ctx::Op;
use crate::error::{Error, Result};
use crate::kernel::spike::{Concat, ConcatU};
use crate::neuron::Neuron;
use crate::ops::neuron::NeuronLayer;
use crate::rng::Rng;
use crate::tensor::{Repr, Tensor, launch1};
use clap::Args;
use serde::Serialize;

/// Time a layer of neurons over all its steps, forward and backward, against the memory bandwidth of the device.
///
/// Currents, gradients of the spikes and gradients of the currents are 4 bytes a neuron and step, spikes a bit: 4.125 bytes forward, 12
/// backward, 12.125 both, for each tensor counts once, though both read the currents. Backward's gradient takes the place of the one
/// that came in, as in training. To compare with, currents and gradients are copied to another place, 8 bytes an element, read and written.
/// Times are medians.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench neuron
  spikemix bench neuron --steps-t 4 --samples 32 --neurons 16384 --json")]
pub(in crate::cli) struct NeuronArgs {
    /// Steps T
    #[arg(long, default_value_t = 16)]
    steps_t: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = 64)]
    samples: usize,
    /// Neurons of a sample
    #[arg(long, default_value_t = 65_536)]
    neurons: usize,
    /// Runs that are timed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `spikemix bench neuron --json` prints.
#[derive(Serialize)]
struct Outcome {
    steps_t: usize,
    samples: usize,
    neurons: usize,
    device: String,
    forward_s: f64,
    backward_s: f64,
    /// Gigabytes a second.
    forward_gb_s: f64,
    backward_gb_s: f64,
    both_gb_s: f64,
    copy_gb_s: f64,
    /// Both over the copy.
    share: f64,
}

/// Runs the command.
pub(super) fn run(a: &NeuronArgs) -> Result<()> {
    let sizes = [("steps-t", a.steps_t), ("samples", a.samples), ("neurons", a.neurons), ("runs", a.runs)];
    if let Some((name, v)) = sizes.into_iter().find(|(_, v)| *v == 0) {
        return Err(Error::usage(format!("--{name} {v}: must be at least 1")));
    }
    let n = a.steps_t.saturating_mul(a.samples).saturating_mul(a.neurons);
    if n > 1 << 29 {
        return Err(Error::usage(format!("{n} currents: at most 2^29 are possible")));
    }
    let device = a.place.open()?;
    // Whole words of spikes.
    let shape = [a.steps_t, a.samples, a.neurons.div_ceil(256), a.neurons.min(256)];
    let n: usize = shape.iter().product();
    let mut rng = Rng::new(0).stream("bench neuron");
    let mut random = |low: f64, high: f64| -> Vec<f32> { (0..n).map(|_| rng.uniform(low, high) as f32).collect() };
    let (x, ds) = (Tensor::from_f32(&device, &shape, &random(-1.0, 3.0))?, random(-1.0, 1.0));
    let op = NeuronLayer::plain(Neuron::default());
    let forward_s = median(a.runs, &device, || op.forward(&[&x]).map(|_| ()))?;
    let saved = op.forward(&[&x])?.saved;
    let gradient = || Tensor::from_f32(&device, &shape, &ds);
    let backward_s = median_behind(a.runs, &device, gradient, |ds| op.backward(&saved, &mut [Some(ds)], &[true]).map(|_| ()))?;
    let (u, other) = (ConcatU { na: n as u32, nb: n as u32 }, gradient()?);
    let copy_s = median(a.runs, &device, || launch1(&Concat, &u, &[&x, &other], &[2, n], Repr::F32).map(|_| ()))? / 2.0;
    let rate = |bytes: f64, s: f64| bytes * n as f64 / s / 1e9;
    let (both_gb_s, copy_gb_s) = (rate(12.125, forward_s + backward_s), rate(8.0, copy_s));
    let o = Outcome {
        steps_t: a.steps_t,
        samples: a.samples,
        neurons: a.neurons,
        device: device.describe(),
        forward_s,
        backward_s,
        forward_gb_s: rate(4.125, forward_s),
        backward_gb_s: rate(12.0, backward_s),
        both_gb_s,
        copy_gb_s,
        share: both_gb_s / copy_gb_s,
    };
    if a.json {
        return print_json(&o);
    }
    let row = |name: &str, s: f64, gb: f64| vec![name.into(), format!("{:.2} ms", 1e3 * s), format!("{gb:.1} GB/s")];
    let rows = [
        row("forward", o.forward_s, o.forward_gb_s),
        row("backward", o.backward_s, o.backward_gb_s),
        row("both", o.forward_s + o.backward_s, o.both_gb_s),
        row("copy", copy_s, o.copy_gb_s),
    ];
    print(&format!(
        "{}\nboth at {:.2} of the bandwidth of a copy, on {}\n",
        table(&rows, &[false, true, true]),
        o.share,
        o.device
    ))
}
