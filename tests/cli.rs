//! The command as a person meets it: results on stdout, talk on stderr, exit status, one sentence for what is wrong.

use crate::gpu;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use spikemix::data::{self, Dataset};
use std::path::Path;
use std::process::{Command, Output, Stdio};

type Outcome = Result<(), Failed>;

const RECIPE: &str = "
name = 'tiny'
[data]
name = 'gestures'
frames = 2
size = [16, 16]
train_samples = 48
test_samples = 16
validation = 0.25
[model]
dim = 16
depth = 1
[model.semm]
experts = 2
[train]
epochs = 2
batch = 8
";

pub fn spikemix(dir: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_spikemix"));
    c.args(args).current_dir(dir).stdin(Stdio::null());
    c
}

fn run(dir: &Path, args: &[&str]) -> Result<Output, Failed> {
    Ok(spikemix(dir, args).output()?)
}

/// A folder with `tiny.toml` in it.
fn folder() -> Result<tempfile::TempDir, Failed> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("tiny.toml"), RECIPE)?;
    Ok(dir)
}

pub fn check(ok: bool, what: impl std::fmt::Debug) -> Outcome {
    if ok { Ok(()) } else { Err(format!("{what:?}").into()) }
}

/// Runs what should work and returns its stdout.
pub fn works(dir: &Path, args: &[&str]) -> Result<String, Failed> {
    let o = run(dir, args)?;
    check(o.status.success(), (args, &o))?;
    Ok(String::from_utf8(o.stdout)?)
}

/// The last line of stdout as JSON.
fn json(dir: &Path, args: &[&str]) -> Result<Value, Failed> {
    let text = works(dir, args)?;
    Ok(serde_json::from_str(text.trim_end().lines().last().unwrap_or(""))?)
}

/// Runs what should fail with this status; stdout stays empty, and the last line of stderr is `error: ` and holds `words`.
pub fn fails(dir: &Path, status: i32, args: &[&str], words: &str) -> Outcome {
    let o = run(dir, args)?;
    let err = String::from_utf8_lossy(&o.stderr).into_owned();
    check(o.status.code() == Some(status) && o.stdout.is_empty(), (args, &o))?;
    let line = err.lines().rfind(|l| l.starts_with("error: ")).unwrap_or_default();
    check(line.contains(words) && !err.contains("panicked"), (args, words, &err))
}

fn help() -> Outcome {
    let dir = folder()?;
    for args in [
        vec!["--help"],
        vec!["train", "--help"],
        vec!["eval", "--help"],
        vec!["profile", "--help"],
        vec!["infer", "--help"],
        vec!["devices", "--help"],
        vec!["inspect", "--help"],
        vec!["bench", "step", "--help"],
    ] {
        let text = works(dir.path(), &args)?;
        check(text.contains("Examples:\n  spikemix "), (args, text))?;
    }
    Ok(())
}

fn usage() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    fails(dir, 2, &["trian"], "unrecognized subcommand")?;
    fails(dir, 2, &["train"], "required arguments")?;
    fails(dir, 2, &["train", "tiny.toml", "--set", "train.batch"], "expected key=value")?;
    fails(dir, 2, &["train", "tiny.toml", "--seed", "1", "--set", "train.seed=2"], "--seed 1 and --set train.seed=2")?;
    fails(dir, 2, &["train", "tiny.toml", "--set", "train={seed=2}", "--seed", "1"], "--seed 1 and --set train.seed=2")?;
    fails(dir, 2, &["train", "tiny.toml", "--device", "cuda"], "none of auto, cpu, gpu, gpu:N")?;
    fails(dir, 2, &["train", "tiny.toml", "--threads", "0"], "--threads 0")?;
    fails(dir, 2, &["train", "tiny.toml", "--resume", "--force"], "cannot be used with")?;
    fails(dir, 2, &["bench", "step", "--batch", "0"], "--batch 0")?;
    fails(dir, 2, &["bench", "step", "--dim", "9"], "model.dim")?;
    fails(dir, 2, &["profile", "a.safetensors", "--n", "0"], "--n 0")?;
    fails(dir, 2, &["profile", "a.safetensors", "--convention", "spikingfomer"], "did you mean spikingformer?")?;
    fails(dir, 2, &["inspect", "a.safetensors", "--png", "a.png"], "a checkpoint has none")
}

fn wrong_input() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    fails(dir, 1, &["train", "none.toml"], "none.toml: ")?;
    fails(
        dir,
        1,
        &["train", "tiny.toml", "--set", "train.bach=4"],
        "--set train.bach: there is no such key; did you mean batch?",
    )?;
    let unset = |key, words| fails(dir, 1, &["train", "tiny.toml", "--unset", key], words);
    unset("model.sem", "--unset model.sem: tiny.toml has no such key; did you mean model.semm?")?;
    unset("model.semm=none", "did you mean model.semm?")?;
    unset("data.name", "tiny.toml: data: missing field `name`")?;
    fails(dir, 1, &["train", "tiny.toml", "--set", "train.batch=0"], "--set train.batch: ")?;
    fails(dir, 1, &["train", "tiny.toml", "--set", "train.lr=-1"], "--set train.lr: ")?;
    fails(dir, 1, &["train", "tiny.toml", "--set", "model.classes=3"], "8 classes")?;
    let encoding = |set: &str, words: &str| fails(dir, 1, &["train", "tiny.toml", "--set", set], words);
    encoding("data.encoding=voxels", "--set data.encoding: \"voxels\" is not one of its values; did you mean voxel?")?;
    encoding("data.duration_us=0", "--set data.duration_us: 0 is not a duration in microseconds")?;
    encoding("data.max_steps=5", "--set data.max_steps: only recordings cut by duration_us have it")?;
    encoding("data.tau_us=5", "--set data.tau_us: only encoding = \"surface\" has it")?;
    encoding("data.crop={x=1,y=1,width=64,height=9}", "--set data.crop: 64x9 pixels from (1, 1) on reach beyond")?;
    encoding("data.crop=[0,8]", "--set data.crop: a part of the sensor without pixels holds no events")?;
    encoding("data.dir=here", "--set data.dir: recordings of gestures are made as they are asked for")?;
    encoding("model.depth=4000000000", "--set model.depth: 4000000000: from 1 to 1024 are possible")?;
    encoding("data.crop=[1]", "data.crop: expected [height, width] for the centre, or { x, y, width, height }")?;
    fails(dir, 1, &["train", "tiny.toml", "--set", "data.name=nmnist"], "tiny.toml: data.dir: N-MNIST is not at")?;
    fails(dir, 1, &["train", "tiny.toml", "--device", "gpu:99"], "no adapter 99")?;
    std::fs::write(dir.join("bad.toml"), "[train]\nepochs = = 3\n")?;
    fails(dir, 1, &["train", "bad.toml"], "bad.toml:2:10: ")?;
    std::fs::write(dir.join("dta.toml"), "[dta]\nname = 'gestures'\n")?;
    fails(dir, 1, &["train", "dta.toml"], "dta.toml: missing field `data`; is dta meant to be it?")?;
    fails(dir, 1, &["eval", "none.safetensors"], "none.safetensors: ")?;
    fails(dir, 1, &["profile", "none.safetensors"], "none.safetensors: ")?;
    fails(dir, 1, &["eval", "tiny.toml"], "tiny.toml: byte 0: not a safetensors file")?;
    fails(dir, 1, &["inspect", "tiny.toml"], "tiny.toml: ")?;
    fails(dir, 2, &["bench", "step", "--batch", "9999999999999"], "more than 2^31 values")?;
    std::fs::write(dir.join("a.csv"), "t,x,y,p\n1,2,3,1\n")?;
    fails(dir, 2, &["inspect", "a.csv", "--png", "./a.csv"], "--png ./a.csv: is the file that is read")?;
    fails(dir, 2, &["inspect", "-"], "-: only infer reads standard input")?;
    fails(dir, 2, &["convert", "a.csv", "-"], "-: only files are written")?;
    fails(dir, 2, &["convert", "a.csv", "a.csv"], "a.csv: is the file that is read")?;
    fails(dir, 2, &["convert", "a.csv", "a.csv", "--force"], "a.csv: is the file that is read")?;
    fails(dir, 1, &["convert", "a.csv", "none/b.csv"], "none/b.csv: there is no folder none")?;
    std::fs::write(dir.join("b.csv"), "mine\n")?;
    fails(dir, 1, &["convert", "a.csv", "b.csv"], "b.csv: there is a file of this name already; --force overwrites it")?;
    check(std::fs::read(dir.join("b.csv"))? == b"mine\n", "it was overwritten")?;
    works(dir, &["convert", "a.csv", "b.csv", "--force"])?;
    check(std::fs::read(dir.join("b.csv"))? == b"t,x,y,p\n1,2,3,1\n", "it was not overwritten")?;
    // Nothing was left behind by any of it.
    check(!dir.join("runs").exists(), "a run's folder after an error")
}

const KEYS: [&str; 11] = [
    "test_accuracy",
    "val_accuracy",
    "chosen_epoch",
    "firing_rate",
    "router_firing_rate",
    "experts_active_per_token",
    "effective_macs",
    "effective_acs",
    "energy_pj",
    "seed",
    "seconds",
];

fn train_eval_inspect() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let trained = json(dir, &["train", "tiny.toml", "--seed", "3", "--device", "cpu", "--json"])?;
    for key in KEYS {
        check(trained[key].is_number(), (key, &trained))?;
    }
    check(trained["seed"] == 3, &trained)?;
    for file in ["recipe.toml", "metrics.jsonl", "last.safetensors", "best.safetensors", "result.json"] {
        check(dir.join("runs/tiny-3").join(file).exists(), file)?;
    }
    let result: Value = serde_json::from_slice(&std::fs::read(dir.join("runs/tiny-3/result.json"))?)?;
    check(result == trained, (&result, &trained))?;

    let best = "runs/tiny-3/best.safetensors";
    let tested = json(dir, &["eval", best, "--device", "cpu", "--threads", "1", "--json"])?;
    for key in KEYS.iter().filter(|k| **k != "seconds") {
        check(tested[key] == trained[key], (key, &tested[key], &trained[key]))?;
    }
    let val = json(dir, &["eval", best, "--device", "cpu", "--split", "val", "--json"])?;
    check(val["test_accuracy"].is_null() && val["accuracy"] == trained["val_accuracy"], &val)?;
    fails(dir, 1, &["eval", best, "--device", "cpu", "--set", "model.dim=24"], "best.safetensors: tensor ")?;
    fails(dir, 1, &["train", "tiny.toml", "--seed", "3", "--device", "cpu"], "there is a run here already")?;
    // A run's folder stands for its best checkpoint.
    let named = json(dir, &["eval", "runs/tiny-3", "--device", "cpu", "--threads", "1", "--json"])?;
    check(named["checkpoint"] == best && named["test_accuracy"] == tested["test_accuracy"], &named)?;
    fails(dir, 1, &["eval", "runs", "--device", "cpu"], "runs: a folder without best.safetensors")?;

    let seen = json(dir, &["inspect", best, "--json"])?;
    check(seen["metadata"]["spec"]["dim"] == 16 && seen["optimiser_tensors"] == 0, &seen)?;
    let text = works(dir, &["inspect", best])?;
    check(text.contains("block.0.attn") && text.contains("semm.experts"), &text)?;
    // By its content, and by its name what is none.
    std::fs::copy(dir.join(best), dir.join("x.bin"))?;
    check(works(dir, &["inspect", "x.bin"])? == text, "another name, another text")?;
    check(works(dir, &["inspect", "runs/tiny-3"])? == text, "a run's folder, another text")?;
    fails(dir, 2, &["inspect", "x.bin", "--gif", "x.gif"], "a checkpoint has none")?;
    std::fs::copy(dir.join("tiny.toml"), dir.join("none.safetensors"))?;
    fails(dir, 1, &["inspect", "none.safetensors"], "none.safetensors: byte 0: not a safetensors file")?;
    let plain =
        ["train", "tiny.toml", "--unset", "model.semm", "--set", "train.epochs=1", "--seed", "4", "--set", "train.seed=4"];
    let all = ["--set", "data.validation=0", "--device", "cpu", "--out", "plain"];
    let text = works(dir, &[&plain[..], &all].concat())?;
    check(text.contains("validation accuracy none"), &text)?;
    fails(dir, 1, &["eval", "plain/best.safetensors", "--split", "val"], "--split val: data.validation is 0")?;
    let recipe = std::fs::read_to_string(dir.join("plain/recipe.toml"))?;
    check(!recipe.contains("semm") && recipe.contains("seed = 4"), &recipe)?;
    let report = works(dir, &["train", "tiny.toml", "--out", "again", "--device", "cpu"])?;
    for word in ["test accuracy", "block.0.attn.router", "energy by horowitz45-fp32", "MAC", "AC"] {
        check(report.contains(word), (word, &report))?;
    }
    let bytes = std::fs::read(dir.join(best))?;
    // A checkpoint from when a recipe could set what has no effect.
    let (heads, other) = (br#"\"heads\":16"#, br#"\"heads\":32"#);
    let mut old = bytes.clone();
    while let Some(at) = old.windows(heads.len()).position(|w| w == heads) {
        old[at..at + other.len()].copy_from_slice(other);
    }
    check(old != bytes, "no heads in the checkpoint")?;
    std::fs::write(dir.join("old.safetensors"), old)?;
    works(dir, &["eval", "old.safetensors", "--device", "cpu"])?;
    // Classes in another order are not compared by number.
    let order = "data.gestures.classes=['right','left','up','down','clockwise','counter_clockwise','zoom_in','zoom_out']";
    fails(dir, 1, &["eval", best, "--device", "cpu", "--set", order], r#"class 0 is "right" here and "left" in runs"#)?;
    // A checkpoint that was cut short.
    std::fs::write(dir.join("cut.safetensors"), &bytes[..bytes.len() - 5])?;
    fails(dir, 1, &["eval", "cut.safetensors"], "cut short")
}

/// The report: its numbers are those of eval, its page stands by itself.
fn profile() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let o = run(dir, &["train", "tiny.toml", "--set", "train.epochs=1", "--device", "cpu", "--out", "r"])?;
    check(String::from_utf8_lossy(&o.stderr).contains("spikemix profile r/best.safetensors --html"), &o)?;
    let best = "r/best.safetensors";
    let args = ["profile", best, "--device", "cpu", "--convention", "horowitz45-fp32-cache", "--html", "report.html"];
    let p = json(dir, &[&args[..], &["--json"]].concat())?;
    let e = json(dir, &["eval", best, "--device", "cpu", "--json"])?;
    for key in ["accuracy", "firing_rate", "router_firing_rate", "effective_acs", "effective_macs", "confusion"] {
        check(p[key] == e[key], (key, &p[key], &e[key]))?;
    }
    // The energy is by the convention that was asked for, and says so.
    check(p["energy_convention"] == args[5] && p["energy_pj"] == p["energy"][5]["energy_pj"], &p["energy_pj"])?;
    let plain = json(dir, &["profile", best, "--device", "cpu", "--json"])?;
    for key in ["dense_energy_pj", "energy_convention"] {
        check(plain[key] == e[key], (key, &plain[key], &e[key]))?;
    }
    let sum = |key: &str| -> f64 { p["modules"].as_array().into_iter().flatten().filter_map(|m| m[key].as_f64()).sum() };
    let near = |a: f64, b: &Value| b.as_f64().is_some_and(|b| b > 0.0 && (a - b).abs() < 1e-6 * b);
    check(plain["energy_pj"].as_f64().is_some_and(|pj| near(pj, &e["energy_pj"])), (&plain["energy_pj"], &e["energy_pj"]))?;
    check(near(sum("effective_acs"), &p["effective_acs"]) && near(sum("bytes_moved"), &p["bytes_moved"]), &p)?;
    check(near(sum("energy_pj"), &p["energy"][5]["energy_pj"]) && p["energy"][5]["convention"] == args[5], &p["energy"])?;
    check(
        p["neurons"][0]["neurons"] == 16 * 16 * 2 && p["neurons"][0]["rate_by_step"].as_array().is_some_and(|r| r.len() == 2),
        &p,
    )?;
    check(p["routers_by_step"][0]["steps"].as_array().is_some_and(|s| s.len() == 2), &p["routers_by_step"])?;
    check(p["neurobench"]["SynapticOperations"]["Effective_ACs"].is_number() && p["skipped_sops"] == 0.0, &p["neurobench"])?;
    // What decides which rows are left out is told, too.
    let list = p["modules"].as_array().into_iter().flatten().find(|m| m["op"] == "list" && m["name"] == "block.0.attn");
    let positive = |key: &str| list.is_some_and(|m| m[key].as_f64().is_some_and(|v| v > 0.0));
    check(positive("seconds") && positive("bytes_moved"), list)?;
    // All neurons at the first of two steps, and some at the second.
    let neurons: f64 = p["neurons"].as_array().into_iter().flatten().filter_map(|n| n["neurons"].as_f64()).sum();
    let changed = &p["neurobench"]["MembraneUpdates"];
    check(changed.as_f64().is_some_and(|n| n > neurons && n <= 2.0 * neurons), (changed, neurons))?;
    check(p["kernels"].as_array().is_some_and(|k| k.len() > 5) && sum("seconds") > 0.0, &p["kernels"])?;
    let page = std::fs::read_to_string(dir.join("report.html"))?;
    for word in ["block.0.attn.router", "data:image/png;base64,", "<svg", "Confusion", "How each number"] {
        check(page.to_lowercase().contains(&word.to_lowercase()), word)?;
    }
    // Nothing is fetched from elsewhere.
    let within = |tag: &str| page.split(tag).skip(1).all(|rest| rest.starts_with("\"data:"));
    check(within("src=") && within("href=") && !page.contains("<script"), "the page leans on other files")?;
    let some = json(dir, &["profile", best, "--device", "cpu", "--n", "8", "--json"])?;
    check(some["samples_counted"] == 8, &some["samples_counted"])?;
    let text = works(dir, &["profile", best, "--device", "cpu", "--n", "4", "--split", "val"])?;
    check(["NeuroBench", "spikingformer", "step 1", "break-even", "met a closed gate"].iter().all(|w| text.contains(w)), &text)?;
    check(text.contains("energy            ") && text.contains(" a sample by horowitz45-fp32\n"), &text)?;
    fails(dir, 2, &["profile", best, "--html", "a.html", "--clip", "99", "--device", "cpu"], "--clip 99")?;
    let o = run(dir, &["profile", best, "--clip", "1", "--device", "cpu"])?;
    check(o.status.code() == Some(2) && String::from_utf8_lossy(&o.stderr).contains("--html <FILE>"), &o)?;
    // Nothing but a page may be written over.
    fails(dir, 2, &["profile", best, "--html", "r/recipe.toml", "--device", "cpu"], "a name that ends with .html")?;
    fails(dir, 1, &["profile", best, "--html", "none/a.html", "--n", "2", "--device", "cpu"], "none/a.html: ")
}

/// Two processes that fill one cache at once come to the same as one without; a third finds everything there, though the recordings
/// have moved, and a fourth what has not changed.
fn shared_cache() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let at = |place: &'static str| {
        let set = ["--set", "train.epochs=1", "--set", "data.name=folder", "--set", place];
        move |out| [&["train", "tiny.toml", "--device", "cpu", "--json", "--out", out], &set[..]].concat()
    };
    for (split, n) in [(data::Split::Train, 48), (data::Split::Test, 16)] {
        let gestures = data::gestures::Gestures::new(Default::default(), split, n)?;
        data::gestures::write_to_disk(&gestures, dir.join("d"), &spikemix::events::aedat3::FORMAT)?;
    }
    let args = at("data.dir=d");
    let cached = |out| [&args(out)[..], &["--set", "data.cache=c"]].concat();
    let runs: Vec<_> =
        ["a", "b"].map(|out| spikemix(dir, &cached(out)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()).into();
    for run in runs {
        check(run?.wait()?.success(), "a run failed")?;
    }
    let cache = |args: &[&str], words: &str| {
        let said = String::from_utf8_lossy(&run(dir, args)?.stderr).into_owned();
        check(said.contains(words), &said)
    };
    std::fs::rename(dir.join("d"), dir.join("e"))?;
    let moved = at("data.dir=e");
    let args = |out| [&moved(out)[..], &["--set", "data.cache=c"]].concat();
    cache(&args("third"), "cache: 48 samples found in c, 0 added; it holds 64 in ")?;
    let loss = |out: &str| -> Result<Value, Failed> {
        let result: Value = serde_json::from_slice(&std::fs::read(dir.join(out).join("result.json"))?)?;
        Ok(result["test_loss"].clone())
    };
    let without = json(dir, &moved("without"))?;
    check([loss("a")?, loss("b")?, loss("third")?].iter().all(|l| *l == without["test_loss"]), &without)?;
    cache(&[&args("fifth")[..], &["--set", "data.frames=3"]].concat(), "cache: 0 samples found in c, 48 added")?;
    // Another recording takes the place of one.
    let others = data::gestures::Gestures::new(Default::default(), data::Split::Train, 200)?;
    let file = dir.join("e/train").join(&others.classes()[0]).join("000008.aedat");
    check(file.exists(), &file)?;
    spikemix::events::save(&file, &others.recording(160), &spikemix::events::aedat3::FORMAT)?;
    cache(&args("sixth"), "cache: 47 samples found in c, 1 added")
}

/// Ctrl-C, then --resume: the same weights as without.
#[cfg(unix)]
fn interrupt() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let args = |out| ["train", "tiny.toml", "--device", "cpu", "--set", "train.epochs=40", "--out", out];
    let mut child = spikemix(dir, &args("a")).stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    while !dir.join("a/last.safetensors").exists() {
        check(child.try_wait()?.is_none(), "the run ended before it could be stopped")?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    check(Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success(), "kill")?;
    check(child.wait()?.code() == Some(130), "exit status after Ctrl-C")?;
    check(!dir.join("a/result.json").exists(), "the run was over already")?;
    works(dir, &[&args("a")[..], &["--resume"]].concat())?;
    works(dir, &args("b"))?;
    let tensors = |run: &str| -> Result<_, Failed> {
        let c = spikemix::checkpoint::Checkpoint::open(dir.join(run).join("last.safetensors"))?;
        Ok((c.weights, c.optimiser))
    };
    check(tensors("a")? == tensors("b")?, "the resumed run differs")
}

/// A reader that goes away is no failure.
#[cfg(unix)]
fn broken_pipe() -> Outcome {
    let dir = folder()?;
    let mut child = spikemix(dir.path(), &["devices"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    drop(child.stdout.take());
    check(child.wait()?.success(), "a closed pipe was taken for a failure")
}

/// Drawing a recording.
fn picture() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let gestures = data::gestures::Gestures::new(Default::default(), data::Split::Test, 1)?;
    spikemix::events::save(dir.join("a.aedat"), &gestures.recording(0), &spikemix::events::aedat3::FORMAT)?;
    let seen = json(dir, &["inspect", "a.aedat", "--png", "a.png", "--frames", "6", "--json"])?;
    check(seen["events"].as_u64().is_some_and(|n| n > 100) && seen["format"] == "aedat3", &seen)?;
    check(std::fs::read(dir.join("a.png"))?.starts_with(b"\x89PNG"), "not a PNG")?;
    fails(dir, 1, &["inspect", "a.aedat", "--png", "none/a.png"], "none/a.png: ")?;
    works(dir, &["inspect", "a.aedat", "--gif", "a.gif", "--slice-us", "100000"])?;
    let gif = std::fs::read(dir.join("a.gif"))?;
    // The frames, and below them a line for times and colours.
    check(gif.starts_with(b"GIF89a") && gif[6..10] == [128, 1, 128 + 22, 1], "not a GIF of 384 x (384 + 22)")?;
    // One moment is one frame.
    std::fs::write(dir.join("one.csv"), "t,x,y,p\n5,1,2,1\n")?;
    works(dir, &["inspect", "one.csv", "--png", "one.png"])?;
    let one = image::load_from_memory(&std::fs::read(dir.join("one.png"))?)?;
    works(dir, &["inspect", "one.csv", "--png", "one1.png", "--frames", "1"])?;
    check(one == image::load_from_memory(&std::fs::read(dir.join("one1.png"))?)?, "more than one frame")?;
    // Fewer events than slices by number are as many slices.
    std::fs::write(dir.join("three.csv"), "t,x,y,p\n1,2,3,1\n2,5,6,0\n40,3,3,1\n")?;
    let said = run(dir, &["inspect", "three.csv", "--png", "three.png", "--split-by", "number"])?;
    check(String::from_utf8_lossy(&said.stderr).contains("3 frames of 1 events each"), &said)?;
    // Of nothing there is no picture.
    std::fs::write(dir.join("none.csv"), "t,x,y,p\n")?;
    for kind in ["png", "gif"] {
        let (option, file) = (format!("--{kind}"), format!("none.{kind}"));
        let words = "none.csv: byte 0: a recording without events; there is nothing to draw";
        fails(dir, 1, &["inspect", "none.csv", &option, &file], words)?;
        check(!dir.join(&file).exists(), file)?;
    }
    // A recording is one whatever its name.
    std::fs::copy(dir.join("a.aedat"), dir.join("a.safetensors"))?;
    let named = json(dir, &["inspect", "a.safetensors", "--png", "b.png", "--frames", "6", "--json"])?;
    check(named == seen && std::fs::read(dir.join("b.png"))? == std::fs::read(dir.join("a.png"))?, &named)?;
    // jAER counts rows from below: an event of row 0 is drawn at the bottom.
    let header = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n".to_vec();
    std::fs::write(dir.join("b.aedat"), [header, vec![0, 0, 0, 5 << 1, 0, 0, 0, 9]].concat())?;
    works(dir, &["inspect", "b.aedat", "--png", "b.png", "--frames", "1"])?;
    let png = image::load_from_memory(&std::fs::read(dir.join("b.png"))?)?.to_rgb8();
    let coloured = png.enumerate_pixels().filter(|(_, _, c)| c[0].abs_diff(c[2]) > 60).map(|(x, y, _)| (x, y));
    let (drawn, legend): (Vec<_>, Vec<_>) = coloured.partition(|p| p.1 < 4 + 256);
    // A square of each colour.
    check(legend.len() == 2 * 14 * 14, legend.len())?;
    let [left, bottom] = [4 + 2 * (127 - 5), 4 + 2 * 127];
    check(drawn == [(left, bottom), (left + 1, bottom), (left, bottom + 1), (left + 1, bottom + 1)], &drawn)?;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("gone/b.png", dir.join("link.png"))?;
        fails(dir, 1, &["inspect", "a.aedat", "--png", "link.png"], "link.png: is a link to gone/b.png, which is not there")?;
        std::os::unix::fs::symlink("gone", dir.join("run"))?;
        let words = "run: is a link to gone, which is not there";
        fails(dir, 1, &["train", "tiny.toml", "--device", "cpu", "--out", "run"], words)?;
    }
    fails(dir, 2, &["inspect", "a.aedat", "--gif", "a.gif", "--fps", "0"], "--fps 0")?;
    fails(dir, 2, &["inspect", "a.aedat", "--columns", "txyp"], "aedat3 files have no columns")?;
    let text = works(dir, &["inspect", "a.aedat"])?;
    check(text.contains("64x64 pixels (declared)") && text.contains("events/s"), text)
}

fn bench() -> Outcome {
    let dir = folder()?;
    let args = ["bench", "step", "--dim", "16", "--depth", "1", "--size", "16", "--steps-t", "2", "--batch", "2", "--runs", "2"];
    let seen = json(dir.path(), &[&args[..], &["--device", "cpu", "--threads", "2", "--json"]].concat())?;
    for key in ["train_s", "infer_s", "launches_per_step", "reads_per_step"] {
        check(seen[key].is_number(), (key, &seen))?;
    }
    check(seen["net"] == "spikformer_semm" && seen["kernels"].as_array().is_some_and(|k| k.len() > 5), &seen)
}

/// On the GPU a training step reads nothing back, and a run goes through.
fn on_gpu() -> Outcome {
    let dir = folder()?;
    let dir = dir.path();
    let n = std::env::var("SPIKEMIX_GPU_ADAPTER").unwrap_or_else(|_| "0".into());
    let gpu = format!("gpu:{n}");
    let args = ["bench", "step", "--dim", "16", "--depth", "1", "--size", "16", "--steps-t", "2", "--batch", "2", "--runs", "1"];
    let seen = json(dir, &[&args[..], &["--device", &gpu, "--json"]].concat())?;
    check(seen["reads_per_step"] == 0, &seen)?;
    let r = json(dir, &["train", "tiny.toml", "--device", &gpu, "--set", "train.epochs=1", "--json"])?;
    check(r["test_accuracy"].is_number(), &r)
}

/// Text of events whose order the values do not tell, a row that is none, and times since 1970.
fn tables_and_rebase() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let row = |i: u64| format!("{} {} {} {}\n", 1_700_000_000_000_000 + 10 * i, i % 5, i % 9, i % 2);
    let rows: String = (0..100).map(|i| if i == 40 { "oops\n".to_string() } else { row(i) }).collect();
    std::fs::write(dir.join("a.txt"), rows)?;
    let seen = json(dir, &["inspect", "a.txt", "--columns", "tyxp", "--json"])?;
    check(seen["width"] == 9 && seen["height"] == 5 && seen["events"] == 99, &seen)?;
    let warning = seen["warnings"][0].to_string();
    check(warning.contains("row 41: 1 columns where 4 are needed; this row is left out"), &warning)?;
    fails(dir, 1, &["inspect", "a.txt", "--strict"], "a.txt: byte 920: row 41: ")?;
    fails(dir, 2, &["inspect", "a.txt", "--columns", "txy"], "--columns txy: ")?;
    fails(dir, 2, &["inspect", "a.txt", "--format", "evt4"], "--format evt4: ")?;
    fails(dir, 1, &["convert", "a.txt", "a.raw"], "with --rebase")?;
    check(!dir.join("a.raw").exists(), "a file after an error")?;
    let report = json(dir, &["convert", "a.txt", "a.raw", "--rebase", "--json"])?;
    check(report["to"] == "evt3" && report["losses"].to_string().contains("1700000000000000 us"), &report)?;
    let seen = json(dir, &["inspect", "a.raw", "--json"])?;
    check(seen["t_first"] == 0 && seen["t_last"] == 990, &seen)?;
    let seen = json(dir, &["inspect", "a.raw", "--json", "--format", "evt3-expelliarmus"])?;
    check(seen["format"] == "evt3-expelliarmus" && seen["events"] == 99, &seen)?;
    let few = ["bench", "decode", "--events", "1000", "--seconds", "0.001"];
    fails(dir, 1, &[&few[..], &["--peer", "no/python"]].concat(), "no/python: ")
}

/// Sets of spike trains, packed or not, whole or not.
fn spike_trains() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let whole = include_bytes!("data/cut_trains.h5");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, whole)?;
    std::fs::write(dir.join("a.h5"), whole)?;
    std::fs::write(dir.join("a.h5.gz"), packed.finish()?)?;
    let n = whole.len() * 9 / 10;
    std::fs::write(dir.join("cut.h5"), &whole[..n])?;
    let all = spikemix::events::hdf5::spike_trains(whole.to_vec()).map_err(|e| e.to_string())?;
    let spikes: usize = all.trains.iter().map(|t| t.times.len()).sum();
    let text = works(dir, &["inspect", "a.h5"])?;
    check(text.contains("hdf5 spike trains") && text.contains(&format!("spikes     {spikes} (")), &text)?;
    check(works(dir, &["inspect", "a.h5.gz"])? == text, "packed")?;
    let seen = json(dir, &["inspect", "a.h5.gz", "--json"])?;
    let last = all.trains.iter().map(|t| f64::from(t.times.iter().copied().fold(0.0, f32::max)));
    check(seen["samples"] == 40 && seen["spikes"] == spikes && seen["warnings"].as_array().is_some_and(Vec::is_empty), &seen)?;
    check(seen["longest"] == last.clone().fold(0.0, f64::max) && seen["shortest"] == last.fold(1e9, f64::min), &seen)?;
    let labels: std::collections::BTreeSet<u32> = all.labels.iter().copied().collect();
    let range = serde_json::json!([labels.first(), labels.last()]);
    check(seen["classes"] == labels.len() && seen["labels"] == range, &seen)?;
    check(seen["units"] == 1 + *all.trains.iter().flat_map(|t| &t.units).max().unwrap_or(&0), &seen)?;
    let seen = json(dir, &["inspect", "cut.h5", "--json"])?;
    let said = seen["warnings"][0].as_str().unwrap_or_default();
    check(said.contains(&format!("byte {n}: the file is cut off here")) && seen["samples"].as_u64() < Some(40), &seen)?;
    fails(dir, 1, &["inspect", "cut.h5", "--strict"], &format!("byte {n}: the file is cut off here"))?;
    fails(dir, 2, &["inspect", "a.h5", "--png", "a.png"], "these are spike trains")?;
    fails(dir, 1, &["convert", "a.h5", "a.csv"], "a set of spike trains")?;
    // What is wrong with one is said, packed or not.
    let bytes = std::fs::read(dir.join("a.h5.gz"))?;
    std::fs::write(dir.join("cut.h5.gz"), &bytes[..bytes.len() / 3])?;
    let o = run(dir, &["inspect", "cut.h5.gz"])?;
    let said = format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    check(said.contains("the file is cut off here, within its gzip stream") && !said.contains("unpack it first"), said)?;
    // And what is missing in one, its name said once.
    let at = whole.windows(7).position(|w| w == b"labels\0").ok_or("no labels")?;
    let mut other = whole.to_vec();
    other[at..at + 6].copy_from_slice(b"lapels");
    std::fs::write(dir.join("other.h5"), &other)?;
    let words = format!("error: other.h5: byte {}: a set of spike trains without `labels`", other.len());
    fails(dir, 1, &["inspect", "other.h5"], &words)?;
    // A packed file of something else is still named.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, b"t,x,y,p\n1,2,3,1\n")?;
    std::fs::write(dir.join("a.csv.gz"), packed.finish()?)?;
    fails(dir, 1, &["inspect", "a.csv.gz"], "a.csv.gz: byte 0: this is a gzip archive (magic 1f 8b 08); unpack it first")
}

/// What is said of a dataset that is not there, and of a folder of which nothing but that is.
fn absent_dataset() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    // The sentence is said once, by whoever says it.
    for (folder, at) in [("none", "not as expected: data.dir: "), ("d", "how to get it: ")] {
        let o = run(dir, &["datasets", "check", "n_cars", "--dir", folder])?;
        let out = String::from_utf8_lossy(&o.stdout);
        let get = format!("{at}N-CARS is not at {folder}: ask for it at ");
        check(o.status.code() == Some(1) && out.matches("ask for it").count() == 1, &o)?;
        check(out.lines().any(|l| l.starts_with(&get)), (&get, &out))?;
        std::fs::create_dir_all(dir.join("d"))?;
    }
    let o = run(dir, &["datasets", "check", "n_cars", "--dir", "d", "--json"])?;
    let report: Value = serde_json::from_slice(&o.stdout)?;
    let get = report["get"].as_str().unwrap_or_default();
    check(get.starts_with("N-CARS is not at d: ") && report["parts"].as_array().is_some_and(Vec::is_empty), &report)
}

/// Recordings of a folder that are cut off: named, ten at most.
fn damaged_folder() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let event = |i: i64| spikemix::events::Event { t: i * 10, x: i as u16 % 30, y: 3, p: i % 2 == 0 };
    let stream = spikemix::events::EventStream::new((0..100).map(event).collect(), spikemix::events::Sensor::new(34, 34));
    for (part, n) in [("train", 9), ("test", 3)] {
        for class in ["a", "b"] {
            let folder = dir.join("d").join(part).join(class);
            std::fs::create_dir_all(&folder)?;
            for i in 0..n {
                spikemix::events::save(folder.join(format!("{i}.bin")), &stream, &spikemix::events::atis::FORMAT)?;
            }
        }
    }
    let args = ["datasets", "check", "folder", "--dir", "d", "--sensor", "34x34", "--all"];
    works(dir, &args)?;
    let cut = |file: String| -> Outcome {
        let path = dir.join(file);
        let bytes = std::fs::read(&path)?;
        Ok(std::fs::write(&path, &bytes[..252])?)
    };
    (0..9).try_for_each(|i| cut(format!("d/train/b/{i}.bin")))?;
    (1..3).try_for_each(|i| cut(format!("d/test/a/{i}.bin")))?;
    let o = run(dir, &args)?;
    let (out, err) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    check(o.status.code() == Some(1) && err.contains("d: not as the manifest of folder says in 2 respects"), &o)?;
    let named: Vec<_> = out.lines().filter(|l| l.starts_with("damaged: ")).collect();
    check(named.len() == 11 && named[10] == "damaged: and 1 more", &named)?;
    check(named[0].ends_with("d/train/b/0.bin: byte 250: the file ends after 2 of an event's 5 bytes"), &named)?;
    check(out.contains("train: 18 samples") && out.contains("18 of them read, 50 to 100 events each, 9 damaged"), &out)?;
    check(out.contains("not as expected: 2 test recordings are cut off or damaged"), &out)
}

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("cli::help", help),
        Trial::test("cli::usage", usage),
        Trial::test("cli::tables_and_rebase", tables_and_rebase),
        Trial::test("cli::wrong_input", wrong_input),
        Trial::test("cli::spike_trains", spike_trains),
        Trial::test("cli::damaged_folder", damaged_folder),
        Trial::test("cli::absent_dataset", absent_dataset),
        Trial::test("cli::train_eval_inspect", train_eval_inspect),
        Trial::test("cli::profile", profile),
        Trial::test("cli::picture", picture),
        Trial::test("cli::shared_cache", shared_cache),
        Trial::test("cli::bench", bench),
        gpu::trial("cli::gpu", |_| on_gpu()),
    ];
    #[cfg(unix)]
    trials.extend([Trial::test("cli::interrupt", interrupt), Trial::test("cli::broken_pipe", broken_pipe)]);
    trials
}
