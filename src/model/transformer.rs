//! The spiking transformers: a patch embedding, blocks of attention and perceptron in residuals, and a linear head on the mean over
//! tokens. The three backbones differ in where their neurons stand; see [`Net`].

use super::spec::{Net, Spec};
use crate::ctx::{Ctx, Module};
use crate::error::{Error, Result};
use crate::moe::emsa::{Attention, Emsa};
use crate::moe::emsp::Emsp;
use crate::nn::attention::{Residual, Sdsa, Ssa};
use crate::nn::mlp::Mlp;
use crate::nn::patch::{MembraneEmbedding, Sps, Tokenizer};
use crate::nn::{Head, Neurons};
use crate::ops::mean::TokenMean;
use crate::ops::residual::Residual as Sum;
use crate::params::Build;
use crate::tensor::Tensor;

/// Attention and perceptron, each in a residual.
pub struct Block {
    name: String,
    attn: Box<dyn Module>,
    mlp: Box<dyn Module>,
}

impl Block {
    /// Under the name that its residuals have in a profile.
    pub fn new(name: String, attn: Box<dyn Module>, mlp: Box<dyn Module>) -> Self {
        Block { name, attn, mlp }
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let a = self.attn.forward(x, cx)?;
        let x = cx.apply1(&self.name, Sum, &[x, &a])?;
        let m = self.mlp.forward(&x, cx)?;
        cx.apply1(&self.name, Sum, &[&x, &m])
    }
}

/// The attention of a block as a spec says.
pub fn attention(spec: &Spec, b: &mut Build<'_>) -> Result<Box<dyn Module>> {
    let (dim, neuron, vth) = (spec.dim, spec.neuron, spec.attention_v_threshold);
    let residual = residual(spec.net);
    Ok(match (&spec.semm, spec.net) {
        (None, Net::SpikeDriven) => Box::new(Sdsa::new(b, dim, vth, neuron)?),
        (None, _) => Box::new(Ssa::new(b, residual, dim, spec.heads, spec.scale(), vth, neuron)?),
        (Some(s), net) => {
            let attention = match net {
                Net::SpikeDriven => Attention::Sdsa,
                _ => Attention::Ssa(s.scale.unwrap_or(spec.scale())),
            };
            Box::new(Emsa::new(b, residual, attention, dim, s, neuron)?)
        }
    })
}

/// The perceptron of a block as a spec says.
pub fn perceptron(spec: &Spec, b: &mut Build<'_>) -> Result<Box<dyn Module>> {
    let residual = residual(spec.net);
    Ok(match &spec.semm {
        None => Box::new(Mlp::new(b, residual, spec.dim, spec.dim * spec.mlp_ratio, spec.neuron)?),
        Some(s) => Box::new(Emsp::new(b, residual, spec.dim, s, spec.neuron)?),
    })
}

fn residual(net: Net) -> Residual {
    match net {
        Net::Spikformer | Net::Csnn => Residual::Spikes,
        Net::Spikingformer | Net::SpikeDriven => Residual::Currents,
    }
}

/// Frames `[T, B, H, W, C]` to the logits of each step `[T, B, classes]`.
pub struct Transformer {
    embed: Box<dyn Module>,
    blocks: Vec<Block>,
    head_lif: Option<Neurons>,
    head: Head,
}

impl Transformer {
    /// Spikformer names its blocks `patch_embed` and `block.i.attn`, the others `stages` and `attn.i`, as the reference does.
    pub fn new(spec: &Spec, b: &mut Build<'_>) -> Result<Self> {
        let (cin, dim, pools, neuron) = (spec.in_channels, spec.dim, spec.pools(), spec.neuron);
        let embed: Box<dyn Module> = match spec.net {
            Net::Spikformer => Box::new(Sps::new(&mut b.scope("patch_embed"), cin, dim, pools, neuron)?),
            Net::Spikingformer => Box::new(Tokenizer::new(b, cin, dim, pools, neuron)?),
            Net::Csnn => return Err(Error::config("model.net", "csnn is no transformer")),
            Net::SpikeDriven => Box::new(MembraneEmbedding::new(b, cin, dim, pools, neuron)?),
        };
        let mut blocks = Vec::new();
        for i in 0..spec.depth {
            let (attn, mlp) = match spec.net {
                Net::Spikformer => (format!("block.{i}.attn"), format!("block.{i}.mlp")),
                _ => (format!("attn.{i}"), format!("mlp.{i}")),
            };
            let attn = attention(spec, &mut b.scope(attn))?;
            blocks.push(Block::new(format!("block.{i}"), attn, perceptron(spec, &mut b.scope(mlp))?));
        }
        let head_lif = match spec.net {
            Net::SpikeDriven => Some(Neurons::new(b, "head_lif", neuron)?),
            _ => None,
        };
        Ok(Transformer { embed, blocks, head_lif, head: Head::new(b, "head", dim, spec.classes)? })
    }
}

impl Module for Transformer {
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor> {
        let mut x = self.embed.forward(x, cx)?;
        for block in &self.blocks {
            x = block.forward(&x, cx)?;
        }
        let mut y = cx.apply1("head", TokenMean { sum: false }, &[&x])?;
        if let Some(lif) = &self.head_lif {
            y = lif.fire(&y, cx)?;
        }
        self.head.forward(&y, cx)
    }
}
