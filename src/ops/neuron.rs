//! A layer of neurons over all T steps, with the batch norm before it fused in where there is one.

use super::active::{Active, no_backward};
use super::none;
use super::norm::{Stats, backward_norm, backward_norm_of_sums};
use crate::counts::Cost;
use crate::ctx::{Forward, Op};
use crate::error::{Error, Result};
use crate::kernel::active::Fire;
use crate::kernel::loss::{Sum, SumU};
use crate::kernel::neuron::{Backward as BackwardKernel, BackwardNorm, Forward as ForwardKernel, NeuronU};
use crate::neuron::Neuron;
use crate::padding::Padding;
use crate::tensor::{Repr, Tensor, launch, launch_onto, launch1};

/// What a neuron layer is asked for besides its spikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The membrane after the last step, `[.., C]` without T.
    pub v: bool,
    /// The membrane after each step, `[T, .., C]` (SpikingJelly's `store_v_seq`).
    pub v_seq: bool,
}

/// x `[T, .., C]` -> spikes `[T, .., C]`.
///
/// Inputs: x; then gamma, beta, mean, var `[C]` where `norm` is set (mean and var are the running ones, used unless `norm` is training);
/// then w `[1]` for a neuron that learns tau; then v0 `[.., C]` where `has_v0`. Outputs: spikes; the membranes that `wants` names; then
/// the batch's mean and (biased) variance `[C]` where the norm is training.
///
/// No gradient flows into v0: training starts each clip from rest.
pub struct NeuronLayer {
    /// The neuron.
    pub neuron: Neuron,
    /// The batch norm before it.
    pub norm: Option<Norm>,
    /// Whether the membrane starts from a given one.
    pub has_v0: bool,
    /// Membranes wanted.
    pub wants: Wants,
    /// The rows that x holds, where it does not hold all of them: x is `[rows, C]` then, and there is neither `v_seq` nor backward.
    pub active: Option<Active>,
    /// Whether these are not all channels of the layer, so that whoever asks counts its spikes.
    pub is_part: bool,
}

/// How a batch norm takes its statistics.
#[derive(Clone, Debug)]
pub struct Norm {
    /// From the batch; else the running ones given.
    pub training: bool,
    /// Added to the variance.
    pub eps: f32,
    /// Which steps of the batch are real; all if none.
    pub padding: Option<Padding>,
}

struct Inputs<'a> {
    x: &'a Tensor,
    norm: Option<[&'a Tensor; 4]>,
    w: Option<&'a Tensor>,
    v0: Option<&'a Tensor>,
}

impl NeuronLayer {
    /// A plain layer of neurons.
    pub fn plain(neuron: Neuron) -> Self {
        NeuronLayer { neuron, norm: None, has_v0: false, wants: Wants::default(), active: None, is_part: false }
    }
    fn inputs<'a>(&self, x: &[&'a Tensor]) -> Result<Inputs<'a>> {
        let mut rest = x.iter().copied();
        let mut next = || rest.next().ok_or_else(|| Error::shape("neuron", "too few inputs"));
        Ok(Inputs {
            x: next()?,
            norm: if self.norm.is_some() { Some([next()?, next()?, next()?, next()?]) } else { None },
            w: if self.neuron.neuron.learns_tau() { Some(next()?) } else { None },
            v0: if self.has_v0 { Some(next()?) } else { None },
        })
    }
    /// `[T, .., C]`, whatever of it x holds.
    fn shape(&self, x: &Tensor) -> Vec<usize> {
        self.active.as_ref().map_or_else(|| x.shape().to_vec(), |a| a.shape(x.channels()))
    }
    fn uniform(&self, x: &Tensor) -> NeuronU {
        let shape = self.shape(x);
        let steps = shape.first().copied().unwrap_or(0);
        let all: usize = shape[..shape.len().saturating_sub(1)].iter().product();
        let rows = all.checked_div(steps).unwrap_or(0);
        NeuronU { affine: u32::from(self.norm.is_some()), ..NeuronU::new(&self.neuron, steps, rows, x.channels()) }
    }
}

impl Op for NeuronLayer {
    fn name(&self) -> &'static str {
        "neuron"
    }
    fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
        let Inputs { x, norm, w, v0 } = self.inputs(x)?;
        x.expect_f32(self.name())?;
        let device = x.device();
        let empty = none(device)?;
        let c = x.channels();
        let mut stats = Vec::new();
        let (a, b) = match (&self.norm, norm) {
            (Some(n), Some([gamma, beta, mean, var])) => {
                let s =
                    if n.training { Stats::of(x, n.padding.as_ref())? } else { Stats { mean: mean.clone(), var: var.clone() } };
                let ab = s.affine(gamma, beta, n.eps)?;
                if n.training {
                    stats = vec![s.mean, s.var];
                }
                ab
            }
            _ => (empty.clone(), empty.clone()),
        };
        let shape = self.shape(x);
        let one_step = &shape[1.min(shape.len())..];
        let sized = |on: bool, shape: &[usize]| if on { shape.to_vec() } else { vec![0] };
        if v0.is_some_and(|v| v.shape() != one_step) {
            return Err(Error::shape(self.name(), format!("state {:?} for input {:?}", v0.map(Tensor::shape), x.shape())));
        }
        let u = NeuronU {
            has_v0: u32::from(v0.is_some()),
            store_v: u32::from(self.wants.v),
            store_v_seq: u32::from(self.wants.v_seq),
            ..self.uniform(x)
        };
        let (v, v_seq) = (sized(self.wants.v, one_step), sized(self.wants.v_seq, &shape));
        let kind = self.neuron.neuron;
        let (w, v0) = (w.unwrap_or(&empty), v0.unwrap_or(&empty));
        let outs = match &self.active {
            None => {
                let outputs = [(&shape[..], Repr::Bits { planes: 1 }), (&v, Repr::F32), (&v_seq, Repr::F32)];
                launch(device, &ForwardKernel { kind }, &u, &[x, &a, &b, w, v0], &outputs)?
            }
            Some(active) => {
                if self.wants.v_seq || self.norm.as_ref().is_some_and(|n| n.training) {
                    return Err(Error::shape(self.name(), "every row is needed, some are given"));
                }
                let outputs = [(&shape[..], Repr::Bits { planes: 1 }), (&v, Repr::F32)];
                if active.shares() && (self.wants.v || self.has_v0) {
                    return Err(Error::shape(self.name(), "places that share their neurons have no state of their own"));
                }
                let mut outs = launch(device, &Fire { kind }, &u, &[x, active.plan(), &a, &b, w, v0], &outputs)?;
                let s = active.spread_spikes(outs.remove(0))?;
                outs.insert(0, s);
                outs
            }
        };
        let mut saved = vec![x.clone(), a, b, w.clone()];
        if let (Some([gamma, ..]), [mean, var]) = (norm, stats.as_slice()) {
            saved.extend([gamma.clone(), mean.clone(), var.clone()]);
        }
        let wanted = [true, self.wants.v, self.wants.v_seq];
        let mut outputs: Vec<Tensor> = outs.into_iter().zip(wanted).filter(|(_, on)| *on).map(|(t, _)| t).collect();
        outputs.extend(stats);
        debug_assert!(norm.is_none() || saved[1].len() == c);
        Ok(Forward { outputs, saved })
    }
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>> {
        if self.active.is_some() {
            return Err(no_backward(self.name()));
        }
        let (x, a, b, w) = (&saved[0], &saved[1], &saved[2], &saved[3]);
        let empty = none(x.device())?;
        let ds = match dy.first_mut().and_then(Option::take) {
            Some(d) => d,
            None => Tensor::zeros(x.device(), x.shape())?,
        };
        let dv_seq = if self.wants.v_seq { dy.get(1 + usize::from(self.wants.v)).and_then(Option::as_ref) } else { None };
        let u = NeuronU { store_v_seq: u32::from(dv_seq.is_some()), ..self.uniform(x) };
        let (kind, surrogate) = (self.neuron.neuron, self.neuron.surrogate);
        let learned = kind.learns_tau();
        if let (Some(n), Some([gamma, mean, var]), false, None) = (&self.norm, saved.get(4..7), learned, dv_seq)
            && n.padding.is_none()
        {
            let outputs = [(x.shape(), Repr::F32), (&[2, x.channels()][..], Repr::F32)];
            let mut out = launch_onto(&BackwardNorm { kind, surrogate }, &u, &[x, a, b, mean], ds, &outputs)?.into_iter();
            let (Some(dz), Some(sums)) = (out.next(), out.next()) else { return Err(Error::shape(self.name(), "no output")) };
            let g = backward_norm_of_sums(x, dz, &sums, gamma, mean, var, n.eps, needs[0])?;
            let mut grads = vec![g.dx, Some(g.dgamma), Some(g.dbeta), None, None];
            grads.extend(self.has_v0.then_some(None));
            return Ok(grads);
        }
        let dw_shape = [if learned { x.len() / u.steps.max(1) as usize } else { 0 }];
        let kernel = BackwardKernel { kind, surrogate };
        let inputs = [x, a, b, w, dv_seq.unwrap_or(&empty)];
        let mut out = launch_onto(&kernel, &u, &inputs, ds, &[(x.shape(), Repr::F32), (&dw_shape, Repr::F32)])?.into_iter();
        let (Some(dz), Some(dw)) = (out.next(), out.next()) else { return Err(Error::shape(self.name(), "no output")) };
        let mut grads = match (&self.norm, saved.get(4..7)) {
            (None, _) => vec![Some(dz)],
            (Some(n), Some([gamma, mean, var])) => {
                let g = backward_norm(x, dz, gamma, mean, var, n.eps, needs[0], n.padding.as_ref())?;
                vec![g.dx, Some(g.dgamma), Some(g.dbeta), None, None]
            }
            _ => return Err(Error::shape(self.name(), "a norm with running statistics has no backward")),
        };
        if learned {
            let u = SumU { n: dw.len() as u32, scale: 1.0 };
            grads.push(Some(launch1(&Sum, &u, &[&dw], &[1], Repr::F32)?));
        }
        if self.has_v0 {
            grads.push(None);
        }
        Ok(grads)
    }
    fn is_layer(&self) -> bool {
        !self.is_part
    }
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let updates = match &self.active {
            None => x[0].len(),
            Some(a) => a.updates()? * x[0].channels(),
        };
        Ok(Cost { neuron_updates: updates as u64, ..Cost::default() })
    }
}
