//! `spikemix infer`.

use super::train::stop_on_signal;
use super::{Place, Reading, print_json, say};
use crate::checkpoint::{Checkpoint, best_of};
use crate::encode::{Encoding, Kind, SplitBy, StepEncoder};
use crate::error::{Error, Result};
use crate::events::{Event, Reader, Sensor};
use crate::infer::{Origin, Session, answer, softmax};
use crate::model::Spec;
use crate::tensor::Tensor;
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Run a trained network on a recording and print class scores as steps go by.
///
/// The recording is cut into steps as in training. Where these are shares of its events or its duration, that needs all of it, so it is
/// read to its end first and then run in chunks of steps. Where they have a fixed duration (data.duration_us in the recipe, or --step-us),
/// events are decoded, encoded and run as they arrive (text once 64 KiB of it are there, which tell what its columns mean). Norms are folded,
/// and neurons keep their membranes from chunk to chunk, so that scores depend on --chunk by rounding alone. The latency of a chunk is the
/// time from its frames to its scores; decoding and encoding are not in it. Ctrl-C ends a stream with the results so far.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix infer runs/gestures-0/best.safetensors recording.aedat
  spikemix infer best.safetensors recording.bin --exit-at 0.95 --json
  camera | spikemix infer best.safetensors - --format aedat3 --step-us 20000 --chunk 2")]
pub(super) struct InferArgs {
    /// The checkpoint, a .safetensors file of `spikemix train`, or a run's folder for its best.safetensors
    #[arg(value_parser = PathBufValueParser::new().map(best_of))]
    checkpoint: PathBuf,
    /// An event file of any known format, or - for standard input
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Steps to run at once
    #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chunk: u32,
    /// Duration of a step in microseconds; by default as in training, or the recording is cut into as many steps as there
    #[arg(long, value_name = "U", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(1..))]
    step_us: Option<i64>,
    /// Steps to cut the recording into (by default as in training); of steps of a fixed duration the most that are run (by default all)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,
    /// Stop when the share of the best class (softmax of the mean scores) reaches P, and say how many steps that saved, where it is known
    /// (not of standard input that is left before its end)
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = share)]
    exit_at: Option<f64>,
    /// The sensor of a recording that does not declare it; by default that of the training data
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    sensor: Option<Sensor>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object a chunk and a final one, each on its line
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("a share above 0 and at most 1 is needed".into()),
    }
}

fn size(text: &str) -> Result<Sensor, String> {
    let parts = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parts {
        Some((width, height)) if (1..=65_536).contains(&width) && (1..=65_536).contains(&height) => {
            Ok(Sensor::new(width, height))
        }
        _ => Err("expected width and height in pixels, 1 to 65536 each, for example 128x128".into()),
    }
}

/// What is printed for a chunk with `--json`.
#[derive(Serialize)]
struct ChunkRow<'a> {
    /// Steps so far.
    steps: usize,
    /// Seconds of the recording so far; where steps hold equally many events, until the last of them.
    until_s: f64,
    class: &'a str,
    confidence: f64,
    /// Mean logits over all steps so far, by class.
    scores: &'a [f32],
    latency_ms: f64,
}

/// The last object with `--json`.
#[derive(Serialize)]
struct Summary {
    class: String,
    label: usize,
    confidence: f64,
    scores: Vec<f32>,
    shares: Vec<f64>,
    classes: Vec<String>,
    steps: usize,
    /// All steps of the recording; null where its end was not seen.
    steps_of_recording: Option<u64>,
    /// Steps not run because of `--exit-at`, of those that `--steps` allows; null without it, and where a stream was left before its end.
    steps_saved: Option<u64>,
    exited_early: bool,
    chunk: u32,
    latency_ms: Latency,
    device: String,
    warnings: Vec<String>,
}

/// Milliseconds from a chunk's frames to its scores.
#[derive(Serialize)]
struct Latency {
    min: f64,
    median: f64,
    max: f64,
}

impl Latency {
    fn of(mut ms: Vec<f64>) -> Latency {
        ms.sort_by(f64::total_cmp);
        let at = |i: usize| ms.get(i).copied().unwrap_or(0.0);
        let last = ms.len().saturating_sub(1);
        // Of an even number the mean of the two in the middle.
        Latency { min: at(0), median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, max: at(last) }
    }
}

/// Runs the command.
pub(super) fn run(a: &InferArgs) -> Result<()> {
    let options = a.reading.options()?;
    let checkpoint = Checkpoint::open(&a.checkpoint)?;
    let origin = Origin::of(&checkpoint)?;
    let (wanted, events) = (checkpoint.spec::<Spec>()?.in_channels, origin.encoding.shape(Sensor::new(1, 1))[3]);
    if wanted != events {
        let what = format!(
            "its input has {wanted} channels, where events of a camera have {events}: it was not trained on recordings of one"
        );
        return Err(Error::config(a.checkpoint.display().to_string(), what));
    }
    let (input, name): (Box<dyn Read>, &Path) = if a.file.as_os_str() == "-" {
        (Box::new(std::io::stdin().lock()), Path::new("standard input"))
    } else {
        (Box::new(File::open(&a.file).map_err(|e| Error::io(&a.file, e))?), &a.file)
    };
    let mut reader = Reader::new(input, name, &options)?;
    let device = a.place.open()?;
    let interrupted = Arc::default();
    let mut runner = Runner {
        a,
        name,
        session: Session::of(&checkpoint, &device)?,
        shape: [0; 3],
        waiting: Vec::new(),
        latency: Vec::new(),
        stopped: None,
        wide: origin.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(5),
        origin,
        warnings: Vec::new(),
        interrupted,
    };
    let total = match a.step_us.or(runner.origin.encoding.duration_us) {
        Some(us) => runner.stream(&mut reader, us)?,
        None => Some(runner.whole(&mut reader)?),
    };
    reader.warnings().into_iter().for_each(|w| runner.warn(w));
    runner.finish(total)
}

/// Why no more steps are run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The confidence is reached.
    Confident,
    /// As many steps as asked for.
    Enough,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads standard output any more.
    Unread,
}

struct Runner<'a> {
    a: &'a InferArgs,
    /// What to call the recording.
    name: &'a Path,
    origin: Origin,
    session: Session,
    /// `[H, W, C]`
    shape: [usize; 3],
    /// Frames of the chunk at hand.
    waiting: Vec<f32>,
    latency: Vec<f64>,
    stopped: Option<Stop>,
    /// Columns of a class's name.
    wide: usize,
    warnings: Vec<String>,
    /// Set by Ctrl-C, where a stream is run.
    interrupted: Arc<AtomicBool>,
}

impl Runner<'_> {
    fn warn(&mut self, what: String) {
        say(&format!("warning: {what}"));
        self.warnings.push(what);
    }
    fn wrong(&self, what: String) -> Error {
        Error::config(self.name.display().to_string(), what)
    }

    /// The recording's sensor; its frames must be as large as those of the training data.
    fn sensor(&mut self, declared: Option<Sensor>, events: &[Event]) -> Result<Sensor> {
        let trained = self.origin.sensor;
        let Some(sensor) = declared.or(self.a.sensor).or(trained) else {
            let around = Sensor::around(events);
            return Err(self.wrong(format!(
                "it does not declare its sensor (events reach {around}), and the checkpoint does not know it; --sensor says it"
            )));
        };
        if let (Some(d), Some(s)) = (declared, self.a.sensor)
            && d != s
        {
            return Err(self.wrong(format!("it declares a sensor of {d}, --sensor says {s}")));
        }
        self.origin.encoding.check(sensor)?;
        let [_, h, w, c] = self.origin.encoding.shape(sensor);
        self.shape = [h, w, c];
        if let Some(t) = trained.filter(|t| *t != sensor) {
            let [_, th, tw, _] = self.origin.encoding.shape(t);
            if [th, tw] != [h, w] {
                let what = format!("its sensor of {sensor} makes frames of {w}x{h}, the network was trained on {tw}x{th}");
                return Err(self.wrong(what));
            }
            self.warn(format!(
                "the recording's sensor is {sensor}, that of the training data was {t}; frames are scaled to the same size"
            ));
        }
        Ok(sensor)
    }

    /// Whether a live stream is past the part of its time that the filter keeps; of a file the rest is read too, which may be damaged.
    fn is_over(&self, events: &[Event]) -> bool {
        let Some((first, last)) = events.first().zip(events.last()) else { return false };
        self.live() && self.origin.encoding.filter.is_over(first.t, last.t)
    }
    fn live(&self) -> bool {
        self.a.file.as_os_str() == "-"
    }

    /// Reads the whole recording, then runs it; returns the number of its steps.
    fn whole(&mut self, reader: &mut Reader<impl Read>) -> Result<u64> {
        let encoding =
            Encoding { frames: self.a.steps.map_or(self.origin.encoding.frames, |n| n as usize), ..self.origin.encoding.clone() };
        let how = match (encoding.kind, encoding.split_by) {
            (Kind::Voxel, _) => "a voxel grid over its duration",
            (_, SplitBy::Number) => "equally many events",
            (_, SplitBy::Time) => "equal shares of its duration",
        };
        if encoding.frames != self.origin.encoding.frames {
            let trained = self.origin.encoding.frames;
            self.warn(format!("the network was trained on {trained} steps a recording; here it has {}", encoding.frames));
        }
        say(&format!("reading the whole recording, to cut it into {} steps of {how} as in training", encoding.frames));
        let mut events = Vec::new();
        while reader.read(&mut events)? && !self.is_over(&events) {}
        if events.is_empty() {
            return Err(self.wrong("there are no events in it".into()));
        }
        events.sort_by_key(|e| e.t);
        let sensor = self.sensor(reader.sensor(), &events)?;
        encoding.check(sensor)?;
        encoding.filter.begin(sensor).retain(&mut events);
        if events.is_empty() {
            return Err(self.wrong("data.filter leaves no events of it".into()));
        }
        let outside = events.iter().filter(|e| !sensor.holds(e)).count();
        if outside > 0 {
            let what = format!("{outside} of {} events lie outside the sensor of {sensor}", events.len());
            if self.a.reading.strict || outside == events.len() {
                return Err(self.wrong(what));
            }
            if 2 * outside > events.len() {
                return Err(self.wrong(format!("{what}: most of them, so it comes from another sensor; name that with --sensor")));
            }
            self.warn(format!("{what} and are left out"));
        }
        let (steps, x) = (encoding.steps(&events), encoding.encode(&events, sensor));
        let (frame, chunk): (usize, _) = (self.shape.iter().product(), self.a.chunk as usize);
        for (x, steps) in x.chunks(chunk * frame).zip(steps.chunks(chunk)) {
            if self.stopped.is_some() {
                break;
            }
            self.waiting = x.to_vec();
            let end = steps.last().map_or(0, |s| s.end);
            self.run_chunk((end - i128::from(events[0].t)) as f64 / 1e6)?;
        }
        Ok(steps.len() as u64)
    }

    /// Runs steps of `us` microseconds as they are complete; returns the number of steps if the end was seen.
    fn stream(&mut self, reader: &mut Reader<impl Read>, us: i64) -> Result<Option<u64>> {
        let trained = &self.origin.encoding;
        let cut = match (trained.duration_us, trained.kind, trained.split_by) {
            (Some(d), ..) if d == us => None,
            (Some(d), ..) => Some(format!("steps of {d} us; here they have {us} us")),
            (None, Kind::Voxel, _) => {
                Some(format!("{} bins a recording; with --step-us there is one every {us} us", trained.frames))
            }
            (None, _, SplitBy::Number) => {
                Some("steps of equally many events; with --step-us they have equal durations".to_string())
            }
            (None, _, SplitBy::Time) => None,
        };
        cut.into_iter().for_each(|cut| self.warn(format!("the network was trained on {cut}")));
        let live = self.live();
        let most = self.a.steps.map(|n| n as usize);
        stop_on_signal(self.interrupted.clone())?;
        let (mut encoder, mut size, strict): (Option<StepEncoder>, _, _) = (None, None, self.a.reading.strict);
        let (mut events, mut first, mut jump, mut all) = (Vec::new(), None, None, 0);
        // Whether the end was seen.
        let ended = loop {
            let mut more = reader.read(&mut events)?;
            all += events.len() as u64;
            if self.interrupted.load(Ordering::SeqCst) {
                self.stopped.get_or_insert(Stop::Interrupted);
            }
            if let Some(last) = events.last() {
                let first = *first.get_or_insert(events[0]);
                more &= !self.is_over(&[first, *last]);
            }
            if encoder.is_none() && !events.is_empty() {
                let sensor = self.sensor(reader.sensor(), &events)?;
                encoder = Some(StepEncoder::new(&self.origin.encoding, sensor, us)?);
                size = Some(sensor);
            }
            if let Some((e, sensor)) = size.and_then(|s: Sensor| Some((events.iter().find(|e| !s.holds(e))?, s)))
                && strict
            {
                return Err(self.wrong(format!("an event at ({}, {}) lies outside the sensor of {sensor}", e.x, e.y)));
            }
            if let Some(encoder) = &mut encoder {
                let frame: usize = self.shape.iter().product();
                let mut sink = |f: &[f32]| -> Result<()> {
                    if self.stopped.is_some() {
                        return Ok(());
                    }
                    self.waiting.extend_from_slice(f);
                    let waiting = self.waiting.len() / frame.max(1);
                    let seen = self.session.steps() + waiting;
                    let enough = most.is_some_and(|n| seen >= n);
                    if waiting >= self.a.chunk as usize || enough {
                        self.run_chunk(seen as f64 * us as f64 / 1e6)?;
                    }
                    if enough {
                        self.stopped.get_or_insert(Stop::Enough);
                    }
                    Ok(())
                };
                match encoder.push(&events, &mut sink) {
                    Err(e) if encoder.jumped() && !strict => {
                        jump = Some(format!("{e}; the steps before it are used"));
                        more = false;
                    }
                    result => result?,
                }
                if !more {
                    encoder.finish(&mut sink)?;
                }
            }
            events.clear();
            // Of a file the rest is only counted; a live stream is left.
            let leave = matches!(self.stopped, Some(Stop::Enough | Stop::Interrupted | Stop::Unread));
            if !more || leave || (live && self.stopped.is_some()) {
                break !more;
            }
        };
        let Some(encoder) = encoder else { return Err(self.wrong("there are no events in it".into())) };
        if all == encoder.outside() {
            let sensor = size.map_or(String::new(), |s| format!(" of {s}"));
            return Err(self.wrong(format!("all {all} events lie outside the sensor{sensor} or the crop")));
        }
        if encoder.steps() == 0 && ended {
            return Err(self.wrong("data.filter leaves no events of it".into()));
        }
        if self.stopped.is_none() && !self.waiting.is_empty() {
            self.run_chunk(encoder.steps() as f64 * us as f64 / 1e6)?;
        }
        let limit = self.origin.encoding.shape(Sensor::default())[0];
        if self.origin.encoding.duration_us.is_some() && self.session.steps() > limit {
            self.warn(format!("in training recordings were cut after {limit} steps (data.max_steps); here all are run"));
        }
        if let Some(jump) = jump {
            self.warn(jump);
        }
        if encoder.outside() > 0 {
            self.warn(format!("{} events lie outside the sensor or the crop and are left out", encoder.outside()));
        }
        if encoder.late() > 0 {
            self.warn(format!("{} events came after their step was complete and are counted in a later one", encoder.late()));
        }
        Ok(ended.then(|| encoder.steps()))
    }

    /// Runs the frames that wait, and prints a row.
    fn run_chunk(&mut self, until_s: f64) -> Result<()> {
        let [h, w, c] = self.shape;
        let steps = self.waiting.len() / (h * w * c).max(1);
        let begun = Instant::now();
        let shape = [steps, 1, h, w, c];
        let x = match self.origin.encoding.is_binary() {
            true => Tensor::spikes_from_f32(self.session.device(), &shape, &self.waiting)?,
            false => Tensor::from_f32(self.session.device(), &shape, &self.waiting)?,
        };
        self.session.push(&x)?;
        let scores = self.session.scores();
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        self.waiting.clear();
        let first = self.latency.is_empty();
        self.latency.push(ms);
        let (class, confidence) =
            answer(&scores).ok_or_else(|| Error::shape("infer", "the scores are not numbers: the weights are damaged"))?;
        let (steps, class) = (self.session.steps(), self.class(class));
        let row = ChunkRow { steps, until_s, class, confidence, scores: &scores, latency_ms: ms };
        let line = if self.a.json {
            serde_json::to_string(&row).map_err(|e| Error::shape("json", e.to_string()))? + "\n"
        } else {
            self.line(&row, first)
        };
        if !emit(&line)? {
            self.stopped = Some(Stop::Unread);
        } else if self.a.exit_at.is_some_and(|p| confidence >= p) {
            self.stopped = Some(Stop::Confident);
        }
        Ok(())
    }

    fn class(&self, i: usize) -> &str {
        self.origin.classes.get(i).map_or("?", String::as_str)
    }

    /// A row of the table, behind its head where it is the first.
    fn line(&self, r: &ChunkRow<'_>, first: bool) -> String {
        let wide = self.wide;
        let mut order: Vec<usize> = (0..r.scores.len()).collect();
        order.sort_by(|&a, &b| r.scores[b].total_cmp(&r.scores[a]));
        let shown = order.iter().take(3).map(|&i| format!("{} {:+.2}", self.class(i), r.scores[i]));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let head = match first {
            true => format!(
                "{:>6}  {:>11}  {:wide$}  {:>10}  {:>7}  highest scores\n",
                "steps", "until s", "class", "confidence", "ms"
            ),
            false => String::new(),
        };
        let confidence = format!("{:.1}%", 100.0 * r.confidence);
        let class = r.class;
        format!("{head}{:>6}  {:>11.6}  {class:wide$}  {confidence:>10}  {:>7.2}  {shown}\n", r.steps, r.until_s, r.latency_ms)
    }

    /// The last words; `total` is the number of steps of the recording, if it is known.
    fn finish(self, total: Option<u64>) -> Result<()> {
        let scores = self.session.scores();
        let Some((label, confidence)) = answer(&scores) else {
            return Err(self.wrong("it is too short: no step was run".into()));
        };
        let steps = self.session.steps();
        let early = self.stopped == Some(Stop::Confident);
        // No more would have been run than asked for.
        let would = total.map(|n| self.a.steps.map_or(n, |most| n.min(u64::from(most))));
        let saved = match (self.a.exit_at, early) {
            (None, _) => None,
            (_, false) => Some(0),
            (_, true) => would.map(|n| n.saturating_sub(steps as u64)),
        };
        let summary = Summary {
            class: self.class(label).to_string(),
            label,
            confidence,
            shares: softmax(&scores),
            scores,
            classes: self.origin.classes.clone(),
            steps,
            steps_of_recording: total,
            steps_saved: saved,
            exited_early: early && saved != Some(0),
            chunk: self.a.chunk,
            latency_ms: Latency::of(self.latency),
            device: self.session.device().describe(),
            warnings: self.warnings,
        };
        if self.stopped == Some(Stop::Unread) {
            return Ok(());
        }
        if self.a.json {
            return print_json(&summary);
        }
        let s = &summary;
        let of = s.steps_of_recording.map_or(String::new(), |n| format!(" of {n}"));
        let exit = match (self.a.exit_at, early, saved) {
            (None, ..) => String::new(),
            (Some(p), false, _) => format!("  (the confidence never reached {p}: no steps saved)"),
            (Some(p), true, Some(n)) => format!("  (--exit-at {p} saved {n})"),
            (Some(p), true, None) => format!("  (--exit-at {p} ended it)"),
        };
        let l = &s.latency_ms;
        let text = format!(
            "\nclass    {}  ({:.1}%)\nsteps    {steps}{of}{exit}\nlatency  min {:.2}, median {:.2}, max {:.2} ms a chunk of up to {} steps, on {}\n",
            s.class,
            100.0 * s.confidence,
            l.min,
            l.median,
            l.max,
            s.chunk,
            s.device
        );
        emit(&text).map(|_| ())
    }
}

/// Text on stdout, at once; false where the reader has gone.
fn emit(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::io("standard output", e)),
    }
}
