//! `spikemix bench`: one file a measurement.

mod asynchronous;
mod crossover;
mod decode;
mod gates;
mod memory;
mod net;
mod neuron;
mod step;

use crate::error::Result;
use clap::Subcommand;

/// Measure speed and memory.
#[derive(Subcommand)]
pub(super) enum BenchCommand {
    /// Time a training step and an inference pass of a network on random event counts.
    Step(step::StepArgs),
    /// Time products with packed spikes by firing rate, walked and dense, and show where the two cross.
    Crossover(crossover::CrossoverArgs),
    /// Time a convolution with neurons touched at arrivals against the clocked kernels, by firing rate, and show where they cross.
    Async(asynchronous::AsyncArgs),
    /// Compare the memory that a training step keeps with what it should keep.
    Memory(memory::MemoryArgs),
    /// Time a layer of neurons against the bandwidth of memory.
    Neuron(neuron::NeuronArgs),
    /// Time the decoders of event files, from memory, on one thread.
    Decode(decode::DecodeArgs),
    /// Time expert mixtures by the share of open gates, with and without skipping.
    Gates(gates::GatesArgs),
}

/// Runs the command.
pub(super) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Step(a) => step::run(a),
        BenchCommand::Crossover(a) => crossover::run(a),
        BenchCommand::Async(a) => asynchronous::run(a),
        BenchCommand::Memory(a) => memory::run(a),
        BenchCommand::Neuron(a) => neuron::run(a),
        BenchCommand::Decode(a) => decode::run(a),
        BenchCommand::Gates(a) => gates::run(a),
    }
}
