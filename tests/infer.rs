//! Inference: folded norms and sessions give what the network gives on the whole clip.

use crate::gpu;
use crate::networks::{SHAPE, dyadic, expect, input, logits, name, specs};
use libtest_mimic::{Failed, Trial};
use spikemix::counts::{Counts, Keep};
use spikemix::ctx::{Ctx, Module};
use spikemix::device::Device;
use spikemix::encode::{self, Encoding, StepEncoder};
use spikemix::events::{Event, Sensor};
use spikemix::infer::Session;
use spikemix::model::{self, Spec};
use spikemix::nn::fold::fold;
use spikemix::params::{Params, Role};
use spikemix::rng::Rng;
use spikemix::tensor::Tensor;

type Outcome = Result<(), Failed>;

/// Replaces norms and running statistics: `f` gets the last part of the name and the number of values.
fn set_norms(params: &mut Params, mut f: impl FnMut(&str, &mut Rng) -> f32) -> Outcome {
    let mut new = Vec::new();
    for (id, p) in params.iter().filter(|(_, p)| matches!(p.role, Role::Norm | Role::Buffer)) {
        let last = p.name.rsplit('.').next().unwrap_or_default();
        let mut rng = Rng::new(11).stream(p.name.as_str());
        let values: Vec<f32> = (0..p.value.len()).map(|_| f(last, &mut rng)).collect();
        new.push((id, Tensor::from_f32(params.device(), p.value.shape(), &values)?));
    }
    params.update(new);
    Ok(())
}

/// Dyadic weights, and gains of -1 (few), 1/2, 1 and 2.
pub fn dyadic_gains(params: &mut Params) -> Outcome {
    dyadic(params)?;
    set_norms(params, |what, rng| match what {
        "weight" => [-1.0, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0][rng.below(8)],
        "bias" => rng.below(32) as f32 / 64.0 - 0.25,
        "running_mean" => rng.below(16) as f32 / 64.0 - 0.125,
        _ => 1.0 - 1e-5,
    })
}

/// Norms as they may come out of training.
pub fn random_norms(params: &mut Params) -> Outcome {
    set_norms(params, |what, rng| match what {
        "weight" => 0.5 + rng.f32(),
        "bias" => 0.3 + 0.6 * rng.f32(),
        "running_mean" => 0.4 * rng.f32() - 0.2,
        _ => 0.1 + 0.3 * rng.f32(),
    })
}

/// Mean over steps and the class of each sample.
fn scores(logits: &[f32], classes: usize) -> Vec<Vec<f64>> {
    let row = SHAPE[1] * classes;
    let mean = |i: usize| logits.iter().skip(i).step_by(row).map(|v| f64::from(*v)).sum::<f64>() / SHAPE[0] as f64;
    (0..SHAPE[1]).map(|b| (0..classes).map(|c| mean(b * classes + c)).collect()).collect()
}

/// Close scores, and the same class where the best is ahead by more than that.
fn close(what: &str, got: &[f32], want: &[f32], classes: usize) -> Outcome {
    let (got, want) = (scores(got, classes), scores(want, classes));
    let best = |s: &[f64]| (1..s.len()).fold(0, |b, i| if s[i] > s[b] { i } else { b });
    for (g, w) in got.iter().zip(&want) {
        let worst = g.iter().zip(w).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let lead = w[best(w)] - w.iter().enumerate().filter(|(i, _)| *i != best(w)).map(|(_, v)| *v).fold(f64::MIN, f64::max);
        let spread = w.iter().map(|v| v.abs()).fold(0.0, f64::max);
        // A spike that rounding moves changes scores by little, for they are means over places.
        if worst > 0.02 * spread || (lead > 0.04 * spread && best(g) != best(w)) {
            return Err(format!("{what}: scores {g:?} for {w:?}").into());
        }
    }
    Ok(())
}

fn fold_dyadic(spec: &Spec, device: &Device) -> Outcome {
    let (net, mut params) = model::fresh(spec, &Device::Cpu, 0)?;
    dyadic_gains(&mut params)?;
    let x = Tensor::from_f32(&Device::Cpu, &SHAPE, &input())?;
    let (want, spikes) = with_spikes(net.as_ref(), &params, &x)?;
    let step = want.len() / SHAPE[0];
    if want.chunks(step).all(|v| *v == want[..step]) {
        return Err("all steps have the same logits: no spikes reach the head, and nothing is tested".into());
    }
    let folded = fold(&params)?;
    let mut plain = folded.clone();
    plain.update([]);
    let x = x.to_device(device)?;
    for (what, p) in [("folded", folded), ("folded, norms computed", plain)] {
        let p = p.to_device(device)?;
        expect(what, &logits(net.as_ref(), &p, &x)?, &want)?;
        let (got, of_folded) = with_spikes(net.as_ref(), &p, &x)?;
        expect(what, &got, &want)?;
        for ((layer, got), (same, want)) in of_folded.iter().zip(&spikes) {
            if layer != same || got != want {
                return Err(format!("{what}: other spikes of {layer} ({same})").into());
            }
        }
        if of_folded.len() != spikes.len() || spikes.iter().all(|(_, s)| s.iter().all(|s| *s == 0.0)) {
            return Err(format!("{what}: {} layers for {}, or no spike at all", of_folded.len(), spikes.len()).into());
        }
    }
    Ok(())
}

/// Spikes of each layer of neurons, by its name.
type Spikes = Vec<(String, Vec<f32>)>;

/// Logits, and the spikes behind them.
fn with_spikes(net: &dyn Module, params: &Params, x: &Tensor) -> Result<(Vec<f32>, Spikes), Failed> {
    let mut cx = Ctx::infer(params).with_counts(Counts::keeping(Keep { operations: false, clip: true, ..Keep::default() }));
    let y = net.forward(x, &mut cx)?.to_vec()?;
    let clip = cx.finish().1.ok_or("no counts")?.clip;
    Ok((y, clip.into_iter().map(|(name, s)| Ok((name, s.to_vec()?))).collect::<Result<_, Failed>>()?))
}

fn fold_random(spec: &Spec, device: &Device) -> Outcome {
    let (net, mut params) = model::fresh(spec, &Device::Cpu, 3)?;
    random_norms(&mut params)?;
    let x = Tensor::from_f32(&Device::Cpu, &SHAPE, &input())?;
    let want = logits(net.as_ref(), &params, &x)?;
    // Folded where it is used.
    let folded = fold(&params.to_device(device)?)?;
    close("folded", &logits(net.as_ref(), &folded, &x.to_device(device)?)?, &want, spec.classes)
}

/// Scores after any chunking.
fn chunks(spec: &Spec, device: &Device) -> Outcome {
    let x = input();
    let frame: usize = SHAPE[1..].iter().product();
    for exact in [true, false] {
        let (net, mut params) = model::fresh(spec, &Device::Cpu, 3)?;
        if exact {
            dyadic_gains(&mut params)?
        } else {
            random_norms(&mut params)?
        };
        let want = logits(net.as_ref(), &params, &Tensor::from_f32(&Device::Cpu, &SHAPE, &x)?)?;
        let mut session = Session::new(net, fold(&params)?.to_device(device)?);
        for chunks in [&[6][..], &[1; 6], &[4, 2], &[1, 0, 5]] {
            session.reset();
            let (mut at, mut got) = (0, Vec::new());
            for &n in chunks {
                let part = [n, SHAPE[1], SHAPE[2], SHAPE[3], SHAPE[4]];
                let part = Tensor::from_f32(device, &part, &x[at * frame..(at + n) * frame])?;
                got.extend(session.push(&part)?.to_vec()?);
                at += n;
            }
            let what = format!("chunks {chunks:?}");
            let mean: Vec<f32> = scores(&got, spec.classes).concat().iter().map(|v| *v as f32).collect();
            expect(&what, &session.scores(), &mean)?;
            match exact {
                true => expect(&what, &got, &want)?,
                false => close(&what, &got, &want, spec.classes)?,
            }
        }
    }
    Ok(())
}

/// Events in pieces of any length, empty ones too, give what their frames give; an encoding of spikes reaches the network as spikes.
fn events() -> Outcome {
    let mut rng = Rng::new(5);
    let mut t = 0;
    let events: Vec<Event> = (0..3000)
        .map(|_| {
            t += rng.below(4) as i64;
            Event { t, x: rng.below(16) as u16, y: rng.below(16) as u16, p: rng.below(2) == 1 }
        })
        .collect();
    for spec in specs() {
        for kind in [encode::Kind::Frames, encode::Kind::Raster] {
            let encoding = Encoding { kind, ..Encoding::default() };
            let encoder = || StepEncoder::new(&encoding, Sensor::new(16, 16), 1000);
            let (net, mut params) = model::fresh(&spec, &Device::Cpu, 3)?;
            dyadic_gains(&mut params)?;
            let (mut whole, mut frames) = (encoder()?, Vec::new());
            let mut sink = |f: &[f32]| {
                frames.extend_from_slice(f);
                Ok(())
            };
            whole.push(&events, &mut sink)?;
            whole.finish(&mut sink)?;
            let shape = [frames.len() / 512, 1, 16, 16, 2];
            let x = match kind {
                encode::Kind::Raster => Tensor::spikes_from_f32(&Device::Cpu, &shape, &frames)?,
                _ => Tensor::from_f32(&Device::Cpu, &shape, &frames)?,
            };
            let mut session = Session::new(net, fold(&params)?);
            session.push(&x)?;
            let want = session.scores();
            for piece in [1, 700, 3000] {
                session.reset();
                let mut encoder = encoder()?;
                let mut steps = session.push_events(&mut encoder, &[])?.shape()[0];
                for piece in events.chunks(piece) {
                    steps += session.push_events(&mut encoder, piece)?.shape()[0];
                }
                steps += session.finish_events(&mut encoder)?.shape()[0];
                expect(&format!("{} {kind:?} in pieces of {piece}", name(&spec)), &session.scores(), &want)?;
                if (steps, session.steps()) != (shape[0], shape[0]) || shape[0] < 4 {
                    return Err(format!("{steps} steps for {}", shape[0]).into());
                }
            }
        }
    }
    Ok(())
}

/// Every network, on the CPU and on the GPU.
pub fn trials() -> Vec<Trial> {
    type Check = fn(&Spec, &Device) -> Outcome;
    let mut out = Vec::new();
    for spec in specs() {
        let checks: [(&str, Check); 3] = [("fold::dyadic", fold_dyadic), ("fold::random", fold_random), ("chunks", chunks)];
        for (what, check) in checks {
            let (s, name) = (spec.clone(), name(&spec));
            out.push(gpu::trial(format!("infer::{what}::gpu::{name}"), move |d| check(&s, d)));
            let s = spec.clone();
            out.push(Trial::test(format!("infer::{what}::cpu::{name}"), move || check(&s, &Device::Cpu)));
        }
    }
    out.push(Trial::test("infer::events", events));
    out
}
