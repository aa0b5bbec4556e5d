//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in PyTorch's arithmetic.

use crate::ctx::Gradients;
use crate::error::{Error, Result};
use crate::kernel::optim::{self as kernel, AdamWU};
use crate::params::{ParamId, Params, Role};
use crate::tensor::torch::Named;
use crate::tensor::{Repr, Tensor, launch};
use std::collections::BTreeMap;

/// Settings of [`AdamW`] besides the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSpec {
    /// Share of a weight, times the learning rate, that each step takes off it.
    pub weight_decay: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub eps: f64,
    /// Whether norms, biases and learned neuron constants decay too, as in the peers' recipes.
    pub decay_norms_and_biases: bool,
}

impl Default for AdamWSpec {
    fn default() -> Self {
        AdamWSpec { weight_decay: 0.06, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay_norms_and_biases: true }
    }
}

/// The optimiser and its state: means of gradient (m) and squared gradient (v) of every learned parameter.
pub struct AdamW {
    spec: AdamWSpec,
    steps: u64,
    state: BTreeMap<ParamId, [Tensor; 2]>,
}

impl AdamW {
    /// At rest.
    pub fn new(spec: AdamWSpec) -> Self {
        AdamW { spec, steps: 0, state: BTreeMap::new() }
    }
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// One step: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p = p (1 - lr wd) - lr m' / (sqrt(v') + eps), with m' and v' the
    /// means corrected for their start at 0. One launch a parameter. A parameter that no gradient reached stays as it is.
    ///
    /// # Errors
    /// A device's own.
    pub fn step(&mut self, params: &mut Params, gradients: &Gradients, lr: f64) -> Result<()> {
        self.steps += 1;
        let mut new = Vec::new();
        for (id, p) in params.iter().filter(|(_, p)| p.role != Role::Buffer) {
            let Some(g) = gradients.of(&p.value) else { continue };
            let decays = p.role == Role::Weight || self.spec.decay_norms_and_biases;
            let weight_decay = if decays { self.spec.weight_decay } else { 0.0 };
            let [m, v] = match self.state.remove(&id) {
                Some(state) => state,
                None => [Tensor::zeros(params.device(), p.value.shape())?, Tensor::zeros(params.device(), p.value.shape())?],
            };
            let [value, m, v] = self.update(&p.value, g, &m, &v, lr, weight_decay)?;
            self.state.insert(id, [m, v]);
            new.push((id, value));
        }
        params.update(new);
        Ok(())
    }
    fn update(&self, p: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor, lr: f64, weight_decay: f64) -> Result<[Tensor; 3]> {
        let AdamWSpec { beta1, beta2, eps, .. } = self.spec;
        // What the kernel's weights of all steps add up to: of beta as it sees it, in f64, for 1 - beta2 is small.
        let bias = |beta: f64| (1.0 - f64::from(beta as f32).powf(self.steps as f64)) as f32;
        let u = AdamWU {
            n: p.len() as u32,
            lr: lr as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            weight_decay: weight_decay as f32,
            bias1: bias(beta1),
            bias2: bias(beta2),
        };
        let out = (p.shape(), Repr::F32);
        let new = launch(p.device(), &kernel::AdamW, &u, &[p, g, m, v], &[out; 3])?;
        <[Tensor; 3]>::try_from(new).map_err(|_| Error::shape("adamw", "the kernel has three outputs"))
    }

    /// The state in PyTorch's layout, named `m.<parameter>` and `v.<parameter>`.
    ///
    /// # Errors
    /// A device's own.
    pub fn to_named(&self, params: &Params) -> Result<Named> {
        let mut out = Named::new();
        for (id, state) in &self.state {
            let p = params.get(*id);
            for (letter, t) in ["m", "v"].iter().zip(state) {
                out.insert(format!("{letter}.{}", p.name), p.layout.to_torch(t.shape(), &t.to_vec()?));
            }
        }
        Ok(out)
    }
    /// Takes up a state that [`AdamW::to_named`] gave after `steps` steps.
    ///
    /// # Errors
    /// Tensors that are not those of `params`: the name, and the shapes where they differ.
    pub fn from_named(spec: AdamWSpec, params: &Params, steps: u64, named: &Named) -> Result<Self> {
        let mut state = BTreeMap::new();
        let mut used = 0;
        for (id, p) in params.iter() {
            let get = |letter: &str| -> Result<Option<Tensor>> {
                let name = format!("{letter}.{}", p.name);
                let Some((shape, data)) = named.get(&name) else { return Ok(None) };
                let want = p.layout.torch_shape(p.value.shape());
                if *shape != want {
                    return Err(Error::shape(name, format!("the model has {want:?}, the file {shape:?}")));
                }
                Tensor::from_f32(params.device(), p.value.shape(), &p.layout.from_torch(shape, data)).map(Some)
            };
            if let (Some(m), Some(v)) = (get("m")?, get("v")?) {
                state.insert(id, [m, v]);
                used += 2;
            }
        }
        if used != named.len() {
            let known =
                |n: &str| n.split_once('.').is_some_and(|(_, p)| params.find(p).is_some_and(|id| state.contains_key(&id)));
            let stray = named.keys().find(|n| !known(n)).cloned().unwrap_or_default();
            return Err(Error::shape(stray, "this state of the optimiser belongs to no parameter of the model"));
        }
        Ok(AdamW { spec, steps, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Forward, Op};
    use crate::device::Device;
    use crate::params::{Build, Init};
    use crate::tensor::torch::Layout;

    /// Passes its input on and sends 2 x back: the gradient of x^2.
    struct Square;
    impl Op for Square {
        fn name(&self) -> &'static str {
            "square"
        }
        fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
            let v = x[0].to_vec()?;
            let y = Tensor::from_f32(x[0].device(), x[0].shape(), &v.iter().map(|v| v * v).collect::<Vec<_>>())?;
            Ok(Forward::one(y, vec![x[0].clone()]))
        }
        fn backward(&self, saved: &[Tensor], _: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
            let v = saved[0].to_vec()?;
            Ok(vec![Some(Tensor::from_f32(saved[0].device(), saved[0].shape(), &v.iter().map(|v| 2.0 * v).collect::<Vec<_>>())?)])
        }
    }

    fn params() -> Params {
        let mut p = Params::new(&Device::Cpu);
        let mut b = Build::new(&mut p, 0);
        b.param("w", &[2, 1], Role::Weight, Layout::Linear, Init::Constant(1.0)).unwrap();
        b.param("b", &[2], Role::Bias, Layout::Plain, Init::Constant(-2.0)).unwrap();
        b.param("mean", &[2], Role::Buffer, Layout::Plain, Init::Constant(3.0)).unwrap();
        p
    }
    fn step(opt: &mut AdamW, p: &mut Params, lr: f64) {
        for name in ["w", "b"] {
            let id = p.find(name).unwrap();
            let mut cx = Ctx::train(p);
            let x = cx.param(id);
            let y = cx.apply1("t", Square, &[&x]).unwrap();
            let g = cx.backward(&y, y.clone()).unwrap();
            // One parameter has a gradient in each of the two steps.
            opt.step(p, &g, lr).unwrap();
        }
    }
    fn value(p: &Params, name: &str) -> f32 {
        p.get(p.find(name).unwrap()).value.to_vec().unwrap()[0]
    }

    #[test]
    fn first_steps_by_hand() {
        // After one step m' / sqrt(v') is the sign of the gradient.
        let (mut p, mut opt) = (params(), AdamW::new(AdamWSpec { weight_decay: 0.1, ..AdamWSpec::default() }));
        step(&mut opt, &mut p, 0.5);
        assert!((value(&p, "w") - (1.0 * 0.95 - 0.5)).abs() < 1e-6);
        assert_eq!((value(&p, "mean"), opt.steps()), (3.0, 2));
        let mut q = params();
        let bare = AdamWSpec { weight_decay: 0.1, decay_norms_and_biases: false, ..AdamWSpec::default() };
        step(&mut AdamW::new(bare), &mut q, 0.5);
        assert!((value(&p, "b") - value(&q, "b") - 0.1).abs() < 1e-6);
        assert_eq!(value(&p, "w"), value(&q, "w"));
    }

    #[test]
    fn state_is_taken_up_to_the_bit() {
        let (mut p, mut opt) = (params(), AdamW::new(AdamWSpec::default()));
        step(&mut opt, &mut p, 0.01);
        let named = opt.to_named(&p).unwrap();
        assert_eq!(named.keys().collect::<Vec<_>>(), ["m.b", "m.w", "v.b", "v.w"]);
        assert_eq!(named["m.w"].0, [1, 2]);
        let mut q = p.clone();
        let mut again = AdamW::from_named(AdamWSpec::default(), &q, opt.steps(), &named).unwrap();
        step(&mut opt, &mut p, 0.01);
        step(&mut again, &mut q, 0.01);
        assert_eq!(p.to_torch().unwrap(), q.to_torch().unwrap());
        let mut bad = named.clone();
        bad.insert("m.x".into(), (vec![1], vec![0.0]));
        let e = AdamW::from_named(AdamWSpec::default(), &q, 1, &bad).err().unwrap().to_string();
        assert!(e.starts_with("m.x: "), "{e}");
        let mut bad = named;
        bad.insert("m.w".into(), (vec![2], vec![0.0; 2]));
        assert!(
            AdamW::from_named(AdamWSpec::default(), &q, 1, &bad).err().unwrap().to_string().contains("m.w: the model has [1, 2]")
        );
    }
}
