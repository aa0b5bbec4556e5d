//! Every kernel, once: what the parity tests, `spikemix devices --check` and the profiler walk over.

use crate::kernel::{AnyKernel, elementwise, neuron, norm, pool, spike};

/// All kernels, one instance for each variant.
pub fn kernels() -> Vec<Box<dyn AnyKernel>> {
    let mut all: Vec<Box<dyn AnyKernel>> = vec![Box::new(elementwise::Add)];
    all.extend(neuron::all());
    all.extend(spike::all());
    all.extend(pool::all());
    all.extend(norm::all());
    all
}
