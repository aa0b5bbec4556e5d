//! The network that benchmarks run, with its batch of random event counts.

use crate::cli::Place;
use crate::ctx::{Ctx, Gradients, Module};
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
pub(super) enum NetName {
    Spikformer,
    SpikformerSemm,
    Spikingformer,
    SpikingformerSemm,
    SpikeDriven,
    SpikeDrivenSemm,
}

/// Which network, and the size of its batch.
#[derive(Args)]
pub(super) struct NetArgs {
    /// The network
    #[arg(long, value_enum, default_value = "spikformer_semm")]
    pub net: NetName,
    /// Width D
    #[arg(long, default_value_t = 256)]
    pub dim: usize,
    /// Transformer blocks
    #[arg(long, default_value_t = 2)]
    pub depth: usize,
    /// Height and width of the frames
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// Steps T
    #[arg(long, default_value_t = 16)]
    pub steps_t: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = 4)]
    pub batch: usize,
    #[command(flatten)]
    pub place: Place,
}

impl NetArgs {
    /// # Errors
    /// Sizes of 0, and a network that cannot be built.
    pub fn spec(&self) -> Result<Spec> {
        for (name, v) in [("size", self.size), ("steps-t", self.steps_t), ("batch", self.batch)] {
            if v == 0 {
                return Err(Error::usage(format!("--{name} 0: must be at least 1")));
            }
        }
        // The largest map of a network, its first.
        let map =
            [self.batch, self.size, self.size, self.dim.div_ceil(8).max(2)].into_iter().fold(self.steps_t, usize::saturating_mul);
        if map > 1 << 31 {
            return Err(Error::usage("steps x batch x size x size x dim / 8 are more than 2^31 values, which is the most"));
        }
        let (net, semm) = match self.net {
            NetName::Spikformer => (Net::Spikformer, false),
            NetName::SpikformerSemm => (Net::Spikformer, true),
            NetName::Spikingformer => (Net::Spikingformer, false),
            NetName::SpikingformerSemm => (Net::Spikingformer, true),
            NetName::SpikeDriven => (Net::SpikeDriven, false),
            NetName::SpikeDrivenSemm => (Net::SpikeDriven, true),
        };
        let spec = Spec { net, dim: self.dim, depth: self.depth, semm: semm.then(Semm::default), ..Spec::default() };
        spec.validate().map_err(|e| Error::usage(e.to_string()))?;
        Ok(spec)
    }
}

/// A network with its optimiser and one batch.
pub(super) struct Bench {
    net: Box<dyn Module>,
    pub params: Params,
    optimiser: AdamW,
    pub x: Tensor,
    labels: Vec<u32>,
}

impl Bench {
    pub fn new(spec: &Spec, device: &Device, a: &NetArgs) -> Result<Self> {
        let (net, params) = model::fresh(spec, device, 0)?;
        let shape = [a.steps_t, a.batch, a.size, a.size, spec.in_channels];
        let mut rng = Rng::new(0).stream("bench");
        let x: Vec<f32> = (0..shape.iter().product()).map(|_| poisson(0.05, &mut rng)).collect();
        let x = Tensor::from_f32(device, &shape, &x)?;
        let labels = (0..a.batch).map(|_| rng.below(spec.classes) as u32).collect();
        Ok(Bench { net, params, optimiser: AdamW::new(AdamWSpec::default()), x, labels })
    }
    /// Forward with a tape; the tape and the gradient of the logits.
    pub fn forward(&self) -> Result<(Ctx<'_>, Tensor, Tensor)> {
        let mut cx = Ctx::train(&self.params);
        let logits = self.params.device().run(|| self.net.forward(&self.x, &mut cx))?;
        let out = Loss::CrossEntropy { label_smoothing: 0.1 }.compute(&logits, &self.labels, None)?;
        Ok((cx, logits, out.grad))
    }
    /// Forward, backward and the optimiser.
    pub fn train_step(&mut self) -> Result<()> {
        let (gradients, updates): (Gradients, _) = {
            let (mut cx, logits, grad) = self.forward()?;
            (self.params.device().run(|| cx.backward(&logits, grad))?, cx.finish().0)
        };
        self.params.update(updates);
        let device = self.params.device().clone();
        device.run(|| self.optimiser.step(&mut self.params, &gradients, 1e-3))
    }
    /// A pass without a tape.
    pub fn infer<'p>(&'p self, mut cx: Ctx<'p>) -> Result<Ctx<'p>> {
        self.params.device().run(|| self.net.forward(&self.x, &mut cx))?;
        Ok(cx)
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
pub(super) fn median(runs: usize, device: &Device, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    median_behind(runs, device, || Ok(()), |()| f())
}

/// [`median`] of `f` alone, of what `before` makes for each run.
pub(super) fn median_behind<T>(
    runs: usize,
    device: &Device,
    before: impl Fn() -> Result<T>,
    mut f: impl FnMut(T) -> Result<()>,
) -> Result<f64> {
    let mut times = Vec::new();
    for i in 0..=runs {
        let given = before()?;
        device.synchronize()?;
        let start = Instant::now();
        f(given)?;
        device.synchronize()?;
        if i > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let n = times.len();
    Ok((times[(n - 1) / 2] + times[n / 2]) / 2.0)
}
