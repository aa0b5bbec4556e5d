//! `spikemix bench decode`.

use crate::cli::{print, print_json, say, table};
use crate::error::{Error, Result};
use crate::events::{self, DecodeSpeed, Event, EventStream, FORMATS, Format, ReadOptions, Sensor, bench_decode};
use crate::rng::Rng;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Time the decoders of event files.
///
/// Without files, a made-up recording (noise that moves as a camera's events do: sorted times, clustered places) is encoded in every
/// format that has a writer. With files, each is decoded in the format it is in. Everything is read from memory, on one thread; the
/// figure is that of the fastest pass.
///
/// With --peer, readers from PyPI that are installed for that Python (expelliarmus, aedat, event_stream, h5py, numpy) read the same files,
/// and so does spikemix, now from the file too, for the ratio of the two.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix bench decode
  spikemix bench decode recording.raw gestures.aedat --seconds 2 --json
  python3 -m venv readers && readers/bin/pip install expelliarmus aedat event_stream h5py numpy
  spikemix bench decode --peer readers/bin/python")]
pub(in crate::cli) struct DecodeArgs {
    /// Event files; a made-up recording without them
    files: Vec<PathBuf>,
    /// Events of the made-up recording
    #[arg(long, default_value_t = 2_000_000)]
    events: usize,
    /// Seconds to spend on each format or file, and reader
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A Python in which public readers are installed, to compare with
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// What was measured of a file.
#[derive(Serialize)]
struct Row {
    file: String,
    #[serde(flatten)]
    speed: DecodeSpeed,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
}

/// The same file read by spikemix and by another reader, both from the file.
#[derive(Serialize)]
struct Compared {
    /// Events read in a second by spikemix.
    events_per_second: f64,
    #[serde(flatten)]
    peer: Peer,
    /// How many times as fast spikemix is.
    ratio: Option<f64>,
}

/// What `peer_decode.py` prints.
#[derive(Serialize, Deserialize)]
struct Peer {
    reader: Option<String>,
    #[serde(rename(serialize = "peer_events"))]
    events: Option<u64>,
    #[serde(rename(serialize = "peer_seconds"))]
    seconds: Option<f64>,
    error: Option<String>,
}

/// Runs the command.
pub(super) fn run(a: &DecodeArgs) -> Result<()> {
    if !(a.seconds > 0.0 && a.seconds <= 3600.0) {
        return Err(Error::usage(format!("--seconds {}: must be above 0 and at most 3600", a.seconds)));
    }
    if a.events == 0 || a.events > 100_000_000 {
        return Err(Error::usage(format!("--events {}: from 1 to 100,000,000 are possible", a.events)));
    }
    let mut rows = Vec::new();
    if a.files.is_empty() {
        let (stream, mut small) = (made_up(a.events, [640, 480]), None);
        let dir = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
        for format in FORMATS.iter().filter(|f| f.encode.is_some()) {
            let path = dir.path().join(format!("{}.{}", format.name, format.extensions[0]));
            // Not every format holds every sensor: ATIS has a byte for each coordinate.
            let file = match events::save(&path, &stream, format) {
                Ok(()) => "made up",
                Err(_) => {
                    events::save(&path, small.get_or_insert_with(|| made_up(a.events, [240, 180])), format)?;
                    "made up, 240x180"
                }
            };
            rows.push(Row { file: file.into(), ..row(&path, format, a)? });
        }
    }
    for path in &a.files {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let format = events::sniff(&bytes, Some(path)).ok_or_else(|| Error::format(path, 0, "of no known event format"))?;
        rows.push(row(path, format, a)?);
    }
    if a.json {
        return print_json(&rows);
    }
    print(&text(&rows, a.peer.is_some()))
}

fn row(path: &Path, format: &'static Format, a: &DecodeArgs) -> Result<Row> {
    let time = Duration::from_secs_f64(a.seconds);
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let speed = bench_decode(format, &bytes, time)
        .ok_or_else(|| Error::format(path, 0, format!("is damaged: {} cannot be timed on it", format.name)))?;
    let compared = a.peer.as_deref().map(|python| compared(python, path, format, a.seconds)).transpose()?;
    if let Some(Compared { peer: Peer { error: Some(e), .. }, .. }) = &compared {
        say(&format!("{}: no comparison: {e}", path.display()));
    }
    Ok(Row { file: path.display().to_string(), speed, compared })
}

fn compared(python: &Path, path: &Path, format: &'static Format, seconds: f64) -> Result<Compared> {
    let options = ReadOptions { format: Some(format), ..ReadOptions::default() };
    let (mut best, mut n, begin) = (f64::INFINITY, 0, Instant::now());
    while best.is_infinite() || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        n = events::open_with(path, &options)?.events.len();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let mut command = Command::new(python);
    command.args(["-c", include_str!("peer_decode.py"), format.name]).arg(path).arg(seconds.to_string());
    let out = command.output().map_err(|e| Error::io(python, e))?;
    let peer: Peer = serde_json::from_slice(&out.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&out.stderr);
        Error::usage(format!("--peer {}: it printed no result; {}", python.display(), said.lines().last().unwrap_or("nothing")))
    })?;
    let ours = n as f64 / best.max(1e-9);
    let theirs = peer.events.filter(|n| *n > 0).zip(peer.seconds).map(|(n, s)| n as f64 / s.max(1e-9));
    Ok(Compared { events_per_second: ours, ratio: theirs.map(|t| ours / t), peer })
}

fn text(rows: &[Row], peers: bool) -> String {
    let mut head = vec!["file", "format", "events", "bytes", "million events/s", "MB/s"];
    if peers {
        head.extend(["from the file", "reader", "its million events/s", "its events", "ratio"]);
    }
    let million = |v: f64| format!("{:.1}", v / 1e6);
    let body = rows.iter().map(|r| {
        let s = &r.speed;
        let mut row = vec![r.file.clone(), s.format.into(), s.events.to_string(), s.bytes.to_string()];
        row.extend([million(s.events_per_second), format!("{:.0}", s.megabytes_per_second)]);
        if let Some(c) = &r.compared {
            let known = |v: Option<String>| v.unwrap_or("-".into());
            row.extend([million(c.events_per_second), known(c.peer.reader.clone())]);
            row.push(known(c.ratio.map(|ratio| million(c.events_per_second / ratio))));
            row.push(known(c.peer.events.map(|n| n.to_string())));
            row.push(known(c.ratio.map(|ratio| format!("{ratio:.1}"))));
        }
        row
    });
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|h| h.to_string()).collect()).chain(body).collect();
    table(&rows, &[false, false, true, true, true, true, true, false, true, true, true])
}

/// Events of a spot that wanders over 640 x 480 pixels, half of each polarity, about one a microsecond.
fn made_up(n: usize, [width, height]: [u32; 2]) -> EventStream {
    let mut rng = Rng::new(0).stream("bench decode");
    let [w, h] = [width, height].map(i64::from);
    let (mut x, mut y, mut t) = (w / 2, h / 2, 0i64);
    let events = (0..n).map(|_| {
        let bits = rng.u32();
        let step = |shift: u32| i64::from(bits >> shift & 15) - 7;
        (x, y) = ((x + step(0)).clamp(0, w - 1), (y + step(4)).clamp(0, h - 1));
        t += i64::from(bits >> 8 & 1) + i64::from(bits >> 9 & 1);
        Event { t, x: x as u16, y: y as u16, p: bits >> 10 & 1 != 0 }
    });
    EventStream::new(events.collect(), Sensor::new(width, height))
}
