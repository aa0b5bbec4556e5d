//! The one device that GPU tests share.
//!
//! `SPIKEMIX_GPU=off` ignores them, `auto` (the default) runs them on any adapter, software included, and ignores them where there is
//! none, `require` fails where there is none. `SPIKEMIX_GPU_ADAPTER=N` takes another adapter than the first.

use libtest_mimic::{Failed, Trial};
use spikemix::device::{Checks, Device, Gpu, adapters};
use std::sync::{Arc, OnceLock};

/// The device, or why there is none.
fn device() -> &'static Result<Device, String> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    DEVICE.get_or_init(open)
}

/// The adapter opened once more, for a test that counts what nobody else may do.
pub fn open() -> Result<Device, String> {
    let n = match std::env::var("SPIKEMIX_GPU_ADAPTER") {
        Ok(n) if !n.is_empty() => n.parse().map_err(|_| format!("SPIKEMIX_GPU_ADAPTER={n}: not a number"))?,
        _ => 0,
    };
    Gpu::open_with(n, Checks::Full).map(|g| Device::Gpu(Arc::new(g))).map_err(|e| e.to_string())
}

/// Whether tests on the GPU should show as ignored.
fn ignored() -> bool {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    *IGNORED.get_or_init(|| match std::env::var("SPIKEMIX_GPU").as_deref() {
        Ok("off") => true,
        Ok("require") => false,
        // Set to nothing is not set, as for most programs.
        Ok("auto" | "") | Err(_) => adapters().is_empty(),
        Ok(other) => panic!("SPIKEMIX_GPU={other}: none of off, auto, require"),
    })
}

/// A test that needs the GPU.
pub fn trial(name: impl Into<String>, run: impl FnOnce(&Device) -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, move || run(device().as_ref()?)).with_ignored_flag(ignored())
}
