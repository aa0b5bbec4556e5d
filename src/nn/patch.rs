//! Patch embeddings: 3x3 convolutions with max pooling between, from event frames `[T, B, H, W, C]` to a token grid `[T, B, h, w, D]`.

use super::{ConvBn, Kind, Neurons};
use crate::ctx::{Ctx, Module};
use crate::error::Result;
use crate::neuron::Neuron;
use crate::ops::pool::MaxPool;
use crate::ops::residual::Residual;
use crate::params::Build;
use crate::tensor::Tensor;

/// Widths of the stages: D/8, D/4, D/2, D.
fn widths(dim: usize) -> [usize; 4] {
    [dim / 8, dim / 4, dim / 2, dim]
}

fn stages(b: &mut Build<'_>, sizes: &[usize]) -> Result<Vec<ConvBn>> {
    let pairs = sizes.windows(2).enumerate();
    pairs.map(|(i, w)| ConvBn::new(b, format!("stages.{i}"), Kind::Conv3x3, w[0], w[1])).collect()
}

fn neurons(b: &mut Build<'_>, n: usize, neuron: Neuron) -> Result<Vec<Neurons>> {
    (0..n).map(|i| Neurons::new(b, &format!("lifs.{i}"), neuron)).collect()
}

/// Where the pooling behind each stage is counted.
fn pool_names(b: &Build<'_>) -> [String; 4] {
    std::array::from_fn(|i| b.name(&format!("pools.{i}")))
}

fn with_input(cin: usize, widths: &[usize]) -> Vec<usize> {
    [cin].iter().chain(widths).copied().collect()
}

/// Spikformer's SPS: four times Conv-BN-LIF(-pool), then x + LIF(BN(Conv x)) as a position embedding. Spikes out, as integers 0..2.
pub struct Sps {
    pool_names: [String; 4],
    stages: Vec<ConvBn>,
    lifs: Vec<Neurons>,
    pools: [bool; 4],
    rpe: ConvBn,
    rpe_lif: Neurons,
    sum_name: String,
}

impl Sps {
    /// Names `stages.i lifs.i rpe rpe_lif`.
    pub fn new(b: &mut Build<'_>, cin: usize, dim: usize, pools: [bool; 4], neuron: Neuron) -> Result<Self> {
        Ok(Sps {
            pool_names: pool_names(b),
            stages: stages(b, &with_input(cin, &widths(dim)))?,
            lifs: neurons(b, 4, neuron)?,
            pools,
            rpe: ConvBn::new(b, "rpe", Kind::Conv3x3, dim, dim)?,
            rpe_lif: Neurons::new(b, "rpe_lif", neuron)?,
            sum_name: b.name("rpe"),
        })
    }
}

impl Module for Sps {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, (stage, lif)) in self.stages.iter().zip(&self.lifs).enumerate() {
            x = stage.spikes(&x, lif, cx)?;
            if self.pools[i] {
                x = cx.apply1(&self.pool_names[i], MaxPool, &[&x])?;
            }
        }
        let s = self.rpe.spikes(&x, &self.rpe_lif, cx)?;
        cx.apply1(&self.sum_name, Residual, &[&x, &s])
    }
}

/// Spikingformer's tokenizer: Conv-BN, then four times LIF(-pool)-Conv-BN. Currents out.
pub struct Tokenizer {
    pool_names: [String; 4],
    stages: Vec<ConvBn>,
    lifs: Vec<Neurons>,
    pools: [bool; 4],
}

impl Tokenizer {
    /// Names `stages.i lifs.i`.
    pub fn new(b: &mut Build<'_>, cin: usize, dim: usize, pools: [bool; 4], neuron: Neuron) -> Result<Self> {
        let mut sizes = with_input(cin, &widths(dim));
        sizes.push(dim);
        Ok(Tokenizer { pool_names: pool_names(b), stages: stages(b, &sizes)?, lifs: neurons(b, 4, neuron)?, pools })
    }
}

impl Module for Tokenizer {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, (stage, lif)) in self.stages.iter().zip(&self.lifs).enumerate() {
            x = stage.spikes(&x, lif, cx)?;
            if self.pools[i] {
                x = cx.apply1(&self.pool_names[i], MaxPool, &[&x])?;
            }
        }
        self.stages[4].current(&x, cx)
    }
}

/// Spike-driven Transformer's embedding: three times Conv-BN-LIF(-pool), a fourth Conv-BN(-pool) whose current is the shortcut over
/// LIF-Conv-BN. Currents out.
pub struct MembraneEmbedding {
    pool_names: [String; 4],
    stages: Vec<ConvBn>,
    lifs: Vec<Neurons>,
    pools: [bool; 4],
    rpe: ConvBn,
    sum_name: String,
}

impl MembraneEmbedding {
    /// Names `stages.i lifs.i rpe`.
    pub fn new(b: &mut Build<'_>, cin: usize, dim: usize, pools: [bool; 4], neuron: Neuron) -> Result<Self> {
        Ok(MembraneEmbedding {
            pool_names: pool_names(b),
            stages: stages(b, &with_input(cin, &widths(dim)))?,
            lifs: neurons(b, 4, neuron)?,
            pools,
            rpe: ConvBn::new(b, "rpe", Kind::Conv3x3, dim, dim)?,
            sum_name: b.name("rpe"),
        })
    }
}

impl Module for MembraneEmbedding {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut s = x.clone();
        for i in 0..3 {
            s = self.stages[i].spikes(&s, &self.lifs[i], cx)?;
            if self.pools[i] {
                s = cx.apply1(&self.pool_names[i], MaxPool, &[&s])?;
            }
        }
        let mut shortcut = self.stages[3].current(&s, cx)?;
        if self.pools[3] {
            shortcut = cx.apply1(&self.pool_names[3], MaxPool, &[&shortcut])?;
        }
        let s = self.lifs[3].fire(&shortcut, cx)?;
        let y = self.rpe.current(&s, cx)?;
        cx.apply1(&self.sum_name, Residual, &[&y, &shortcut])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::params::Params;
    use crate::rng::Rng;

    /// Of the first layer, whose input are event frames, backward keeps the spikes; of the second the currents too, a float for each neuron.
    #[test]
    fn the_convolution_of_frames_is_not_kept() {
        // Frames that are mostly full, in two operations, and mostly empty, in one: 8 and 16 channels, then twice that.
        for (dim, full, neurons) in [(64, 0.7, 128 * 8), (128, 0.1, 128 * 16)] {
            let mut params = Params::new(&Device::Cpu);
            let net = Sps::new(&mut Build::new(&mut params, 0), 2, dim, [false; 4], Neuron::default()).unwrap();
            let mut rng = Rng::new(1);
            let frames: Vec<f32> = (0..2 * 8 * 8 * 2).map(|_| f32::from(u8::from(rng.f32() < full))).collect();
            let x = Tensor::from_f32(&Device::Cpu, &[2, 1, 8, 8, 2], &frames).unwrap();
            let mut cx = Ctx::train(&params);
            net.forward(&x, &mut cx).unwrap();
            let kept = cx.kept(&x);
            let of = |name: &str| kept.iter().filter(|(place, _)| place.starts_with(name)).map(|(_, bytes)| bytes).sum::<u64>();
            // What a norm needs is kept too.
            assert!(of("stages.0") + of("lifs.0") < 4 * neurons, "{kept:?}");
            assert!(of("lifs.1") >= 8 * neurons, "{kept:?}");
            assert_eq!(kept.iter().any(|(place, _)| place == "lifs.0"), full > 0.5, "{kept:?}");
        }
    }
}
