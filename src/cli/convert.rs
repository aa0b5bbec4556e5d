//! `spikemix convert`.

use super::{print, print_json, say};
use crate::error::{Error, Result};
use crate::events::{FORMATS, convert, format};
use clap::Args;
use std::path::PathBuf;

/// Write a recording in another format, saying what is lost.
///
/// The format read is known by the file's content, the format written by the name of the output or by --to. The written file is read
/// back and compared event for event. Events that the format cannot hold (a place beyond its bits, a time before its first) are an error,
/// and nothing is written.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix convert recording.aedat4 recording.raw
  spikemix convert recording.bin events.csv
  spikemix convert recording.raw recording2.raw --to evt2")]
pub(super) struct ConvertArgs {
    /// The recording to read
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// Format to write; by the output's extension where it is left out
    #[arg(long, value_name = "FORMAT")]
    to: Option<String>,
    /// Refuse a damaged input instead of converting what can be read of it
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(a: &ConvertArgs) -> Result<()> {
    let to = match &a.to {
        None => None,
        Some(name) => Some(format(name).filter(|f| f.encode.is_some()).ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().filter(|f| f.encode.is_some()).map(|f| f.name).collect();
            Error::usage(format!("--to {name}: no such format can be written; there are {}", known.join(", ")))
        })?),
    };
    let report = convert(&a.input, &a.output, to, a.strict)?;
    report.losses.iter().for_each(|l| say(&format!("note: {l}")));
    if a.json {
        return print_json(&report);
    }
    print(&format!("{} events from {} to {}: {}\n", report.events, report.from, report.to, a.output.display()))
}
