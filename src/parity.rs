//! Holds the twins of every kernel together: runs the registry's cases on a device and on the CPU and compares.
//!
//! `tests/parity.rs` and `spikemix devices --check` are thin shells over this. Each case runs
//! 1. on one CPU thread and on three, over outputs that hold two kinds of garbage: the words must be the same, or the twin depends on
//!    the thread count or leaves something unwritten; and once with its output over its input, where it can do that;
//! 2. on the device, again over garbage: floats must agree within the kernel's tolerance, words always to the bit.
//!
//! A NaN anywhere is a failure.

use crate::device::Device;
use crate::error::Result;
use crate::kernel::{AnyKernel, Args, Case, Tolerance};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;
use std::sync::OnceLock;

/// How one case went.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Kernel and variant.
    pub label: String,
    /// The case.
    pub case: String,
    /// The largest difference of an output's float, as a fraction of the largest magnitude in that output.
    pub worst: f64,
    /// Whether all was within tolerance.
    pub ok: bool,
    /// What was wrong; empty when nothing was.
    pub message: String,
}

/// Two words no kernel should leave behind: as floats, both are NaN.
const GARBAGE: [u32; 2] = [0x7fc0_0000, 0xffff_ffff];

fn pools() -> &'static [Option<ThreadPool>; 2] {
    static POOLS: OnceLock<[Option<ThreadPool>; 2]> = OnceLock::new();
    // Where no threads can be had, the case runs in the pool that there is.
    POOLS.get_or_init(|| [1, 3].map(|n| ThreadPoolBuilder::new().num_threads(n).build().ok()))
}

/// Every case of every kernel in the registry.
pub fn run(device: &Device) -> Vec<Row> {
    crate::registry::kernels().iter().flat_map(|k| kernel(device, k.as_ref())).collect()
}

/// Every case of `k`.
pub fn kernel(device: &Device, k: &dyn AnyKernel) -> Vec<Row> {
    k.cases().iter().map(|c| case(device, k, c)).collect()
}

/// One case of `k`; on [`Device::Cpu`] only the CPU twin's own part.
pub fn case(device: &Device, k: &dyn AnyKernel, c: &Case<Vec<u8>>) -> Row {
    let mut worst = 0.0;
    let outcome = compare(device, k, c, &mut worst);
    Row { label: k.label(), case: c.name.clone(), worst, ok: outcome.is_ok(), message: outcome.err().unwrap_or_default() }
}

/// The outputs of the CPU twin over garbage.
fn twin(k: &dyn AnyKernel, c: &Case<Vec<u8>>, garbage: u32) -> Vec<Vec<u32>> {
    let mut outs: Vec<Vec<u32>> = c.outputs.iter().map(|&n| vec![garbage; n]).collect();
    let inputs = c.inputs.iter().map(|d| d.words()).collect();
    k.cpu(&c.uniform, &mut Args::new(inputs, outs.iter_mut().map(Vec::as_mut_slice).collect()));
    outs
}

/// The outputs of a device, in buffers that held garbage.
fn on_device(device: &Device, k: &dyn AnyKernel, c: &Case<Vec<u8>>) -> Result<Vec<Vec<u32>>> {
    let inputs = c.inputs.iter().map(|d| device.upload(d.words())).collect::<Result<Vec<_>>>()?;
    // Buffers freed here are the ones that the launch takes next.
    let garbage = c.outputs.iter().map(|&n| device.upload(&vec![GARBAGE[0]; n])).collect::<Result<Vec<_>>>()?;
    drop(garbage);
    let outputs = device.launch_any(k, &c.uniform, &inputs.iter().collect::<Vec<_>>(), &c.outputs)?;
    outputs.iter().map(|o| device.read(o)).collect()
}

fn compare(device: &Device, k: &dyn AnyKernel, c: &Case<Vec<u8>>, worst: &mut f64) -> Result<(), String> {
    let bindings = k.bindings();
    let (ins, outs): (Vec<_>, Vec<_>) = bindings.iter().partition(|b| !b.1.is_output());
    if c.inputs.len() != ins.len() || c.outputs.len() != outs.len() {
        return Err(format!("the case has {} inputs and {} outputs", c.inputs.len(), c.outputs.len()));
    }
    let mut runs = pools().iter().zip(GARBAGE).map(|(pool, garbage)| match pool {
        Some(p) => p.install(|| twin(k, c, garbage)),
        None => twin(k, c, garbage),
    });
    let (cpu, again) = (runs.next().unwrap_or_default(), runs.next().unwrap_or_default());
    for ((name, access), (a, b)) in outs.iter().zip(cpu.iter().zip(&again)) {
        if let Some(i) = a.iter().zip(b).position(|(a, b)| a != b) {
            let (a, b, n) = (a[i], b[i], a.len());
            return Err(format!(
                "CPU twin: {name}[{i}] of {n} is unwritten or depends on the number of threads: {a:#010x} on one, {b:#010x} on three"
            ));
        }
        if access.is_f32()
            && let Some(i) = a.iter().position(|&w| f32::from_bits(w).is_nan())
        {
            return Err(format!("CPU twin: {name}[{i}] of {} is NaN", a.len()));
        }
    }
    if let Some(i) = k.onto() {
        over_its_input(k, c, i, &cpu)?;
    }
    if matches!(device, Device::Cpu) {
        return Ok(());
    }
    let gpu = on_device(device, k, c).map_err(|e| e.to_string())?;
    let tolerance = if c.exact { Tolerance::Exact } else { k.tolerance() };
    for ((name, access), (a, b)) in outs.iter().zip(cpu.iter().zip(&gpu)) {
        match tolerance {
            Tolerance::Relative(limit) if access.is_f32() => near(name, a, b, limit, worst)?,
            _ => equal(name, a, b, access.is_f32())?,
        }
    }
    Ok(())
}

/// The CPU twin where output 0 lies over input `i`: it must give what it gave without.
fn over_its_input(k: &dyn AnyKernel, c: &Case<Vec<u8>>, i: usize, expected: &[Vec<u32>]) -> Result<(), String> {
    let mut outs: Vec<Vec<u32>> = c.outputs.iter().map(|&n| vec![GARBAGE[0]; n]).collect();
    outs[0] = c.inputs[i].words().to_vec();
    let mut inputs: Vec<&[u32]> = c.inputs.iter().map(|d| d.words()).collect();
    inputs[i] = &[];
    k.cpu(&c.uniform, &mut Args::new(inputs, outs.iter_mut().map(Vec::as_mut_slice).collect()));
    match outs == expected {
        true => Ok(()),
        false => Err(format!("CPU twin: another result where output 0 lies over input {i}")),
    }
}

fn equal(name: &str, cpu: &[u32], gpu: &[u32], floats: bool) -> Result<(), String> {
    // -0 and 0 are the same number.
    let same = |a: u32, b: u32| a == b || floats && f32::from_bits(a) == f32::from_bits(b);
    let wrong = cpu.iter().zip(gpu).filter(|(a, b)| !same(**a, **b)).count();
    let Some(i) = cpu.iter().zip(gpu).position(|(a, b)| !same(*a, *b)) else { return Ok(()) };
    let show = |w: u32| if floats { format!("{:e}", f32::from_bits(w)) } else { format!("{w:#010x}") };
    let n = cpu.len();
    Err(format!("{name}: {wrong} of {n} differ, first [{i}]: {} on the CPU, {} on the device", show(cpu[i]), show(gpu[i])))
}

fn near(name: &str, cpu: &[u32], gpu: &[u32], limit: f32, worst: &mut f64) -> Result<(), String> {
    let value = |w: &u32| f64::from(f32::from_bits(*w));
    let scale = cpu.iter().map(value).filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (a, b)) in cpu.iter().map(value).zip(gpu.iter().map(value)).enumerate() {
        if a == b {
            continue;
        }
        let error = if scale > 0.0 { (a - b).abs() / scale } else { f64::INFINITY };
        if error.is_finite() {
            *worst = worst.max(error);
        }
        // A NaN compares false.
        if !matches!(error.partial_cmp(&f64::from(limit)), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)) {
            let n = cpu.len();
            return Err(format!(
                "{name}[{i}] of {n}: {a:e} on the CPU, {b:e} on the device: {error:.1e} of the largest, {limit:.1e} allowed"
            ));
        }
    }
    Ok(())
}
