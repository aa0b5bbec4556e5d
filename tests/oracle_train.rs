//! The fixtures of losses and of optimiser trajectories; `oracle.rs` walks over them.

use crate::oracle::{Fixture, Outcome, close};
use spikemix::ctx::Ctx;
use spikemix::device::Device;
use spikemix::loss::Loss;
use spikemix::optim::{AdamW, AdamWSpec};
use spikemix::tensor::Tensor;
use std::path::Path;

fn labels(f: &Fixture, name: &str) -> Result<Vec<u32>, libtest_mimic::Failed> {
    Ok(f.get(name)?.1.iter().map(|&l| l as u32).collect())
}

/// Temporal efficient training with every lambda that the file holds.
pub fn losses(path: &Path, device: &Device) -> Outcome {
    let f = Fixture::read(path)?;
    let means = f.f32("means").ok_or("no means")?;
    let (shape, y) = f.get("y")?;
    let y = Tensor::from_f32(device, shape, y)?;
    let labels = labels(&f, "labels")?;
    let mut some = false;
    for (lambda, _, want) in f.under("loss.") {
        let loss = Loss::Tet { lambda: lambda.parse()?, means, label_smoothing: f.f32("label_smoothing").unwrap_or(0.0) };
        let got = loss.compute(&y, &labels, None)?;
        close(&format!("loss.{lambda}"), &[got.loss.item()?], want, 1e-5, 0.0)?;
        close(&format!("grad.{lambda}"), &got.grad.to_vec()?, f.get(&format!("grad.{lambda}"))?.1, 1e-5, 0.0)?;
        some = true;
    }
    if some { Ok(()) } else { Err("no losses in the file".into()) }
}

/// The losses of AdamW steps over the file's batches in turn.
pub fn trajectory(path: &Path, device: &Device) -> Outcome {
    let f = Fixture::read(path)?;
    let (net, mut params) = f.build(device)?;
    let setting = |key: &str| f.f32(key).map(f64::from).ok_or_else(|| format!("no {key}"));
    let mut optimiser = AdamW::new(AdamWSpec { weight_decay: setting("weight_decay")?, ..AdamWSpec::default() });
    let loss = Loss::CrossEntropy { label_smoothing: f.f32("label_smoothing").unwrap_or(0.0) };
    let batches = f.under("labels.").count();
    let want = f.get("losses")?.1;
    for (step, &want) in want.iter().enumerate() {
        let i = step % batches.max(1);
        let x = f.image(&format!("x.{i}"), device, false)?;
        let mut cx = Ctx::train(&params);
        let y = net.forward(&x, &mut cx)?;
        let out = loss.compute(&y, &labels(&f, &format!("labels.{i}"))?, None)?;
        let gradients = cx.backward(&y, out.grad)?;
        let updates = cx.finish().0;
        params.update(updates);
        optimiser.step(&mut params, &gradients, setting("lr")?)?;
        let got = out.loss.item()?;
        if (got - want).abs() > 0.02 * want.abs() {
            return Err(format!("loss of step {step}: {got}, expected {want}").into());
        }
    }
    Ok(())
}
