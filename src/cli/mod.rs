//! The command line, one file a command. Results go to stdout, talk and progress to stderr; with `--json` stdout carries JSON only.
//!
//! Exit status: 0 it worked, 1 it failed, 2 wrong usage, 130 stopped by the user. A reader that closes the pipe early is no failure.
//!
//! # How to add a command
//! A file with a `clap::Args` struct and a function `run(args) -> Result<()>`, and a line in `Command` and in [`main`].

mod bench;
mod convert;
mod datasets;
mod devices;
mod eval;
mod infer;
mod inspect;
mod profile;
mod progress;
mod train;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::events::columns::Order;
use crate::events::{self, EventStream, ReadOptions};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

/// Train and run spiking transformers with spiking expert mixtures on event data, on any GPU and on plain CPUs.
#[derive(Parser)]
#[command(
    name = "spikemix",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  spikemix train examples/recipes/gestures.toml
  spikemix train examples/recipes/nmnist.toml --set data.dir=/data/nmnist --seed 1
  spikemix eval runs/gestures-0/best.safetensors --json
  spikemix profile runs/gestures-0/best.safetensors --html report.html
  spikemix infer runs/gestures-0/best.safetensors recording.aedat
  spikemix inspect recording.aedat --png frames.png
  spikemix devices --check --device cpu"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// What a command is about stands at its arguments.
#[derive(Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Profile(profile::ProfileArgs),
    Infer(infer::InferArgs),
    Devices(devices::DevicesArgs),
    Inspect(inspect::InspectArgs),
    Convert(convert::ConvertArgs),
    Datasets(datasets::DatasetsArgs),
    #[command(
        subcommand,
        after_help = "\
Examples:
  spikemix bench step --device cpu --threads 2
  spikemix bench crossover
  spikemix bench gates --threads 1"
    )]
    Bench(bench::BenchCommand),
}

/// Where to compute.
#[derive(Args)]
struct Place {
    /// auto (a real GPU if there is one, else the CPU), cpu, gpu, or gpu:N as `spikemix devices` lists them
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// CPU threads; all by default. Results do not depend on it
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Place {
    /// Starts the threads, opens the device and says which it is.
    fn open(&self) -> Result<Device> {
        self.start_threads()?;
        let device = Device::open(&self.device)?;
        say(&format!("device: {}", device.describe()));
        Ok(device)
    }
    fn start_threads(&self) -> Result<()> {
        if let Some(n) = self.threads.filter(|n| !(1..=4096).contains(n)) {
            return Err(Error::usage(format!("--threads {n}: from 1 to 4096 threads are possible")));
        }
        // This thread is one of them: else it would hand over what it launches, and sleep until that is done.
        let builder = rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).use_current_thread();
        let what = || self.threads.map_or("threads".into(), |n| format!("{n} threads"));
        builder.build_global().map_err(|e| Error::device(format!("{} cannot be started: {e}", what())))
    }
}

/// How an event file is read where its content does not say it all.
#[derive(Args)]
struct Reading {
    /// The file's format; by default told by the bytes that mark it, or where it has none (ATIS, text) by its first 64 KiB. evt3-expelliarmus gives EVT3 the times expelliarmus does
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The order of the columns of a table without names, in letters, as txyp or xyt_p (_ is any other column); txyp:ms says the unit of time too (s, ms, us, ns)
    #[arg(long, value_name = "ORDER")]
    columns: Option<String>,
    /// Which of several event streams: of AEDAT 4 by its name, camera or number, of HDF5 by its path or a part of it (davis/right/events or right)
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Refuse a damaged file instead of taking what can be read of it; infer also one with events outside its sensor or times that jump far ahead
    #[arg(long)]
    strict: bool,
}

impl Reading {
    /// Reads an event file.
    fn open(&self, path: &Path) -> Result<EventStream> {
        if path == Path::new("-") {
            return Err(Error::usage("-: only infer reads standard input; ./- is a file of that name"));
        }
        events::open_with(path, &self.options()?)
    }
    fn options(&self) -> Result<ReadOptions> {
        let format = self.format.as_deref().map(format_named);
        let columns = self.columns.as_deref().map(|order| {
            let what = || format!("--columns {order}: no order of the letters t, x, y and p (and _ for other columns), perhaps with a unit of time, as txyp:ms");
            Order::parse(order).ok_or_else(|| Error::usage(what()))
        });
        let (format, columns) = (format.transpose()?, columns.transpose()?);
        Ok(ReadOptions { format, columns, stream: self.stream.clone(), strict: self.strict })
    }
}

/// The format a user names.
fn format_named(name: &str) -> Result<&'static events::Format> {
    events::format(name).ok_or_else(|| {
        let known: Vec<_> = events::FORMATS.iter().map(|f| f.name).collect();
        Error::usage(format!("--format {name}: known formats are {}", known.join(", ")))
    })
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    quiet_drivers();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to stdout and is success; usage errors go to stderr with status 2. A closed pipe is not worth a word.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let result = match &cli.command {
        Command::Train(a) => train::run(a),
        Command::Eval(a) => eval::run(a),
        Command::Profile(a) => profile::run(a),
        Command::Infer(a) => infer::run(a),
        Command::Devices(a) => devices::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::Convert(a) => convert::run(a),
        Command::Datasets(a) => datasets::run(a),
        Command::Bench(a) => bench::run(a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("error: {e}"));
            ExitCode::from(e.exit_status())
        }
    }
}

/// Mesa's drivers print `error: XDG_RUNTIME_DIR is invalid` on stderr where it is not set, as in most containers. Nothing is wrong, and
/// any folder quiets them.
fn quiet_drivers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first thing the process does, before any other thread exists.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}

/// A line on stderr.
fn say(line: &str) {
    // There is nobody to tell when stderr itself is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on stdout. A reader that has gone is no failure.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}

/// An object on stdout, on one line.
fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::shape("json", e.to_string()))?;
    print(&format!("{text}\n"))
}

/// Columns padded to the same width, two spaces apart; `right` says which are aligned to the right.
fn table(rows: &[Vec<String>], right: &[bool]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cell = |(c, s): (usize, &String)| {
            let pad = " ".repeat(widths[c].saturating_sub(s.chars().count()));
            if right.get(c) == Some(&true) { format!("{pad}{s}") } else { format!("{s}{pad}") }
        };
        let line: Vec<String> = row.iter().enumerate().map(cell).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
