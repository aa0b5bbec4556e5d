//! Spiking neural networks with spiking expert mixtures, on any GPU wgpu reaches and on plain CPUs.
//!
//! On the CPU kernels run on the threads of rayon's pool. A program that is one of them ([`device::Device::run`], or rayon's
//! `use_current_thread` as in the command line) spares handing its work over and waiting for it.
//!
//! Modules stand lowest first; each uses only what stands above it (`tests/layers.rs` keeps it so).

// Blank lines keep rustfmt from sorting what is an order.
pub mod error;

pub mod rng;

pub mod files;

pub mod config;

pub mod events;

pub mod encode;

pub mod data;

pub mod surrogate;

pub mod neuron;

pub mod kernel;

pub mod device;

pub mod registry;

pub mod parity;

pub mod tensor;

pub mod padding;

pub mod params;

pub mod counts;

pub mod ctx;

pub mod ops;

pub mod nn;

pub mod moe;

pub mod model;

pub mod loss;

pub mod optim;

pub mod checkpoint;

pub mod profile;

pub mod recipe;

pub mod train;

pub mod infer;

pub mod cli;

pub use error::{Error, Result};
