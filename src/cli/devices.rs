//! `spikemix devices`.

use super::{Place, print, print_json, say, table};
use crate::device::{AdapterRow, Device, adapters};
use crate::error::{Error, Result};
use crate::parity::{self, Row};
use clap::Args;
use serde::Serialize;

/// List the devices of this machine, or check every kernel on one.
///
/// --check runs each kernel of the program on the chosen device and on the CPU over the cases that its tests use, and compares.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix devices
  spikemix devices --json
  spikemix devices --check --device gpu:0")]
pub(super) struct DevicesArgs {
    /// Compare every kernel on --device with the CPU
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct List {
    cpu: Cpu,
    adapters: Vec<AdapterRow>,
    /// What `--device auto` takes.
    auto: String,
}

#[derive(Serialize)]
struct Cpu {
    threads: usize,
    architecture: &'static str,
    vectors: &'static str,
}

/// One kernel's part of a check.
#[derive(Serialize)]
struct Checked {
    kernel: String,
    cases: usize,
    /// Largest difference of a float, as a fraction of the largest magnitude in its output.
    worst: f64,
    ok: bool,
    failures: Vec<Row>,
}

/// Runs the command.
pub(super) fn run(a: &DevicesArgs) -> Result<()> {
    if a.check {
        return check(a);
    }
    a.place.start_threads()?;
    let all = adapters();
    // The order of preference is the device's; here it only has to be said.
    let auto = match Device::open("auto") {
        Ok(d) => d.describe(),
        Err(e) => format!("none: {e}"),
    };
    let cpu = Cpu { threads: rayon::current_num_threads(), architecture: std::env::consts::ARCH, vectors: vectors() };
    if a.json {
        return print_json(&List { cpu, adapters: all, auto });
    }
    let mib = |b: u64| format!("{} MiB", b >> 20);
    let head = ["device", "name", "kind", "backend", "driver", "largest tensor", "largest buffer", "features"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let cells = [
        "cpu".to_string(),
        format!("{}, {} threads", cpu.architecture, cpu.threads),
        "cpu".into(),
        "native".into(),
        "-".into(),
        "-".into(),
        "-".into(),
        cpu.vectors.into(),
    ];
    rows.push(cells.to_vec());
    for r in &all {
        let cells = [
            format!("gpu:{}", r.index),
            r.name.clone(),
            r.kind.clone(),
            r.backend.clone(),
            r.driver.clone(),
            mib(r.max_binding_bytes),
            mib(r.max_buffer_bytes),
            r.features.join(" "),
        ];
        rows.push(cells.to_vec());
    }
    let software = if all.iter().any(|r| r.software) { "\nsoftware adapters are used only when named" } else { "" };
    print(&format!("{}\n--device auto takes: {auto}{software}\n", table(&rows, &[])))
}

fn check(a: &DevicesArgs) -> Result<()> {
    let device = a.place.open()?;
    let (mut all, mut failed) = (Vec::new(), 0);
    for kernel in crate::registry::kernels() {
        let rows = parity::kernel(&device, kernel.as_ref());
        let checked = Checked {
            kernel: kernel.label(),
            cases: rows.len(),
            worst: rows.iter().map(|r| r.worst).fold(0.0, f64::max),
            ok: rows.iter().all(|r| r.ok),
            failures: rows.into_iter().filter(|r| !r.ok).collect(),
        };
        failed += usize::from(!checked.ok);
        for f in &checked.failures {
            say(&format!("{} [{}]: {}", f.label, f.case, f.message));
        }
        all.push(checked);
    }
    if a.json {
        print_json(&all)?;
    } else {
        let mut rows = vec![["kernel", "cases", "worst", ""].map(String::from).to_vec()];
        for c in &all {
            let verdict = if c.ok { "ok" } else { "FAILED" };
            rows.push(vec![c.kernel.clone(), c.cases.to_string(), format!("{:.1e}", c.worst), verdict.into()]);
        }
        let cases: usize = all.iter().map(|c| c.cases).sum();
        let text = table(&rows, &[false, true, true, false]);
        print(&format!("{text}\n{} kernels, {cases} cases, {failed} failed on {}\n", all.len(), device.describe()))?;
    }
    match failed {
        0 => Ok(()),
        n => Err(Error::device(format!("{n} of {} kernels do not agree with the CPU on {}", all.len(), device.describe()))),
    }
}

/// The widest vectors that the CPU kernels use here.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "baseline"
}
