//! `spikemix bench crossover`.

use crate::cli::{Place, print, print_json, table};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernel::bit_matrix::{BitMatrix, Pick};
use crate::kernel::conv::{Bits, BitsWeight, ConvU, forward_by, walk_below, weight_by};
use crate::kernel::par::lines;
use crate::kernel::product::{GPU_WALK_BELOW, Way};
use crate::kernel::{Access, Args as Buffers, Case, Kernel, Tolerance, words};
use crate::rng::Rng;
use clap::Args;
use serde::Serialize;
use std::time::Instant;

const RATES: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5];

/// Time products of packed spikes with weights, by firing rate.
///
/// Each is done in both ways: walked (for each spike a row of weights is added) and dense (spikes unpacked in blocks, then a matrix
/// product; on the CPU by Winograd's algorithm where channels come in multiples of 16). The engine takes the walk below a rate that is a
/// constant of its source, shown beside the rate at which the two cross on this device. Times are the best of --runs runs, in
/// milliseconds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench crossover
  spikemix bench crossover --device cpu --size 32 --cin 64 --cout 128 --threads 1 --json
  spikemix bench crossover --device gpu:0 --size 16 --images 8")]
pub(in crate::cli) struct CrossoverArgs {
    /// Height and width of the images of the 3x3 convolution
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Images (T x B)
    #[arg(long, default_value_t = 64)]
    images: usize,
    /// Input channels
    #[arg(long, default_value_t = 64)]
    cin: usize,
    /// Output channels
    #[arg(long, default_value_t = 128)]
    cout: usize,
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
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    rate: f64,
    forward_walk_ms: f64,
    forward_dense_ms: f64,
    weight_walk_ms: f64,
    weight_dense_ms: f64,
}

#[derive(Serialize)]
struct Outcome {
    size: usize,
    images: usize,
    cin: usize,
    cout: usize,
    device: String,
    threads: usize,
    rows: Vec<Row>,
    /// Rate at which walking stops to be faster; null where it does not within the measured rates.
    forward_crossover: Option<f64>,
    weight_crossover: Option<f64>,
    /// The rates at which the engine changes its way.
    forward_switch: f64,
    weight_switch: f64,
}

/// Refuses a 3x3 convolution whose maps or weights would hold more than 2^29 values.
pub(super) fn within_reason(images: usize, size: usize, cin: usize, cout: usize) -> Result<()> {
    let map = [size, size, cin.max(cout)].into_iter().fold(images, usize::saturating_mul);
    match map.max(9usize.saturating_mul(cin).saturating_mul(cout)) {
        values if values > 1 << 29 => Err(Error::usage(format!("{values} values: at most 2^29 are possible"))),
        _ => Ok(()),
    }
}

/// Runs the command.
pub(super) fn run(a: &CrossoverArgs) -> Result<()> {
    for (name, v) in [("size", a.size), ("images", a.images), ("cin", a.cin), ("cout", a.cout), ("runs", a.runs)] {
        if v == 0 || v > 1 << 16 {
            return Err(Error::usage(format!("--{name} {v}: from 1 to 65536 are possible")));
        }
    }
    within_reason(a.images, a.size, a.cin, a.cout)?;
    let device = a.place.open()?;
    let u = ConvU {
        images: a.images as u32,
        h: a.size as u32,
        w: a.size as u32,
        cin: a.cin as u32,
        cout: a.cout as u32,
        planes: 1,
        splits: 16,
        exact: 1,
    };
    let [forward_switch, weight_switch] = match device {
        Device::Cpu => [false, true].map(|weight| walk_below(&u, weight)),
        Device::Gpu(_) => GPU_WALK_BELOW,
    };
    let rows = RATES.iter().map(|&rate| measure(a, &u, rate, &device)).collect::<Result<Vec<_>>>()?;
    let outcome = Outcome {
        size: a.size,
        images: a.images,
        cin: a.cin,
        cout: a.cout,
        device: device.describe(),
        threads: rayon::current_num_threads(),
        forward_crossover: crossing(rows.iter().map(|r| [r.rate, r.forward_walk_ms, r.forward_dense_ms])),
        weight_crossover: crossing(rows.iter().map(|r| [r.rate, r.weight_walk_ms, r.weight_dense_ms])),
        forward_switch,
        weight_switch,
        rows,
    };
    if a.json {
        return print_json(&outcome);
    }
    let head = ["rate", "forward walked", "dense", "walked/dense", "weights walked", "dense", "walked/dense"];
    let mut text = vec![head.map(String::from).to_vec()];
    for r in &outcome.rows {
        let ms = |v: f64| format!("{v:.2} ms");
        let ratio = |a: f64, b: f64| format!("{:.2}", a / b);
        text.push(vec![
            format!("{:.0} %", 100.0 * r.rate),
            ms(r.forward_walk_ms),
            ms(r.forward_dense_ms),
            ratio(r.forward_walk_ms, r.forward_dense_ms),
            ms(r.weight_walk_ms),
            ms(r.weight_dense_ms),
            ratio(r.weight_walk_ms, r.weight_dense_ms),
        ]);
    }
    let said = |v: Option<f64>| v.map_or("beyond the measured rates".into(), |v| format!("at {:.0} %", 100.0 * v));
    print(&format!(
        "{}\nforward: the ways cross {}, the engine changes at {:.0} %\nweights: the ways cross {}, the engine changes at {:.0} %; on {}\n",
        table(&text, &[true; 7]),
        said(outcome.forward_crossover),
        100.0 * forward_switch,
        said(outcome.weight_crossover),
        100.0 * weight_switch,
        outcome.device,
    ))
}

fn measure(a: &CrossoverArgs, u: &ConvU, rate: f64, device: &Device) -> Result<Row> {
    let mut rng = Rng::new(0).stream("bench crossover");
    let pixels = a.images * a.size * a.size;
    let nw = words(a.cin);
    let mut x = vec![0u32; pixels * nw];
    for row in x.chunks_mut(nw) {
        (0..a.cin).filter(|_| rng.f64() < rate).for_each(|c| row[c / 32] |= 1 << (c % 32));
    }
    let mut floats = |n: usize| (0..n).map(|_| rng.uniform(-1.0, 1.0) as f32).collect::<Vec<_>>();
    let (w, dy) = (floats(9 * a.cin * a.cout), floats(pixels * a.cout));
    let (out, dw_out) = (pixels * a.cout, u.splits as usize * 9 * a.cin * a.cout);
    let mut ms = [0.0; 4];
    let ways = [(0, Way::Walk), (1, Way::Dense)];
    if matches!(device, Device::Cpu) {
        let x = BitMatrix { x: &x, rows: pixels, c: a.cin, planes: 1, pick: Pick::Neighbours(a.size, a.size) };
        // From the start of a cache line, as buffers of tensors are.
        let (mut y, mut dw) = (Vec::new(), Vec::new());
        let (y, dw) = (lines(&mut y, out), lines(&mut dw, dw_out));
        for (i, way) in ways {
            ms[i] = best(a.runs, || {
                forward_by(way, u, &x, &w, y);
                Ok(())
            })?;
            ms[i + 2] = best(a.runs, || {
                weight_by(way, u, &x, &dy, dw);
                Ok(())
            })?;
        }
    } else {
        let [x, w, dy] = [&x[..], bytemuck::cast_slice(&w), bytemuck::cast_slice(&dy)].map(|v| device.upload(v));
        let (x, w, dy) = (x?, w?, dy?);
        for (i, way) in ways {
            let forward = || device.launch(&Forced(Bits, way), u, &[&x, &w], &[out]);
            ms[i] = best(a.runs, || forward().and_then(|_| device.synchronize()))?;
            let weight = || device.launch(&Forced(BitsWeight, way), u, &[&x, &dy], &[dw_out]);
            ms[i + 2] = best(a.runs, || weight().and_then(|_| device.synchronize()))?;
        }
    }
    let [forward_walk_ms, forward_dense_ms, weight_walk_ms, weight_dense_ms] = ms;
    Ok(Row { rate, forward_walk_ms, forward_dense_ms, weight_walk_ms, weight_dense_ms })
}

/// A kernel in one way on a GPU, whatever the rate.
struct Forced<K>(K, Way);

impl<K: Kernel> Kernel for Forced<K> {
    type Uniform = K::Uniform;
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        // Shares of spikes below which it walks: always, and never.
        vec![("WALK_BELOW", if self.1 == Way::Walk { 2.0 } else { 0.0 })]
    }
    fn name(&self) -> &'static str {
        Kernel::name(&self.0)
    }
    fn wgsl(&self) -> &'static str {
        self.0.wgsl()
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        Kernel::bindings(&self.0)
    }
    fn workgroup(&self) -> u32 {
        Kernel::workgroup(&self.0)
    }
    fn threads(&self, u: &K::Uniform) -> usize {
        Kernel::threads(&self.0, u)
    }
    fn cpu(&self, u: &K::Uniform, args: &mut Buffers<'_>) {
        Kernel::cpu(&self.0, u, args);
    }
    fn cases(&self) -> Vec<Case<K::Uniform>> {
        Kernel::cases(&self.0)
    }
    fn tolerance(&self) -> Tolerance {
        Kernel::tolerance(&self.0)
    }
}

/// Milliseconds of the fastest of `runs` runs, after one to warm up.
fn best(runs: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    f()?;
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        f()?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}

/// The rate at which the first time overtakes the second, of points (rate, first, second), between two measured ones by a straight line. None
/// where the first is the shorter in the end.
pub(super) fn crossing(points: impl Iterator<Item = [f64; 3]>) -> Option<f64> {
    let gaps: Vec<_> = points.map(|[rate, first, second]| (rate, first - second)).collect();
    if gaps.last().is_none_or(|(_, gap)| *gap < 0.0) {
        return None;
    }
    // The last crossing: one slow run at a low rate is no crossing.
    gaps.windows(2).rev().find_map(|p| {
        let ((r0, g0), (r1, g1)) = (p[0], p[1]);
        (g0 < 0.0 && g1 >= 0.0).then(|| r0 + (r1 - r0) * g0 / (g0 - g1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_is_interpolated() {
        let at = crossing([[0.1, 5.0, 10.0], [0.2, 15.0, 10.0]].into_iter()).unwrap();
        assert!((at - 0.15).abs() < 1e-9);
        let noisy = [[0.1, 1.0, 2.0], [0.2, 3.0, 2.0], [0.3, 1.0, 2.0], [0.4, 3.0, 2.0]];
        assert!(crossing(noisy.into_iter()).unwrap() > 0.3);
        assert_eq!(crossing(noisy[..3].iter().copied()), None);
        assert_eq!(crossing([[0.1, 1.0, 2.0], [0.2, 1.0, 2.0]].into_iter()), None);
    }
}
