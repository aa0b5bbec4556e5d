//! `spikemix convert`.

use super::{Reading, print, print_json, say};
use crate::error::{Error, Result};
use crate::events::{EventStream, FORMATS, Format, convert, format, written_as};
use crate::files::not_over;
use clap::Args;
use std::path::{Path, PathBuf};

/// Write a recording in another format, saying what is lost.
///
/// The format read is known by the file's content, the format written by the name of the output or by --to. The written file is read
/// back and compared event for event. Events that the format cannot hold (a place beyond its bits, a time beyond its last) are an error,
/// and nothing is written; --rebase helps where times count from the year 1970. A file that is there already is not overwritten without
/// --force.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix convert recording.aedat4 recording.raw
  spikemix convert recording.bin events.csv
  spikemix convert recording.aedat4 recording.dat --rebase
  spikemix convert recording.raw recording2.raw --to evt2")]
pub(super) struct ConvertArgs {
    /// The recording to read
    input: PathBuf,
    /// The file to write
    output: PathBuf,
    /// Format to write; by the output's extension where it is left out
    #[arg(long, value_name = "FORMAT")]
    to: Option<String>,
    /// Count times from the earliest event on, which becomes 0
    #[arg(long)]
    rebase: bool,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(a: &ConvertArgs) -> Result<()> {
    if a.output == Path::new("-") {
        return Err(Error::usage("-: only files are written; ./- is a file of that name"));
    }
    let to = match &a.to {
        None => written_as(&a.output)?,
        Some(name) => format(name).filter(|f| f.encode.is_some()).ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().filter(|f| f.encode.is_some()).map(|f| f.name).collect();
            Error::usage(format!("--to {name}: no such format can be written; there are {}", known.join(", ")))
        })?,
    };
    not_over(&a.input, &a.output, "convert to")?;
    // What is no file is refused when it comes to writing.
    if a.output.is_file() && !a.force {
        return Err(Error::config(a.output.display().to_string(), "there is a file of this name already; --force overwrites it"));
    }
    let mut stream = a.reading.open(&a.input)?;
    let beyond = || {
        Error::format(&a.input, 0, "--rebase: from the earliest event to the latest is more than 64 bits of microseconds hold")
    };
    let first = if a.rebase { stream.rebase().ok_or_else(beyond)? } else { 0 };
    let mut report = convert(&stream, &a.output, to).map_err(|e| rebase_would_help(&mut stream, a, to).unwrap_or(e))?;
    if first != 0 {
        report.losses.push(format!("times are counted from the earliest event, which was at {first} us"));
    }
    report.losses.iter().for_each(|l| say(&format!("note: {l}")));
    if a.json {
        return print_json(&report);
    }
    print(&format!("{} events from {} to {}: {}\n", report.events, report.from, report.to, a.output.display()))
}

/// What to say where the format cannot hold the recording, but could if times were counted from its earliest event.
fn rebase_would_help(stream: &mut EventStream, a: &ConvertArgs, to: &Format) -> Option<Error> {
    let encode = to.encode?;
    let why = encode(stream).err()?;
    let helps = stream.rebase().is_some_and(|first| first != 0) && encode(stream).is_ok();
    helps.then(|| {
        Error::format(&a.output, 0, format!("{why}; with --rebase, which counts times from the earliest event, they fit"))
    })
}
