//! Every kernel, once: what the parity tests, `spikemix devices --check` and the profiler walk over.

use crate::kernel::{
    AnyKernel, active, attention, channels, conv, delay, depthwise, elementwise, fire, frames, gate, grid, loss, matmul, neuron,
    norm, optim, pad, pool, reduce, spike,
};

/// All kernels, one instance for each variant.
pub fn kernels() -> Vec<Box<dyn AnyKernel>> {
    let mut all: Vec<Box<dyn AnyKernel>> = vec![
        Box::new(matmul::Dense),
        Box::new(matmul::Bits),
        Box::new(matmul::BitsWeight),
        Box::new(conv::Forward),
        Box::new(conv::Backward),
        Box::new(conv::Bits),
        Box::new(conv::Weight),
        Box::new(conv::BitsWeight),
        Box::new(depthwise::Forward),
        Box::new(depthwise::Input),
        Box::new(depthwise::Weight),
        Box::new(attention::Product),
        Box::new(grid::Grid),
    ];
    all.extend(delay::all());
    all.extend(depthwise::all());
    all.extend(neuron::all());
    all.extend(active::all());
    all.extend(channels::all());
    all.extend(gate::all());
    all.extend(fire::all());
    all.extend(frames::all());
    all.extend(spike::all());
    all.extend(pool::all());
    all.extend(norm::all());
    all.extend(reduce::all());
    all.extend(elementwise::all());
    all.extend(loss::all());
    all.extend(optim::all());
    all.extend(pad::all());
    all
}
