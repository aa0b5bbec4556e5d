//! Parameters by name. Modules hold [`ParamId`]s, [`Params`] holds the data: checkpoints, optimisers, moves between devices and
//! batch-norm folding work on `Params` alone.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::Tensor;
use crate::tensor::torch::Layout;
use ndarray_rand::rand_distr::{Distribution, Normal, Uniform};
use std::collections::{BTreeMap, HashSet};

/// Tensors in PyTorch's layout: name to shape and data.
pub type TorchTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A parameter's place in its [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(usize);

/// What a parameter is for; decides about weight decay and whether it is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Synaptic weights.
    Weight,
    /// Biases.
    Bias,
    /// Gain and shift of a norm, and learned neuron constants.
    Norm,
    /// Running statistics: stored, not learned.
    Buffer,
}

/// One named tensor.
#[derive(Clone)]
pub struct Param {
    /// Path of the module and its own name: `block.0.attn.q.0.conv.weight`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// How PyTorch holds it.
    pub layout: Layout,
    /// The value.
    pub value: Tensor,
}

/// All parameters of a model, in the order of construction.
#[derive(Clone)]
pub struct Params {
    device: Device,
    list: Vec<Param>,
    learned: HashSet<u64>,
    folded: bool,
}

impl Params {
    /// None yet.
    pub fn new(device: &Device) -> Self {
        Params { device: device.clone(), list: Vec::new(), learned: HashSet::new(), folded: false }
    }
    /// Where they live.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// One parameter.
    pub fn get(&self, id: ParamId) -> &Param {
        &self.list[id.0]
    }
    /// All with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Param)> {
        self.list.iter().enumerate().map(|(i, p)| (ParamId(i), p))
    }
    /// The id behind a name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.list.iter().position(|p| p.name == name).map(ParamId)
    }
    /// Whether a tensor of this identity is a learned parameter.
    pub fn is_learned(&self, tensor: u64) -> bool {
        self.learned.contains(&tensor)
    }
    /// Number of learnable scalars, as the papers count parameters.
    pub fn learnable(&self) -> usize {
        self.list.iter().filter(|p| p.role != Role::Buffer).map(|p| p.value.len()).sum()
    }
    /// Whether every batch norm has gain 1 and mean 0, so that inference need only add its bias (`nn::fold`).
    pub fn is_folded(&self) -> bool {
        self.folded
    }
    /// States that every batch norm has gain 1 and mean 0, and every convolution before one bias 0; holds until the next
    /// [`Params::update`].
    pub(crate) fn mark_folded(&mut self) {
        self.folded = true;
    }
    fn add(&mut self, p: Param) -> ParamId {
        if p.role != Role::Buffer {
            self.learned.insert(p.value.id());
        }
        self.list.push(p);
        ParamId(self.list.len() - 1)
    }
    /// Replaces values. Folded parameters count as not folded from then on.
    pub fn update(&mut self, new: impl IntoIterator<Item = (ParamId, Tensor)>) {
        self.folded = false;
        for (id, value) in new {
            let p = &mut self.list[id.0];
            if p.role != Role::Buffer {
                self.learned.remove(&p.value.id());
                self.learned.insert(value.id());
            }
            p.value = value;
        }
    }
    /// Sets a parameter from data in PyTorch's layout.
    ///
    /// # Errors
    /// A shape other than the parameter's; the message names both.
    pub fn set_torch(&mut self, id: ParamId, shape: &[usize], data: &[f32]) -> Result<()> {
        let p = &self.list[id.0];
        let want = p.layout.torch_shape(p.value.shape());
        if want != shape {
            return Err(Error::shape(p.name.clone(), format!("the model has {want:?}, the file {shape:?}")));
        }
        let value = Tensor::from_f32(&self.device, p.value.shape(), &p.layout.from_torch(shape, data))?;
        self.update([(id, value)]);
        Ok(())
    }
    /// Every tensor in PyTorch's layout: name to shape and data.
    pub fn to_torch(&self) -> Result<TorchTensors> {
        self.list.iter().map(|p| Ok((p.name.clone(), p.layout.to_torch(p.value.shape(), &p.value.to_vec()?)))).collect()
    }
    /// Copies everything to another device.
    pub fn to_device(&self, device: &Device) -> Result<Params> {
        let mut out = Params::new(device);
        for p in &self.list {
            out.add(Param { value: p.value.to_device(device)?, ..p.clone() });
        }
        out.folded = self.folded;
        Ok(out)
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// A constant.
    Constant(f32),
    /// Uniform in +-1/sqrt(fan_in), as PyTorch's linear and convolution layers start.
    FanIn(usize),
    /// Normal with this deviation.
    Normal(f32),
}

/// Parameters of a network: 8 GiB, and three times as much again to train them.
const MOST: usize = 1 << 31;

/// Hands out names and initial values while a model is built.
pub struct Build<'a> {
    params: &'a mut Params,
    rng: Rng,
    path: String,
}

impl<'a> Build<'a> {
    /// At the root of a model.
    pub fn new(params: &'a mut Params, seed: u64) -> Self {
        Build { params, rng: Rng::new(seed).stream("init"), path: String::new() }
    }
    /// One level down: names made there begin with this path and `name`.
    pub fn scope(&mut self, name: impl std::fmt::Display) -> Build<'_> {
        Build { path: self.join(&name.to_string()), params: self.params, rng: self.rng.clone() }
    }
    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
    /// The full name of `name` at this place.
    pub fn name(&self, name: &str) -> String {
        self.join(name)
    }
    /// The path of this place.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// A new parameter; its random start depends on seed and name alone.
    pub fn param(&mut self, name: &str, shape: &[usize], role: Role, layout: Layout, init: Init) -> Result<ParamId> {
        let full = self.join(name);
        let mut rng = self.rng.stream(full.as_str());
        let bad = |e: &dyn std::fmt::Display| Error::shape(full.clone(), e.to_string());
        let before: usize = self.params.list.iter().map(|p| p.value.len()).sum();
        let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| n.saturating_add(before) <= MOST);
        let Some(n) = n else {
            return Err(bad(&format!("a weight of {shape:?} makes a network of more than {MOST} parameters, which is the most")));
        };
        let data: Vec<f32> = match init {
            Init::Constant(v) => vec![v; n],
            Init::FanIn(fan) => {
                let b = 1.0 / (fan.max(1) as f32).sqrt();
                Uniform::new_inclusive(-b, b).map_err(|e| bad(&e))?.sample_iter(&mut rng).take(n).collect()
            }
            Init::Normal(sd) => Normal::new(0.0, sd).map_err(|e| bad(&e))?.sample_iter(&mut rng).take(n).collect(),
        };
        let value = Tensor::from_f32(&self.params.device.clone(), shape, &data)?;
        Ok(self.params.add(Param { name: full, role, layout, value }))
    }
}
