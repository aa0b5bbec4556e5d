//! Fixtures made with PyTorch and SpikingJelly: whatever files lie in the folder, every setting read from their metadata.

use crate::{gpu, oracle_train, shared};
use libtest_mimic::{Failed, Trial};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use spikemix::counts::Counts;
use spikemix::ctx::{Ctx, Module, Op};
use spikemix::device::Device;
use spikemix::model::transformer::{attention, perceptron};
use spikemix::model::{self, Net, Spec};
use spikemix::moe::{Hidden, Semm};
use spikemix::neuron::Neuron;
use spikemix::nn::mlp::Mlp;
use spikemix::nn::patch::Sps;
use spikemix::ops::neuron::{NeuronLayer, Wants};
use spikemix::params::{Build, Params};
use spikemix::tensor::torch::{channel_first, channel_last};
use spikemix::tensor::{Repr, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub type Outcome = Result<(), Failed>;

/// Compares one fixture on one device.
type Run = fn(&Path, &Device) -> Outcome;

/// A fixture: tensors in PyTorch's layout, and its settings.
pub struct Fixture {
    /// Name to shape and values (integers as floats).
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// The metadata's `settings`.
    pub settings: Value,
}

impl Fixture {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failed> {
        let bytes = std::fs::read(path)?;
        let (_, meta) = SafeTensors::read_metadata(&bytes)?;
        let settings = meta.metadata().as_ref().and_then(|m| m.get("settings")).ok_or("no settings")?;
        let mut tensors = BTreeMap::new();
        for (name, t) in SafeTensors::deserialize(&bytes)?.tensors() {
            let values = match t.dtype() {
                Dtype::F32 => t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::I64 => t.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32).collect(),
                other => return Err(format!("{name}: {other:?}").into()),
            };
            tensors.insert(name, (t.shape().to_vec(), values));
        }
        Ok(Fixture { tensors, settings: serde_json::from_str(settings)? })
    }
    /// A tensor by name.
    pub fn get(&self, name: &str) -> Result<(&[usize], &[f32]), Failed> {
        let (s, v) = self.tensors.get(name).ok_or_else(|| format!("the fixture has no {name}"))?;
        Ok((s, v))
    }
    /// Tensors whose name begins with `prefix`, without it.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])> {
        self.tensors.iter().filter_map(move |(k, (s, v))| Some((k.strip_prefix(prefix)?, s.as_slice(), v.as_slice())))
    }
    /// An image tensor as channel last on a device: spikes and integers packed where they are that, else floats.
    pub fn image(&self, name: &str, device: &Device, packed: bool) -> Result<Tensor, Failed> {
        let (s, v) = self.get(name)?;
        let (s, v) = channel_last(s, v);
        let integer = v.iter().all(|x| *x >= 0.0 && x.fract() == 0.0);
        Ok(match packed && integer {
            true => Tensor::planes_from_f32(device, &s, &v)?,
            false => Tensor::from_f32(device, &s, &v)?,
        })
    }
    /// A number of the settings.
    pub fn f32(&self, key: &str) -> Option<f32> {
        self.settings.get(key)?.as_f64().map(|v| v as f32)
    }
    fn usize(&self, key: &str) -> Option<usize> {
        self.settings.get(key)?.as_u64().map(|v| v as usize)
    }
    fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.as_str()
    }
    fn flag(&self, key: &str) -> Option<bool> {
        self.settings.get(key)?.as_bool()
    }

    /// The network of a `model/`, `train/` or `layer/` fixture.
    pub fn spec(&self) -> Result<Spec, Failed> {
        let kind = self.text("kind").ok_or("no kind")?;
        let net = match kind {
            "spikingformer" => Net::Spikingformer,
            "spike_driven" | "sdsa" => Net::SpikeDriven,
            k if k.starts_with("pre_lif") => Net::Spikingformer,
            _ => Net::Spikformer,
        };
        let mut spec = Spec { net, scale: self.f32("scale"), ..Spec::default() };
        let set = |field: &mut usize, key: &str| *field = self.usize(key).unwrap_or(*field);
        set(&mut spec.in_channels, "cin");
        set(&mut spec.classes, "classes");
        set(&mut spec.dim, "dim");
        set(&mut spec.depth, "depth");
        set(&mut spec.heads, "heads");
        if let Some(tau) = self.f32("tau") {
            spec.neuron.tau = tau;
        }
        if let Some(pools) = self.settings.get("pools") {
            spec.pools = Some(serde_json::from_value(pools.clone())?);
        }
        if self.flag("semm") == Some(true) || kind.contains("ems") {
            let mut s = Semm::default();
            set(&mut s.experts, "experts");
            s.expert_dim = self.usize("expert_dim");
            s.scale = self.f32("scale");
            s.v_threshold = self.f32("v_threshold").unwrap_or(s.v_threshold);
            s.depthwise = self.flag("depthwise").unwrap_or(s.depthwise);
            s.hidden = self.usize("hidden").map_or(s.hidden, Hidden::Channels);
            if let Some(w) = self.settings.get("width") {
                s.width = serde_json::from_value(w.clone())?;
            }
            spec.semm = Some(s);
        }
        Ok(spec)
    }

    /// The network of the fixture with its weights.
    pub fn build(&self, device: &Device) -> Result<(Box<dyn Module>, Params), Failed> {
        let spec = self.spec()?;
        let mut params = Params::new(device);
        let b = &mut Build::new(&mut params, 0);
        let net = match self.text("kind").unwrap_or_default() {
            "spikformer" | "spikingformer" | "spike_driven" => model::build(&spec, b)?,
            "sps" => Box::new(Sps::new(b, spec.in_channels, spec.dim, spec.pools(), spec.neuron)?),
            "mlp" => {
                let hidden = self.usize("hidden").ok_or("no hidden")?;
                Box::new(Mlp::new(b, spikemix::nn::attention::Residual::Spikes, spec.dim, hidden, spec.neuron)?)
            }
            "ssa" | "sdsa" | "emsa" | "pre_lif_ssa" | "pre_lif_emsa" => attention(&spec, b)?,
            "emsp" | "pre_lif_emsp" => perceptron(&spec, b)?,
            other => return Err(format!("kind {other:?} is not known to this test").into()),
        };
        self.load(&mut params)?;
        Ok((net, params))
    }

    /// Sets every parameter and running statistic from `before.*`, all of which must be used.
    pub fn load(&self, params: &mut Params) -> Outcome {
        let mut used = 0;
        for id in params.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            let (shape, data) = self.get(&format!("before.{}", params.get(id).name))?;
            params.set_torch(id, shape, data)?;
            used += 1;
        }
        let given = self.under("before.").count();
        if used != given {
            return Err(format!("the fixture has {given} parameters, the network {used}").into());
        }
        Ok(())
    }
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// |got - want| <= bound |want| + floor, in the Euclidean norm.
pub fn close(name: &str, got: &[f32], want: &[f32], bound: f64, floor: f64) -> Outcome {
    if got.len() != want.len() {
        return Err(format!("{name}: {} values for {}", got.len(), want.len()).into());
    }
    let diff: Vec<f32> = got.iter().zip(want).map(|(a, b)| a - b).collect();
    let (d, w) = (norm(&diff), norm(want));
    match d <= bound * w + floor {
        true => Ok(()),
        false => Err(format!("{name}: differs by {d:e} of a norm of {w:e}").into()),
    }
}

fn equal(name: &str, got: &[f32], want: &[f32]) -> Outcome {
    match got.len() == want.len() && got.iter().zip(want).all(|(a, b)| a == b) {
        true => Ok(()),
        false => Err(format!("{name}: {} of {} differ", got.iter().zip(want).filter(|(a, b)| a != b).count(), want.len()).into()),
    }
}

/// `sigmoid4` is the surrogate `sigmoid` with alpha 4.
fn neuron_settings(f: &Fixture) -> Result<Neuron, Failed> {
    let sg = f.text("surrogate").ok_or("no surrogate")?;
    let key = sg.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let mut n = Neuron { detach_reset: false, alpha: sg[key.len()..].parse()?, ..Neuron::default() };
    n.surrogate = serde_json::from_value(key.into())?;
    n.neuron = serde_json::from_value(f.settings["neuron"].clone())?;
    n.tau = f.f32("tau").or(f.f32("init_tau")).unwrap_or(n.tau);
    n.decay_input = f.flag("decay_input").unwrap_or(n.decay_input);
    n.detach_reset = f.flag("detach_reset").unwrap_or(n.detach_reset);
    n.v_threshold = f.f32("v_threshold").unwrap_or(n.v_threshold);
    if let Some(v) = f.settings.get("v_reset") {
        n.v_reset = v.as_f64().map(|v| v as f32);
    }
    Ok(n)
}

fn neuron(path: &Path, device: &Device) -> Outcome {
    let f = Fixture::read(path)?;
    let neuron = neuron_settings(&f)?;
    let tensor = |name: &str| -> Result<Tensor, Failed> {
        let (s, v) = f.get(name)?;
        Ok(Tensor::from_f32(device, s, v)?)
    };
    let x = tensor("x")?;
    let op = NeuronLayer { wants: Wants { v: true, v_seq: true }, ..NeuronLayer::plain(neuron) };
    let w = if neuron.neuron.learns_tau() { Some(tensor("w")?) } else { None };
    let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&w).collect();
    let out = op.forward(&inputs)?;
    equal("s", &out.outputs[0].to_vec()?, f.get("s")?.1)?;
    let v_seq = out.outputs[2].to_vec()?;
    close("v", &v_seq, f.get("v")?.1, 1e-5, 0.0)?;
    equal("the last v", &out.outputs[1].to_vec()?, &v_seq[v_seq.len() - out.outputs[1].len()..])?;
    let mut dy = [Some(tensor("grad_s")?), None, Some(tensor("grad_v")?)];
    let grads = op.backward(&out.saved, &mut dy, &vec![true; inputs.len()])?;
    close("grad_x", &grads[0].as_ref().ok_or("no grad_x")?.to_vec()?, f.get("grad_x")?.1, 1e-5, 0.0)?;
    if w.is_some() {
        close("grad_w", &grads[1].as_ref().ok_or("no grad_w")?.to_vec()?, f.get("grad_w")?.1, 1e-5, 0.0)?;
    }
    // Step by step with the state carried: the same spikes.
    let (steps, n) = (x.shape()[0], x.shape()[1]);
    let (all, mut v) = (x.to_vec()?, None::<Tensor>);
    for t in 0..steps {
        let xt = Tensor::from_f32(device, &[1, n], &all[t * n..(t + 1) * n])?;
        let op = NeuronLayer { wants: Wants { v: true, v_seq: false }, has_v0: v.is_some(), ..NeuronLayer::plain(neuron) };
        let inputs: Vec<&Tensor> = std::iter::once(&xt).chain(&w).chain(&v).collect();
        let out = op.forward(&inputs)?.outputs;
        equal(&format!("s[{t}] single-step"), &out[0].to_vec()?, &f.get("s")?.1[t * n..(t + 1) * n])?;
        v = Some(out[1].clone());
    }
    Ok(())
}

/// A layer or a whole network, forward and backward in training mode.
fn network(path: &Path, device: &Device) -> Outcome {
    let f = Fixture::read(path)?;
    // Inputs that are spikes or integers go in both ways; what comes out must be the same.
    one_network(&f, device, true)?;
    one_network(&f, device, false)
}

fn one_network(f: &Fixture, device: &Device, packed: bool) -> Outcome {
    let (net, mut params) = f.build(device)?;
    let x = f.image("x", device, packed)?;
    // The post-LIF layers add their input as spikes; they do not take floats.
    if x.repr() == Repr::F32 && packed {
        return Ok(());
    }
    let (want_shape, want_y) = f.get("y")?;
    let (y, grads, updates, counts);
    {
        let mut cx = Ctx::train(&params).with_counts(Counts::default());
        cx.watch(&x);
        let out = match net.forward(&x, &mut cx) {
            Err(e) if !packed && e.to_string().contains("expected packed spikes") => return Ok(()),
            out => out?,
        };
        let dy;
        if let Ok((_, labels)) = f.get("labels") {
            let labels: Vec<u32> = labels.iter().map(|&l| l as u32).collect();
            let loss = spikemix::loss::Loss::CrossEntropy { label_smoothing: f.f32("label_smoothing").unwrap_or(0.0) };
            let got = loss.compute(&out, &labels, None)?;
            close("loss", &[got.loss.item()?], f.get("loss")?.1, 1e-3, 0.0)?;
            let (steps, all) = (out.shape()[0], out.to_vec()?);
            let n = all.len() / steps;
            y = (0..n).map(|i| (0..steps).map(|t| all[t * n + i]).sum::<f32>() / steps as f32).collect();
            dy = got.grad;
        } else {
            y = channel_first(out.shape(), &out.to_vec()?).1;
            let (s, v) = f.get("grad_y")?;
            let (s, v) = channel_last(s, v);
            dy = Tensor::from_f32(device, &s, &v)?;
        }
        grads = cx.backward(&out, dy)?;
        (updates, counts) = cx.finish();
    }
    let spiking = want_y.iter().all(|v| v.fract() == 0.0);
    match spiking {
        true => equal("y", &y, want_y)?,
        false => close(&format!("y {want_shape:?}"), &y, want_y, 1e-3, 0.0)?,
    }
    let counts = counts.ok_or("no counts")?;
    for (name, _, rate) in f.under("rate.") {
        let row = counts.rows.iter().find(|r| r.name == name && r.op == "neuron").ok_or_else(|| format!("no neurons {name}"))?;
        // A rate is a count of spikes over a count of places: equal up to the fixture's rounding to float32.
        equal(&format!("rate.{name}"), &[row.rate() as f32], rate)?;
    }
    let gx = grads.of(&x).ok_or("no gradient of x")?;
    close("grad_x", &channel_first(x.shape(), &gx.to_vec()?).1, f.get("grad_x")?.1, 1e-3, 0.0)?;
    // A bias in front of a batch norm has no gradient in exact arithmetic; what rounding leaves is measured by the largest gradient.
    let largest = f.under("grad.").map(|(_, _, v)| norm(v)).fold(0.0, f64::max);
    for (name, _, want) in f.under("grad.") {
        let id = params.find(name).ok_or_else(|| format!("no parameter {name}"))?;
        let p = params.get(id);
        let got = grads.of(&p.value).ok_or_else(|| format!("no gradient of {name}"))?;
        let (_, got) = p.layout.to_torch(got.shape(), &got.to_vec()?);
        close(&format!("grad.{name}"), &got, want, 1e-3, 2e-6 * largest)?;
    }
    params.update(updates);
    for (name, _, want) in f.under("after.") {
        let id = params.find(name).ok_or_else(|| format!("no parameter {name}"))?;
        close(&format!("after.{name}"), &params.get(id).value.to_vec()?, want, 1e-3, 0.0)?;
    }
    Ok(())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut v: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    v.sort();
    v
}

/// One trial for each fixture and device.
pub fn trials() -> Vec<Trial> {
    let dir = shared::folder("SPIKEMIX_ORACLE", "oracle");
    if !dir.is_dir() {
        return vec![shared::absent("oracle", &dir)];
    }
    let mut trials = Vec::new();
    let kinds: [(&str, Run); 5] = [
        ("neuron", neuron),
        ("layer", network),
        ("model", network),
        ("loss", oracle_train::losses),
        ("train", oracle_train::trajectory),
    ];
    for (kind, run) in kinds {
        let found = files(&dir.join(kind));
        if found.is_empty() {
            trials.push(shared::absent(&format!("oracle::{kind}"), &dir.join(kind)));
        }
        for path in found {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let gpu_path = path.clone();
            trials.push(Trial::test(format!("oracle::cpu::{kind}::{stem}"), move || run(&path, &Device::Cpu)));
            trials.push(gpu::trial(format!("oracle::gpu::{kind}::{stem}"), move |d| run(&gpu_path, d)));
        }
    }
    trials
}
