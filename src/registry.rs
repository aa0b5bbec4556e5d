//! Every kernel, once: what the parity tests, `spikemix devices --check` and the profiler walk over.

use crate::kernel::{AnyKernel, elementwise};

/// All kernels, one instance for each variant.
pub fn kernels() -> Vec<Box<dyn AnyKernel>> {
    vec![Box::new(elementwise::Add)]
}
