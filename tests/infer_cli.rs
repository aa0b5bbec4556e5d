//! `spikemix infer` as a person meets it.

use crate::cli::{check, fails, spikemix, works};
use crate::infer::random_norms;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use spikemix::checkpoint::{Meta, json, save};
use spikemix::ctx::Ctx;
use spikemix::data::gestures::{GestureSpec, Gestures};
use spikemix::data::{Dataset, DatasetSpec, Split};
use spikemix::device::Device;
use spikemix::encode::{Kind, SplitBy};
use spikemix::events::{self, EventStream, Filter};
use spikemix::model::{self, Spec};
use spikemix::recipe::{Recipe, TrainSpec};
use spikemix::tensor::Tensor;
use spikemix::tensor::torch::Named;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

type Outcome = Result<(), Failed>;

const FRAMES: usize = 8;

/// A checkpoint `a.safetensors` of a small network with random weights, recordings `r.aedat` and `r.bin`, and the scores expected.
fn prepare(dir: &Path, split_by: SplitBy, size: Option<[usize; 2]>) -> Result<(EventStream, Vec<f32>), Failed> {
    prepared(dir, DatasetSpec { frames: FRAMES, split_by, size, ..DatasetSpec::new("gestures") })
}

fn prepared(dir: &Path, data: DatasetSpec) -> Result<(EventStream, Vec<f32>), Failed> {
    let gestures = Gestures::new(GestureSpec::default(), Split::Test, 1)?;
    let classes = gestures.classes().to_vec();
    let spec = Spec { dim: 16, heads: 2, depth: 1, classes: classes.len(), ..Spec::default() };
    let recipe = Recipe { name: "a".into(), data, model: spec.clone(), train: TrainSpec::default() };
    let meta = Meta { recipe: json(&recipe)?, classes, sensor: Some(gestures.sensor()), ..Meta::new(&spec)? };
    let (net, mut params) = model::fresh(&spec, &Device::Cpu, 3)?;
    random_norms(&mut params)?;
    save(dir.join("a.safetensors"), &params, &Named::new(), &meta)?;
    save(dir.join("bare.safetensors"), &params, &Named::new(), &Meta::new(&spec)?)?;
    let trains = Meta { spec: json(&Spec { in_channels: 156, ..spec.clone() })?, ..meta };
    save(dir.join("trains.safetensors"), &params, &Named::new(), &trains)?;

    let recording = gestures.recording(0);
    for (file, format) in [("r.aedat", "aedat3"), ("r.bin", "atis")] {
        let format = events::format(format).ok_or("no such format")?;
        events::save(dir.join(file), &recording, format)?;
    }
    let encoding = recipe.data.encoding();
    let ([_, h, w, c], t) = (encoding.shape(recording.sensor), encoding.steps(&recording.events).len());
    let x = encoding.encode(&recording.events, recording.sensor);
    let x = match encoding.is_binary() {
        true => Tensor::spikes_from_f32(&Device::Cpu, &[t, 1, h, w, c], &x)?,
        false => Tensor::from_f32(&Device::Cpu, &[t, 1, h, w, c], &x)?,
    };
    let y = net.forward(&x, &mut Ctx::infer(&params))?.to_vec()?;
    let mean = |k: usize| y.iter().skip(k).step_by(spec.classes).sum::<f32>() / t as f32;
    Ok((recording, (0..spec.classes).map(mean).collect()))
}

fn lines(text: &str) -> Result<Vec<Value>, Failed> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn close(got: &Value, want: &[f32]) -> Outcome {
    let got: Vec<f64> = got.as_array().ok_or("no scores")?.iter().filter_map(Value::as_f64).collect();
    let spread = want.iter().map(|v| v.abs()).fold(0.0, f32::max);
    let near = got.iter().zip(want).all(|(a, b)| (a - f64::from(*b)).abs() < 0.02 * f64::from(spread));
    check(near && got.len() == want.len(), (got, want))
}

fn scores() -> Outcome {
    for split_by in [SplitBy::Number, SplitBy::Time] {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        let (_, want) = prepare(dir, split_by, Some([16, 16]))?;
        for (chunk, rows) in [(1, 8), (3, 3), (100, 1)] {
            for file in ["r.aedat", "r.bin"] {
                let args = ["infer", "a.safetensors", file, "--device", "cpu", "--json", "--chunk", &chunk.to_string()];
                let out = lines(&works(dir, &args)?)?;
                let last = &out[out.len() - 1];
                check(out.len() == rows + 1 && last["steps"] == 8 && last["steps_of_recording"] == 8, &out)?;
                check(out[0]["steps"] == chunk.min(8) && out[rows - 1]["scores"] == last["scores"], &out)?;
                check(last["steps_saved"].is_null() && last["exited_early"] == false && last["classes"][7] == "zoom_out", last)?;
                let [least, most] = ["min", "max"].map(|key| last["latency_ms"][key].as_f64());
                check(least.zip(most).is_some_and(|(least, most)| 0.0 < least && least <= most), last)?;
                close(&last["scores"], &want)?;
            }
        }
        // A threshold that any answer reaches, and one that none does.
        let early =
            |p: &str| works(dir, &["infer", "a.safetensors", "r.aedat", "--device", "cpu", "--chunk", "2", "--exit-at", p]);
        let text = early("0.01")?;
        check(text.contains("steps    2 of 8  (--exit-at 0.01 saved 6)"), &text)?;
        let text = early("1")?;
        check(text.contains("steps    8 of 8  (the confidence never reached 1: no steps saved)"), &text)?;
    }
    Ok(())
}

/// Steps of a fixed duration, from a file and from standard input.
fn stream() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let (recording, want) = prepare(dir, SplitBy::Time, Some([16, 16]))?;
    // As long as a step in training, but for the rounding that goes to the last.
    let span = recording.events[recording.events.len() - 1].t - recording.events[0].t;
    let us = (span / FRAMES as i64 + 1).to_string();
    let common = ["--device", "cpu", "--json", "--step-us", &us, "--chunk", "3"];
    let file = lines(&works(dir, &[&["infer", "a.safetensors", "r.aedat"], &common[..]].concat())?)?;
    let last = &file[file.len() - 1];
    check(file.len() == 4 && last["steps"] == 8 && last["steps_of_recording"] == 8, &file)?;
    check(last["scores"].as_array().is_some_and(|s| s.len() == want.len()), last)?;
    for more in [&[][..], &["--format", "aedat3"]] {
        let args = [&["infer", "a.safetensors", "-"], &common[..], more].concat();
        let out = spikemix(dir, &args).stdin(Stdio::from(File::open(dir.join("r.aedat"))?)).output()?;
        check(out.status.success(), &out)?;
        let same = lines(&String::from_utf8(out.stdout)?)?;
        check(same[3]["scores"] == last["scores"] && same[3]["steps"] == 8, &same)?;
    }
    // No more steps than asked for; then the end is not seen.
    let few = lines(&works(dir, &[&["infer", "a.safetensors", "r.aedat", "--steps", "4"], &common[..]].concat())?)?;
    check(few.len() == 3 && few[2]["steps"] == 4, &few)?;
    // A clock that jumps by years ends the stream; the steps before it are used, unless that is refused.
    let mut jumped = recording.clone();
    let last = jumped.events.len() - 1;
    jumped.events[last].t += 1 << 50;
    events::save(dir.join("jump.aedat"), &jumped, events::format("aedat3").ok_or("no such format")?)?;
    let used = lines(&works(dir, &[&["infer", "a.safetensors", "jump.aedat"], &common[..]].concat())?)?;
    let said = used[used.len() - 1]["warnings"][0].as_str().unwrap_or_default();
    check(used[used.len() - 1]["steps"] == 8 && said.contains("time jumps by") && said.ends_with("before it are used"), &used)?;
    let refused = spikemix(dir, &[&["infer", "a.safetensors", "jump.aedat", "--strict"], &common[..]].concat()).output()?;
    check(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("time jumps by"), &refused)?;
    // An early exit from a file still counts its steps.
    let early = lines(&works(dir, &[&["infer", "a.safetensors", "r.aedat", "--exit-at", "0.01"], &common[..]].concat())?)?;
    check(early.len() == 2 && early[1]["steps_saved"] == 5 && early[1]["exited_early"] == true, &early)
}

/// Every encoding, cut by a fixed duration: streamed without being asked for.
fn encodings() -> Outcome {
    for encoding in [Kind::Frames, Kind::Voxel, Kind::Surface, Kind::Raster] {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        let data = DatasetSpec { encoding, duration_us: Some(75_000), size: Some([16, 16]), ..DatasetSpec::new("gestures") };
        let (recording, want) = prepared(dir, data.clone())?;
        let steps = data.encoding().length(&recording.events);
        for more in [&["--chunk", "3"][..], &["--step-us", "75000"]] {
            let args = [&["infer", "a.safetensors", "r.aedat", "--device", "cpu", "--json"], more].concat();
            let out = lines(&works(dir, &args)?)?;
            let last = &out[out.len() - 1];
            check(last["steps"] == steps && last["warnings"].as_array().is_some_and(Vec::is_empty), last)?;
            close(&last["scores"], &want)?;
        }
        let args = ["infer", "a.safetensors", "r.aedat", "--device", "cpu", "--json", "--step-us", "60000"];
        let out = lines(&works(dir, &args)?)?;
        let said = out[out.len() - 1]["warnings"][0].as_str().unwrap_or_default();
        check(said == "the network was trained on steps of 75000 us; here they have 60000 us", said)?;
        // Shares of the whole recording, for the encoding that was streamed above.
        let (_, want) = prepared(dir, DatasetSpec { frames: FRAMES, duration_us: None, ..data })?;
        let out = lines(&works(dir, &["infer", "a.safetensors", "r.aedat", "--device", "cpu", "--json", "--chunk", "5"])?)?;
        check(out.len() == 3 && out[2]["steps"] == FRAMES, &out)?;
        close(&out[2]["scores"], &want)?;
    }
    Ok(())
}

/// A live stream that goes on is left when the part of its time that the filter keeps is over; the answer is that of the file.
fn window() -> Outcome {
    for duration_us in [None, Some(60_000)] {
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        let filter = Filter { duration_us: Some(300_000), ..Filter::default() };
        prepared(dir, DatasetSpec { filter, duration_us, split_by: SplitBy::Time, ..DatasetSpec::new("gestures") })?;
        let common = ["--device", "cpu", "--json"];
        let file = lines(&works(dir, &[&["infer", "a.safetensors", "r.aedat"], &common[..]].concat())?)?;
        let args = [&["infer", "a.safetensors", "-", "--format", "aedat3"], &common[..]].concat();
        let mut child = spikemix(dir, &args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut pipe = child.stdin.take().ok_or("no pipe")?;
        // It may have gone before all is written.
        let _ = pipe.write_all(&std::fs::read(dir.join("r.aedat"))?);
        for _ in 0..600 {
            if child.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let ended = child.try_wait()?.is_some();
        drop(pipe);
        let live = lines(&String::from_utf8(child.wait_with_output()?.stdout)?)?;
        check(ended, "it waits for more")?;
        let last = |l: &[Value]| l.last().map(|l| l["scores"].clone());
        check(last(&live).is_some() && last(&live) == last(&file), (&live, &file))?;
    }
    Ok(())
}

fn wrong_input() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    prepare(dir, SplitBy::Number, None)?;
    std::fs::write(dir.join("empty.aedat"), b"")?;
    std::fs::write(dir.join("text.txt"), b"some text")?;
    let infer = |status: i32, args: &[&str], words: &str| {
        let all = [&["infer", "--device", "cpu"], args].concat();
        fails(dir, status, &all, words)
    };
    infer(1, &["none.safetensors", "r.bin"], "none.safetensors: ")?;
    infer(1, &["r.bin", "r.bin"], "r.bin: byte 0: not a safetensors file")?;
    infer(1, &["bare.safetensors", "r.bin"], "bare.safetensors: recipe: this checkpoint carries none")?;
    infer(
        1,
        &["trains.safetensors", "r.bin"],
        "trains.safetensors: its input has 156 channels, where events of a camera have 2",
    )?;
    infer(1, &["a.safetensors", "none.bin"], "none.bin: ")?;
    infer(1, &["a.safetensors", "."], ".: ")?;
    infer(1, &["a.safetensors", "empty.aedat"], "empty.aedat: byte 0: it is empty")?;
    infer(1, &["a.safetensors", "empty.aedat", "--format", "atis"], "there are no events in it")?;
    infer(1, &["a.safetensors", "-"], "standard input: byte 0: it is empty")?;
    infer(1, &["a.safetensors", "text.txt"], "no known event format")?;
    infer(1, &["a.safetensors", "r.bin", "--sensor", "32x32"], "makes frames of 32x32, the network was trained on 64x64")?;
    infer(1, &["a.safetensors", "r.aedat", "--sensor", "32x32"], "it declares a sensor of 64x64, --sensor says 32x32")?;
    infer(2, &["a.safetensors", "r.bin", "--format", "xml"], "--format xml: known formats are ")?;
    infer(2, &["a.safetensors", "r.bin", "--sensor", "32"], "width and height")?;
    for (flag, value) in [("--exit-at", "0"), ("--exit-at", "1.5"), ("--chunk", "0"), ("--steps", "0"), ("--step-us", "0")] {
        infer(2, &["a.safetensors", "r.bin", flag, value], "invalid value")?;
    }
    // A cut recording is used as far as it goes, unless that is refused.
    let bytes = std::fs::read(dir.join("r.bin"))?;
    std::fs::write(dir.join("cut.bin"), &bytes[..bytes.len() - 2])?;
    infer(1, &["a.safetensors", "cut.bin", "--strict"], "cut.bin: byte ")?;
    let text = works(dir, &["infer", "--device", "cpu", "a.safetensors", "cut.bin", "--json"])?;
    let out = lines(&text)?;
    check(out[8]["warnings"][0].as_str().is_some_and(|w| w.contains("events before it are used")), &out)
}

/// What is told of a table, runs that end before their recording does, and recordings of another sensor.
fn left_early() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let (recording, _) = prepare(dir, SplitBy::Time, None)?;
    let infer = |args: &[&str]| -> Result<Value, Failed> {
        let all = [&["infer", "--device", "cpu", "--json", "a.safetensors"], args].concat();
        lines(&works(dir, &all)?)?.pop().ok_or_else(|| "nothing was printed".into())
    };
    // Columns that nothing tells: y before x, and the sensor is square.
    let rows: String = recording.events.iter().map(|e| format!("{} {} {} {}\n", u8::from(e.p), e.y, e.x, e.t)).collect();
    std::fs::write(dir.join("pyxt.txt"), rows)?;
    let (file, table) = (infer(&["r.bin"])?, infer(&["pyxt.txt", "--columns", "pyxt", "--sensor", "64x64"])?);
    check(file["scores"] == table["scores"], (&file, &table))?;
    fails(dir, 2, &["infer", "--device", "cpu", "a.safetensors", "r.bin", "--columns", "txyp"], "no columns to order")?;
    fails(dir, 2, &["infer", "--device", "cpu", "a.safetensors", "r.bin", "--stream", "left"], "no streams to choose from")?;

    // No more steps are saved than would have been run, and none where the confidence was never reached.
    let step = ["r.bin", "--step-us", "20000"];
    let all = infer(&step)?["steps"].as_u64().ok_or("no steps")?;
    let early = infer(&[&step[..], &["--exit-at", "0.01", "--steps", "5"]].concat())?;
    check(all > 5 && early["steps"] == 1 && early["steps_saved"] == 4 && early["exited_early"] == true, &early)?;
    let never = infer(&[&step[..], &["--exit-at", "1", "--steps", "5"]].concat())?;
    check(never["steps"] == 5 && never["steps_saved"] == 0 && never["exited_early"] == false, &never)?;

    // Some events outside the sensor are told of, also where only the first steps are run; if all are, nothing was seen.
    let mut wide = recording.clone();
    wide.events[0].x = 200;
    let far: Vec<_> = recording.events.iter().map(|e| events::Event { x: e.x + 100, ..*e }).collect();
    let atis = events::format("atis").ok_or("no such format")?;
    events::save(dir.join("wide.bin"), &wide, atis)?;
    events::save(dir.join("far.bin"), &EventStream { events: far, ..recording }, atis)?;
    for args in [&["wide.bin"][..], &["wide.bin", "--step-us", "20000"], &["wide.bin", "--step-us", "20000", "--steps", "2"]] {
        let out = infer(args)?;
        let said =
            out["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).any(|w| w.contains("outside the sensor"));
        check(said, (args, &out))?;
    }
    for args in [&["far.bin"][..], &["far.bin", "--step-us", "20000"]] {
        let o = spikemix(dir, &[&["infer", "--device", "cpu", "a.safetensors"], args].concat()).output()?;
        let said = String::from_utf8_lossy(&o.stderr).contains("events lie outside the sensor of 64x64");
        check(o.status.code() == Some(1) && said, &o)?;
    }
    Ok(())
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("infer_cli::scores", scores),
        Trial::test("infer_cli::stream", stream),
        Trial::test("infer_cli::encodings", encodings),
        Trial::test("infer_cli::window", window),
        Trial::test("infer_cli::left early", left_early),
        Trial::test("infer_cli::wrong input", wrong_input),
    ]
}
