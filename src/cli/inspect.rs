//! `spikemix inspect`.

mod trains;

use super::{Reading, print, print_json, say, table};
use crate::checkpoint::{Checkpoint, best_of, is_one};
use crate::data::shd;
use crate::encode::{SplitBy, render};
use crate::error::{Error, Result};
use crate::events::{self, EventStats, EventStream};
use crate::files::{not_over, write_atomic};
use crate::profile::report::count;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, ImageError};
use serde::Serialize;
use serde_json::Value;
use std::io::Cursor;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cut {
    /// Equally long slices.
    Time,
    /// Equally many events to a slice.
    Number,
}

/// Look into an event file, a set of spike trains or a checkpoint.
///
/// Of an event file: format, sensor, number of events, duration, rate, polarities, how the columns of a table were told, what else is in it
/// (frames, IMU samples), and what is damaged; --png and --gif draw accumulated frames, side by side or one after another (on events red,
/// off events blue), with their times from the first event on. Of a set of spike trains (SHD, SSC; also .gz): samples, classes, units, spikes
/// and durations. Of a checkpoint: the network's spec, parameters by module, and what it says about itself.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("picture").multiple(true))]
#[command(after_help = "\
Examples:
  spikemix inspect recording.aedat
  spikemix inspect recording.bin --png frames.png --frames 12
  spikemix inspect recording.raw --gif movie.gif --slice-us 10000
  spikemix inspect events.txt --columns tyxp
  spikemix inspect runs/gestures-0/best.safetensors --json")]
pub(super) struct InspectArgs {
    /// An event file of any known format, a set of spike trains (SHD, SSC; also .gz), a checkpoint, or a run's folder
    #[arg(value_parser = PathBufValueParser::new().map(best_of))]
    file: PathBuf,
    /// Draw accumulated frames of the events to this file, side by side
    #[arg(long, value_name = "FILE", group = "picture")]
    png: Option<PathBuf>,
    /// Draw them to this file as a moving picture
    #[arg(long, value_name = "FILE", group = "picture")]
    gif: Option<PathBuf>,
    /// Frames the recording is cut into; 8 by default, in a moving picture 8 to 48, as long as each shows a sixth as many events as pixels
    #[arg(long, value_name = "N", requires = "picture", value_parser = clap::value_parser!(u16).range(1..=1024))]
    frames: Option<u16>,
    /// How the recording is cut into frames
    #[arg(long, value_enum, default_value = "time", requires = "picture")]
    split_by: Cut,
    /// Cut frames of so many microseconds instead, at most 1024
    #[arg(long, value_name = "U", requires = "picture", conflicts_with_all = ["frames", "split_by"], value_parser = clap::value_parser!(u64).range(1..))]
    slice_us: Option<u64>,
    /// Frames a second of the moving picture
    #[arg(long, default_value_t = 12.0, value_name = "F", requires = "gif")]
    fps: f64,
    #[command(flatten)]
    reading: Reading,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(a: &InspectArgs) -> Result<()> {
    // A damaged one is told by its name, unless it is a recording.
    let named = || a.file.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if is_one(&a.file) || named() && !events::is_one(&a.file) {
        if a.png.is_some() || a.gif.is_some() {
            return Err(Error::usage("--png and --gif draw events; a checkpoint has none"));
        }
        return checkpoint(&a.file, a.json);
    }
    if !(0.1..=50.0).contains(&a.fps) {
        return Err(Error::usage(format!("--fps {}: from 0.1 to 50 are possible", a.fps)));
    }
    for (option, kind, path) in [("--png", "png", &a.png), ("--gif", "gif", &a.gif)] {
        let Some(path) = path else { continue };
        not_over(&a.file, path, option)?;
        if path.extension().is_some_and(|e| !e.eq_ignore_ascii_case(kind)) {
            return Err(Error::usage(format!(
                "{option} {}: the picture is written as {}; give it a name that ends with .{kind}",
                path.display(),
                kind.to_uppercase()
            )));
        }
    }
    if a.png.is_some() && a.png == a.gif {
        return Err(Error::usage("--png and --gif name one file"));
    }
    let stream = match a.reading.open(&a.file) {
        Ok(stream) => stream,
        Err(e) => {
            let found = match spike_trains(a) {
                None => return Err(e),
                Some(found) => found?,
            };
            if a.png.is_some() || a.gif.is_some() {
                return Err(Error::usage("--png and --gif draw events of a camera; these are spike trains"));
            }
            return match found {
                (_, Some(damage)) if a.reading.strict => Err(damage),
                found => trains::show(found, a.json),
            };
        }
    };
    let draws = a.png.is_some() || a.gif.is_some();
    if draws && stream.events.is_empty() {
        return Err(Error::format(&a.file, 0, "a recording without events; there is nothing to draw"));
    }
    if let (Some(us), true, Some((first, last))) = (a.slice_us, draws, stream.events.first().zip(stream.events.last()))
        && last.t.abs_diff(first.t) / us >= render::MOST_SLICES as u64
    {
        let shown = us.saturating_mul(render::MOST_SLICES as u64);
        say(&format!("note: only the first {shown} us are drawn, {} slices; longer --slice-us show more", render::MOST_SLICES));
    }
    if let Some(path) = &a.png {
        let style = style(a, &stream, 8);
        let sheet = render::sheet(&stream, &style);
        drawn(path, &told(&stream, &style), |out| sheet.write_to(out, image::ImageFormat::Png))?;
    }
    if let Some(path) = &a.gif {
        let style = render::Style { frame_width: 384, ..style(a, &stream, moving(&stream)) };
        drawn(path, &told(&stream, &style), |out| gif(&stream, &style, a.fps, out))?;
    }
    let stats = stream.stats();
    if a.json {
        return print_json(&stats);
    }
    print(&events_text(&stats, stream.sensor_declared))
}

/// What is no recording may be a set of spike trains; not what is read as something else on demand, nor a pipe, whose bytes are gone.
/// Of what is one, or is packed, it says what is wrong.
fn spike_trains(a: &InspectArgs) -> Option<Result<shd::Found>> {
    let Reading { format, columns, stream, .. } = &a.reading;
    let open = columns.is_none() && stream.is_none() && format.as_deref().is_none_or(|f| f == events::hdf5::FORMAT.name);
    if open && a.file.is_file() { shd::trains_if_any(&a.file) } else { None }
}

/// So many frames that shapes can be seen in each.
fn moving(stream: &EventStream) -> u16 {
    let pixels = u64::from(stream.sensor.width) * u64::from(stream.sensor.height);
    (6 * stream.events.len() as u64 / pixels.max(1)).clamp(8, 48) as u16
}

fn style(a: &InspectArgs, stream: &EventStream, frames: u16) -> render::Style {
    let split_by = match a.split_by {
        Cut::Time => SplitBy::Time,
        Cut::Number => SplitBy::Number,
    };
    // What lasts no time has one.
    let moment = stream.events.first().map(|e| e.t) == stream.events.last().map(|e| e.t);
    let frames = usize::from(a.frames.unwrap_or(if moment { 1 } else { frames }));
    // Slices by number of fewer events than slices would all be empty but the last.
    let most = if split_by == SplitBy::Number { stream.events.len().max(1) } else { usize::MAX };
    let into = render::Cut::Into(frames.min(most), split_by);
    render::Style {
        cut: a.slice_us.map_or(into, render::Cut::Every),
        rows_from_below: stream.rows_from_below(),
        legend: true,
        ..render::Style::default()
    }
}

/// What the frames show.
fn told(stream: &EventStream, style: &render::Style) -> String {
    let (first, last) = stream.events.iter().fold((i64::MAX, i64::MIN), |(a, b), e| (a.min(e.t), b.max(e.t)));
    let span = last.saturating_sub(first).max(0);
    match style.cut {
        render::Cut::Into(1, _) => format!("1 frame of {} events", stream.events.len()),
        render::Cut::Into(n, SplitBy::Time) => format!("{n} frames of {:.3} ms each", span as f64 / 1e3 / n as f64),
        render::Cut::Into(n, SplitBy::Number) => format!("{n} frames of {} events each", stream.events.len() / n),
        render::Cut::Every(us) => format!("frames of {:.3} ms each", us as f64 / 1e3),
    }
}

/// Writes a picture, whole or not at all, and says what it shows.
fn drawn(path: &Path, told: &str, write: impl FnOnce(&mut Cursor<Vec<u8>>) -> Result<(), ImageError>) -> Result<()> {
    let mut out = Cursor::new(Vec::new());
    write(&mut out).map_err(|e| Error::format(path, 0, format!("cannot be drawn: {e}")))?;
    write_atomic(path, out.get_ref())?;
    say(&format!("drew {}: {told} in order of time, from the first event on; on events red, off events blue", path.display()));
    Ok(())
}

fn gif(stream: &EventStream, style: &render::Style, fps: f64, out: &mut Cursor<Vec<u8>>) -> Result<(), ImageError> {
    let mut encoder = GifEncoder::new_with_speed(out, 10);
    encoder.set_repeat(Repeat::Infinite)?;
    // Times in a GIF are hundredths of a second.
    let delay = Delay::from_numer_denom_ms((100.0 / fps).round() as u32 * 10, 1);
    let frame = |image| Frame::from_parts(DynamicImage::ImageRgb8(image).into_rgba8(), 0, 0, delay);
    encoder.encode_frames(render::movie(stream, style).map(frame))
}

fn events_text(s: &EventStats, declared: bool) -> String {
    let share = |n: u64| 100.0 * n as f64 / s.events.max(1) as f64;
    let time = |t: Option<i64>| t.map_or("-".to_string(), |t| format!("{t} us"));
    let sensor = format!("{}x{} pixels ({})", s.width, s.height, if declared { "declared" } else { "the smallest that fits" });
    let mut rows = [
        ["format", s.format],
        ["sensor", &sensor],
        ["events", &s.events.to_string()],
        ["on", &format!("{} ({:.1}%)", s.n_on, share(s.n_on))],
        ["off", &format!("{} ({:.1}%)", s.events - s.n_on, share(s.events - s.n_on))],
        ["first", &time(s.t_first)],
        ["last", &time(s.t_last)],
        ["duration", &format!("{:.6} s", s.duration)],
        ["rate", &format!("{} events/s", count(s.mean_rate))],
        ["out of order", &format!("{} events earlier than the one before", s.backsteps)],
    ]
    .map(|r| r.map(String::from).to_vec())
    .to_vec();
    rows.extend(s.read_as.iter().map(|told| vec!["read as".to_string(), told.clone()]));
    rows.extend(Some(s.besides.join(", ")).filter(|b| !b.is_empty()).map(|b| vec!["besides".to_string(), b]));
    rows.extend(s.warnings.iter().map(|w| vec!["warning".to_string(), w.clone()]));
    table(&rows, &[])
}

/// A module of a checkpoint.
#[derive(Serialize)]
struct Module {
    name: String,
    tensors: usize,
    /// Scalars, running statistics included.
    scalars: usize,
}

fn checkpoint(path: &Path, json: bool) -> Result<()> {
    let c = Checkpoint::open(path)?;
    let mut modules: Vec<Module> = Vec::new();
    for (name, (shape, _)) in &c.weights {
        let module = module(name);
        let n = shape.iter().product::<usize>();
        match modules.iter_mut().find(|m| m.name == module) {
            Some(m) => (m.tensors, m.scalars) = (m.tensors + 1, m.scalars + n),
            None => modules.push(Module { name: module.to_string(), tensors: 1, scalars: n }),
        }
    }
    let total: usize = modules.iter().map(|m| m.scalars).sum();
    if json {
        let shapes: serde_json::Map<String, Value> =
            c.weights.iter().map(|(n, (s, _))| (n.clone(), Value::from(s.clone()))).collect();
        return print_json(&serde_json::json!({
            "metadata": c.meta,
            "modules": modules,
            "tensors": shapes,
            "scalars": total,
            "optimiser_tensors": c.optimiser.len(),
        }));
    }
    let mut text = String::from("metadata\n");
    let mut rows = Vec::new();
    let m = &c.meta;
    for (key, value) in [
        ("written by", m.program.clone()),
        ("seed", m.seed.to_string()),
        ("split", m.split.clone()),
        ("epochs", if m.step > 0 { format!("{} and {} steps", m.epoch, m.step) } else { m.epoch.to_string() }),
        ("optimiser", if c.optimiser.is_empty() { "not kept".into() } else { format!("{} tensors", c.optimiser.len()) }),
        ("neurons", m.neuron_arithmetic.clone()),
    ] {
        rows.push(vec![format!("  {key}"), value]);
    }
    flatten("  metrics", &m.metrics, &mut rows);
    text += &table(&rows, &[]);
    for (title, value) in [("spec", &m.spec), ("recipe", &m.recipe)] {
        let mut rows = Vec::new();
        flatten(" ", value, &mut rows);
        text += &format!("\n{title}\n{}", table(&rows, &[]));
    }
    let mut rows = vec![["module", "tensors", "scalars"].map(String::from).to_vec()];
    rows.extend(modules.iter().map(|m| vec![m.name.clone(), m.tensors.to_string(), m.scalars.to_string()]));
    rows.push(vec!["all (running statistics included)".into(), c.weights.len().to_string(), total.to_string()]);
    print(&format!("{text}\n{}", table(&rows, &[false, true, true])))
}

/// The module of a tensor: its path up to the second level that is no number (`block.0.attn`).
fn module(name: &str) -> &str {
    let mut words = 0;
    for (i, part) in name.split('.').scan(0, |at, p| Some((std::mem::replace(at, *at + p.len() + 1), p))) {
        words += usize::from(part.parse::<u32>().is_err());
        let rest = &name[i + part.len()..];
        // What follows must leave the tensor's own name.
        if words == 2 || !rest[1.min(rest.len())..].contains('.') {
            return &name[..i + part.len()];
        }
    }
    name
}

/// Rows of key and value for everything below `v`.
fn flatten(key: &str, v: &Value, rows: &mut Vec<Vec<String>>) {
    match v {
        Value::Object(map) => {
            for (k, v) in map {
                let dot = if key.trim().is_empty() { " " } else { "." };
                flatten(&format!("{key}{dot}{k}"), v, rows);
            }
        }
        Value::Null => {}
        Value::String(s) => rows.push(vec![key.to_string(), s.clone()]),
        v => rows.push(vec![key.to_string(), v.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::module;

    #[test]
    fn modules_of_tensors() {
        for (name, want) in [
            ("block.0.attn.q.0.conv.weight", "block.0.attn"),
            ("block.1.mlp.fc1.bn.running_mean", "block.1.mlp"),
            ("patch_embed.stages.0.conv.weight", "patch_embed.stages"),
            ("patch_embed.rpe.conv.weight", "patch_embed.rpe"),
            ("head.weight", "head"),
            ("w", "w"),
        ] {
            assert_eq!(module(name), want);
        }
    }
}
