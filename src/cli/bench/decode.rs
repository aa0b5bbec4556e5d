//! `spikemix bench decode`.

use crate::cli::{print, print_json, table};
use crate::error::{Error, Result};
use crate::events::{self, Event, EventStream, Sensor};
use crate::events::{bench_decode, bench_decode_bytes};
use crate::rng::Rng;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Time the decoders of event files.
///
/// Without files, a made-up recording (noise that moves as a camera's events do: sorted times, clustered places) is encoded in every
/// format that has a writer. With files, each is decoded in the format it is in. Everything is read from memory, on one thread; the
/// figure is that of the fastest pass.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench decode
  spikemix bench decode recording.raw gestures.aedat --seconds 2 --json")]
pub(in crate::cli) struct DecodeArgs {
    /// Event files; a made-up recording without them
    files: Vec<PathBuf>,
    /// Events of the made-up recording
    #[arg(long, default_value_t = 2_000_000)]
    events: usize,
    /// Seconds to spend on each format or file
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(a: &DecodeArgs) -> Result<()> {
    if !(a.seconds > 0.0 && a.seconds <= 3600.0) {
        return Err(Error::usage(format!("--seconds {}: must be above 0 and at most 3600", a.seconds)));
    }
    if a.events == 0 || a.events > 100_000_000 {
        return Err(Error::usage(format!("--events {}: from 1 to 100,000,000 are possible", a.events)));
    }
    let time = Duration::from_secs_f64(a.seconds);
    let mut rows = Vec::new();
    if a.files.is_empty() {
        rows = bench_decode(&made_up(a.events), time).into_iter().map(|s| ("made up".to_string(), s)).collect();
    }
    for path in &a.files {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let format = events::sniff(&bytes, Some(path)).ok_or_else(|| Error::format(path, 0, "of no known event format"))?;
        let speed = bench_decode_bytes(format, &bytes, time)
            .ok_or_else(|| Error::format(path, 0, format!("is damaged: {} cannot be timed on it", format.name)))?;
        rows.push((path.display().to_string(), speed));
    }
    if a.json {
        return print_json(&rows.iter().map(|(_, s)| s).collect::<Vec<_>>());
    }
    let head = ["file", "format", "events", "bytes", "million events/s", "MB/s"].map(String::from).to_vec();
    let body = rows.iter().map(|(file, s)| {
        let speed = [format!("{:.1}", s.events_per_second / 1e6), format!("{:.0}", s.megabytes_per_second)];
        [file.clone(), s.format.into(), s.events.to_string(), s.bytes.to_string()].into_iter().chain(speed).collect()
    });
    print(&table(&std::iter::once(head).chain(body).collect::<Vec<_>>(), &[false, false, true, true, true, true]))
}

/// Events of a spot that wanders over 640 x 480 pixels, half of each polarity, about one a microsecond.
fn made_up(n: usize) -> EventStream {
    let mut rng = Rng::new(0).stream("bench decode");
    let (mut x, mut y, mut t) = (320i64, 240i64, 0i64);
    let events = (0..n).map(|_| {
        let bits = rng.u32();
        let step = |shift: u32| i64::from(bits >> shift & 15) - 7;
        (x, y) = ((x + step(0)).clamp(0, 639), (y + step(4)).clamp(0, 479));
        t += i64::from(bits >> 8 & 1) + i64::from(bits >> 9 & 1);
        Event { t, x: x as u16, y: y as u16, p: bits >> 10 & 1 != 0 }
    });
    EventStream::new(events.collect(), Sensor::new(640, 480))
}
