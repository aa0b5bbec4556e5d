//! `spikemix bench async`.

use super::crossover::{crossing, within_reason};
use crate::cli::{Place, print, print_json, table};
use crate::ctx::{Forward, Op};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernel::conv::ConvU;
use crate::kernel::fire::{counts_below, spikes_below};
use crate::neuron::Neuron;
use crate::ops::conv::Conv3x3;
use crate::ops::fire::{ConvFire, pays};
use crate::ops::neuron::{NeuronLayer, Norm};
use crate::rng::Rng;
use crate::tensor::Tensor;
use clap::Args;
use serde::Serialize;
use std::time::Instant;

const RATES: [f64; 8] = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4];
const EPS: f32 = 1e-5;

/// Time a 3x3 convolution, its batch norm and LIF neurons at inference, by the rate of the input.
///
/// Clocked are two kernels: the convolution, then all neurons at every step. Asynchronous is one, which touches the neurons of a pixel
/// only when something arrives under one of its taps. On the CPU networks take it below a rate that the source holds, shown beside the
/// rate at which the two cross on this machine; --counts of up to 4 channels to a multiple of 16 always, for what is not few is multiplied
/// there, without storing currents. On a GPU, where the host does not know the rate, the kernel itself turns to products
/// where spikes are many, and networks take it wherever one step of the layer is enough to fill the card. "layer" is the way that networks
/// go at that rate, and its share of what they take at 40 %. Shifts of the norm are up to 0.2, so that idle neurons move. Times are the
/// fastest of --runs, taken in turns, in milliseconds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench async --device cpu
  spikemix bench async --device gpu:0 --size 16 --batch 2 --steps-t 8
  spikemix bench async --device cpu --counts --cin 2 --cout 32 --size 128 --threads 1 --json")]
pub(in crate::cli) struct AsyncArgs {
    /// Height and width of the images
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Steps T
    #[arg(long, default_value_t = 16)]
    steps_t: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Input channels
    #[arg(long, default_value_t = 64)]
    cin: usize,
    /// Output channels
    #[arg(long, default_value_t = 128)]
    cout: usize,
    /// Take event counts as input, which are floats, in place of packed spikes
    #[arg(long)]
    counts: bool,
    /// Runs that are timed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Times at one rate, in milliseconds.
#[derive(Serialize)]
struct Row {
    rate: f64,
    clocked_ms: f64,
    async_ms: f64,
    /// The one of them that networks take.
    layer_ms: f64,
    /// Of the same at the highest rate.
    layer_ratio: f64,
}

/// What `spikemix bench async --json` prints.
#[derive(Serialize)]
struct Outcome {
    size: usize,
    steps_t: usize,
    batch: usize,
    cin: usize,
    cout: usize,
    counts: bool,
    device: String,
    rows: Vec<Row>,
    /// Rate at which the asynchronous kernel stops to be faster; null where it does not within the measured rates.
    crossover: Option<f64>,
    /// The rate at which networks change on the CPU; null where that does not matter, as on a GPU.
    switch: Option<f64>,
}

/// Runs the command.
pub(super) fn run(a: &AsyncArgs) -> Result<()> {
    let sizes =
        [("size", a.size), ("steps-t", a.steps_t), ("batch", a.batch), ("cin", a.cin), ("cout", a.cout), ("runs", a.runs)];
    if let Some((name, v)) = sizes.into_iter().find(|(_, v)| *v == 0 || *v > 1 << 16) {
        return Err(Error::usage(format!("--{name} {v}: from 1 to 65536 are possible")));
    }
    within_reason(a.steps_t.saturating_mul(a.batch), a.size, a.cin, a.cout)?;
    let device = a.place.open()?;
    let mut rng = Rng::new(0).stream("bench async");
    let mut random = |shape: &[usize], low: f64, high: f64| -> Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high) as f32).collect();
        Tensor::from_f32(&device, shape, &values)
    };
    let w = random(&[3, 3, a.cin, a.cout], -0.5, 0.5)?;
    let norm = [(0.5, 1.5), (-0.2, 0.2), (-0.1, 0.1), (0.5, 1.0)];
    let norm = norm.into_iter().map(|(low, high)| random(&[a.cout], low, high)).collect::<Result<Vec<_>>>()?;
    let neuron = Neuron::default();
    let neurons = NeuronLayer { norm: Some(Norm { training: false, eps: EPS, padding: None }), ..NeuronLayer::plain(neuron) };
    let fused = ConvFire { neuron, eps: EPS, has_v0: false, wants_v: false };
    let shape = [a.steps_t, a.batch, a.size, a.size, a.cin];
    let mut inputs = Vec::new();
    for rate in RATES {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| f32::from(u8::from(rng.f64() < rate))).collect();
        inputs.push(match a.counts {
            true => Tensor::from_f32(&device, &shape, &values)?,
            false => Tensor::spikes_from_f32(&device, &shape, &values)?,
        });
    }
    let timed = |f: &dyn Fn() -> Result<Forward>| -> Result<f64> {
        let start = Instant::now();
        f()?;
        device.synchronize()?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    };
    let mut best = [[f64::INFINITY; 2]; RATES.len()];
    // One run to warm up.
    for run in 0..=a.runs {
        for (x, best) in inputs.iter().zip(&mut best) {
            let clocked = timed(&|| {
                let y = Conv3x3::default().forward(&[x, &w])?.outputs.remove(0);
                neurons.forward(&std::iter::once(&y).chain(&norm).collect::<Vec<_>>())
            })?;
            let asynchronous = timed(&|| fused.forward(&[x, &w].into_iter().chain(&norm).collect::<Vec<_>>()))?;
            if run > 0 {
                *best = [best[0].min(clocked), best[1].min(asynchronous)];
            }
        }
    }
    let layer = |x: &Tensor, [clocked, asynchronous]: [f64; 2]| if pays(x, &w) { asynchronous } else { clocked };
    // On a GPU the rate does not matter, nor for counts of few channels.
    let fused_everywhere = inputs.iter().all(|x| pays(x, &w));
    let layers: Vec<f64> = inputs.iter().zip(best).map(|(x, best)| layer(x, best)).collect();
    let most = layers.last().copied().unwrap_or(f64::NAN);
    let rows: Vec<Row> = (RATES.into_iter().zip(best).zip(&layers))
        .map(|((rate, [clocked_ms, async_ms]), &layer_ms)| Row {
            rate,
            clocked_ms,
            async_ms,
            layer_ms,
            layer_ratio: layer_ms / most,
        })
        .collect();
    let conv = ConvU {
        images: (a.steps_t * a.batch) as u32,
        h: a.size as u32,
        w: a.size as u32,
        cin: a.cin as u32,
        cout: a.cout as u32,
        planes: 1,
        splits: 1,
        exact: 1,
    };
    let outcome = Outcome {
        size: a.size,
        steps_t: a.steps_t,
        batch: a.batch,
        cin: a.cin,
        cout: a.cout,
        counts: a.counts,
        device: device.describe(),
        crossover: crossing(rows.iter().map(|r| [r.rate, r.async_ms, r.clocked_ms])),
        switch: match device {
            Device::Cpu if a.counts => counts_below(&conv),
            Device::Cpu => Some(spikes_below(&conv)),
            Device::Gpu(_) => None,
        },
        rows,
    };
    if a.json {
        return print_json(&outcome);
    }
    let head = ["rate", "clocked", "asynchronous", "asynchronous/clocked", "layer", "of 40 %"];
    let mut text = vec![head.map(String::from).to_vec()];
    for r in &outcome.rows {
        let ms = |v: f64| format!("{v:.2} ms");
        let ratio = format!("{:.2}", r.async_ms / r.clocked_ms);
        let share = format!("{:.0}%", 100.0 * r.layer_ratio);
        text.push(vec![format!("{:.1} %", 100.0 * r.rate), ms(r.clocked_ms), ms(r.async_ms), ratio, ms(r.layer_ms), share]);
    }
    print(&format!(
        "{}\nthe two cross {}; {}; on {}\n",
        table(&text, &[true; 6]),
        outcome.crossover.map_or("beyond the measured rates".into(), |v| format!("at {:.1} %", 100.0 * v)),
        outcome.switch.map_or_else(
            || format!("networks take the {} kernel", if fused_everywhere { "asynchronous" } else { "clocked" }),
            |v| format!("networks change at {:.1} %", 100.0 * v)
        ),
        outcome.device,
    ))
}
