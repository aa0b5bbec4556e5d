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

/// Measure speed and memory; `spikemix bench COMMAND --help` says what each number is.
#[derive(Subcommand)]
pub(super) enum BenchCommand {
    Step(step::StepArgs),
    Crossover(crossover::CrossoverArgs),
    Async(asynchronous::AsyncArgs),
    Memory(memory::MemoryArgs),
    Neuron(neuron::NeuronArgs),
    Decode(decode::DecodeArgs),
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
