//! Every kernel: its CPU twin against itself on another number of threads, and against its shader.

use libtest_mimic::{Failed, Trial};
use spikemix::device::Device;
use spikemix::{parity, registry};

/// One trial for each kernel without a device, and one with.
pub fn trials() -> Vec<Trial> {
    let labels = registry::kernels().into_iter().map(|k| k.label()).enumerate();
    labels
        .flat_map(|(i, label)| {
            [
                Trial::test(format!("parity::threads::{label}"), move || check(&Device::Cpu, i)),
                crate::gpu::trial(format!("parity::gpu::{label}"), move |d| check(d, i)),
            ]
        })
        .chain([Trial::test("parity::labels are unique", || {
            let mut labels: Vec<_> = registry::kernels().iter().map(|k| k.label()).collect();
            labels.sort();
            match labels.windows(2).find(|w| w[0] == w[1]) {
                Some(twice) => Err(format!("{} is listed twice", twice[0]).into()),
                None => Ok(()),
            }
        })])
        .collect()
}

fn check(device: &Device, i: usize) -> Result<(), Failed> {
    let rows = parity::kernel(device, registry::kernels()[i].as_ref());
    if rows.is_empty() {
        return Err("the kernel has no cases".into());
    }
    let failed: Vec<_> = rows.iter().filter(|r| !r.ok).map(|r| format!("{}: {}", r.case, r.message)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("{} of {} cases fail\n{}", failed.len(), rows.len(), failed[..failed.len().min(3)].join("\n")).into())
}
