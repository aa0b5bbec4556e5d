use super::*;
use crate::config::Settings;

const TEXT: &str = "
name = 'tiny'
[data]
name = 'gestures'
frames = 2
size = [16, 16]
train_samples = 64
test_samples = 16
validation = 0.25
[model]
dim = 16
[train]
epochs = 3
batch = 8
lr = 0.01
";

fn recipe(sets: &[&str]) -> (Recipe, Splits) {
    let mut s = Settings::parse("tiny.toml", TEXT).unwrap();
    sets.iter().for_each(|x| s.set(x).unwrap());
    Recipe::open(s).unwrap()
}

fn options(dir: &std::path::Path, start: Start) -> Options {
    Options { out: dir.to_path_buf(), start, stop: Arc::default() }
}

/// Stops a run after so many batches of any pass.
struct After {
    left: usize,
    stop: Arc<AtomicBool>,
}
impl Watch for After {
    fn step(&mut self, _: &Now) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// The final checkpoint without what depends on the clock.
fn last(dir: &std::path::Path) -> (Named, Named, Value) {
    let c = Checkpoint::open(dir.join("last.safetensors")).unwrap();
    (c.weights, c.optimiser, c.meta.run["best"].clone())
}

#[test]
fn an_interrupted_run_goes_on_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, data) = recipe(&["data.augment.translate=2", "data.augment.mixup=0.5", "data.augment.mixup_epochs=2"]);
    let whole = dir.path().join("whole");
    let a = run(&recipe, &data, &Device::Cpu, &options(&whole, Start::New), &mut Silent).unwrap();
    assert_eq!(a.samples, [48, 16, 16]);
    assert_eq!(std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap().lines().count(), 3);
    // Stopped twice: steps 1 to 6 of an epoch train, 7 and 8 validate; behind 24 comes the test.
    for k in [1, 3, 6, 7, 9, 22, 25] {
        let part = dir.path().join(format!("part{k}"));
        for start in [Start::New, Start::Resume] {
            let o = options(&part, start);
            let mut watch = After { left: k, stop: o.stop.clone() };
            if let Err(e) = run(&recipe, &data, &Device::Cpu, &o, &mut watch) {
                assert!(matches!(e.kind(), ErrorKind::Interrupted(_)), "{e}");
            }
        }
        let b = run(&recipe, &data, &Device::Cpu, &options(&part, Start::Resume), &mut Silent).unwrap();
        assert_eq!(last(&part), last(&whole), "interrupted after {k}");
        assert_eq!((a.test_accuracy, a.test_loss, a.chosen_epoch), (b.test_accuracy, b.test_loss, b.chosen_epoch));
        let rows = |d: &std::path::Path| {
            let text = std::fs::read_to_string(d.join("metrics.jsonl")).unwrap();
            let row = |l: &str| serde_json::from_str::<Value>(l).unwrap();
            text.lines()
                .map(row)
                .map(|r| (r["epoch"].clone(), r["val_loss"].clone(), r["firing_rate"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&part), rows(&whole));
    }
}

/// All training samples are trained on, and the last epoch is the chosen one, resumed or not.
#[test]
fn without_validation_the_last_epoch_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, data) = recipe(&["data.validation=0"]);
    assert!(recipe.split(&data).contains("64 training, no validation"), "{}", recipe.split(&data));
    let whole = dir.path().join("whole");
    let a = run(&recipe, &data, &Device::Cpu, &options(&whole, Start::New), &mut Silent).unwrap();
    assert_eq!((a.samples, a.val_accuracy, a.val_loss, a.chosen_epoch), ([64, 0, 16], None, None, 3));
    let best = Checkpoint::open(whole.join("best.safetensors")).unwrap().weights;
    assert_eq!(best, last(&whole).0);
    let part = dir.path().join("part");
    let o = options(&part, Start::New);
    run(&recipe, &data, &Device::Cpu, &o, &mut After { left: 11, stop: o.stop.clone() }).unwrap_err();
    let b = run(&recipe, &data, &Device::Cpu, &options(&part, Start::Resume), &mut Silent).unwrap();
    assert_eq!((last(&part), a.test_loss), (last(&whole), b.test_loss));
}

/// Recordings of 10 or 11 steps, as spikes: nothing but the head multiplies, and a resumed run is the same.
#[test]
fn steps_of_a_fixed_duration_train() {
    let dir = tempfile::tempdir().unwrap();
    let cache = format!("data.cache='{}'", dir.path().join("cache").display());
    let mixup = ["data.augment.mixup=0.5", "data.augment.chance={mixup=0.5}"];
    let clips = ["data.duration_us=59995", "data.encoding='raster'", "train.epochs=1", "train.loss='tet'", &cache];
    let (recipe, data) = recipe(&[&clips[..], &mixup].concat());
    let clips = Loader::new(data.train.clone(), LoaderOptions { batch: 48, ..LoaderOptions::default() }).unwrap();
    let lengths = clips.epoch(0, 0).next().unwrap().unwrap().lengths;
    assert!(lengths.iter().any(|n| *n != lengths[0]), "nothing is padded: {lengths:?}");
    let whole = dir.path().join("whole");
    let a = run(&recipe, &data, &Device::Cpu, &options(&whole, Start::New), &mut Silent).unwrap();
    let row: Value = serde_json::from_str(&std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap()).unwrap();
    assert!(row["seconds_waiting_for_data"].as_f64().is_some_and(|s| s >= 0.0), "{row}");
    let part = dir.path().join("part");
    let o = options(&part, Start::New);
    run(&recipe, &data, &Device::Cpu, &o, &mut After { left: 3, stop: o.stop.clone() }).unwrap_err();
    let b = run(&recipe, &data, &Device::Cpu, &options(&part, Start::Resume), &mut Silent).unwrap();
    assert_eq!((last(&part), a.test_loss), (last(&whole), b.test_loss));

    // What is counted does not depend on how clips fall into batches, padded or not; the results neither.
    for semm in [None, Some(crate::moe::Semm { experts: 2, ..Default::default() })] {
        let neuron = crate::neuron::Neuron { v_threshold: 0.1, ..recipe.model.neuron };
        let spec = model::Spec { semm, neuron, ..recipe.model.clone() };
        let (net, params) = model::fresh(&spec, &Device::Cpu, 0).unwrap();
        let run = |batch: usize, counts: Option<Counts>| {
            evaluate(&*net, &params, &data.test, batch, &recipe.train.loss(), counts, &mut |_| Ok(())).unwrap()
        };
        let (e, one, plain) = (run(5, Some(Counts::default())), run(1, Some(Counts::default())), run(5, None));
        assert_eq!((&e.confusion, e.samples), (&plain.confusion, 16));
        assert!((e.loss - plain.loss).abs() < 1e-5 * plain.loss, "{} {}", e.loss, plain.loss);
        let (together, apart) = (e.counts.unwrap(), one.counts.unwrap());
        assert_eq!(together.firing_rate(), apart.firing_rate());
        assert!(together.rows.iter().all(|r| r.cost.macs == 0 || r.name == "head"), "{:?}", together.rows);
        let costs = |c: &Counts| c.rows.iter().map(|r| r.cost).collect::<Vec<_>>();
        assert_eq!(costs(&together), costs(&apart));
        assert_eq!(together.total().skipped > 0, spec.semm.is_some());
    }
}

#[test]
fn dropout_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let layers = "model.layers=['dropout 0.2', 'conv 8', 'pool', 'dropout 0.5', 'conv 8']";
    // The width is the default, for a csnn has none to set.
    let (recipe, data) = recipe(&["model.net='csnn'", "model.dim=256", layers, "train.epochs=1"]);
    let (whole, part) = (dir.path().join("whole"), dir.path().join("part"));
    run(&recipe, &data, &Device::Cpu, &options(&whole, Start::New), &mut Silent).unwrap();
    let o = options(&part, Start::New);
    let mut watch = After { left: 3, stop: o.stop.clone() };
    run(&recipe, &data, &Device::Cpu, &o, &mut watch).unwrap_err();
    run(&recipe, &data, &Device::Cpu, &options(&part, Start::Resume), &mut Silent).unwrap();
    assert_eq!(last(&part), last(&whole));
}

#[test]
fn a_finished_run_is_kept_until_forced() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let (r, data) = recipe(&["train.epochs=1"]);
    let go = |r: &Recipe, start| run(r, &data, &Device::Cpu, &options(&out, start), &mut Silent);
    assert!(go(&r, Start::Resume).unwrap_err().to_string().contains("there is no run here to resume"));
    let first = go(&r, Start::New).unwrap();
    let e = go(&r, Start::New).unwrap_err().to_string();
    assert!(e.contains("there is a run here already; --resume"), "{e}");
    // Resuming what is finished only tests again.
    assert_eq!(go(&r, Start::Resume).unwrap().test_loss, first.test_loss);
    let (other, _) = recipe(&["train.epochs=1", "train.lr=0.5"]);
    let e = go(&other, Start::Resume).unwrap_err().to_string();
    assert!(e.contains("another recipe") && e.contains("train.lr: 0.5 here, 0.01 there"), "{e}");
    assert_eq!(go(&other, Start::Force).unwrap().epochs, 1);

    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("thesis.txt"), "x").unwrap();
    let e = run(&r, &data, &Device::Cpu, &options(&full, Start::New), &mut Silent).unwrap_err().to_string();
    assert!(e.contains("not empty"), "{e}");
    assert!(full.join("thesis.txt").exists());
    // Without what a run goes on from it is left as it is, and so is one that goes on elsewhere.
    let (last, kept) = (out.join("last.safetensors"), dir.path().join("kept"));
    std::fs::rename(&last, &kept).unwrap();
    assert!(go(&other, Start::Resume).unwrap_err().to_string().contains("last.safetensors is gone"));
    std::fs::rename(&kept, &last).unwrap();
    let elsewhere = Folder::open(&out, &other, Start::Resume).unwrap();
    for start in [Start::Resume, Start::Force] {
        assert!(go(&other, start).unwrap_err().to_string().contains("a run is in progress here"));
    }
    drop(elsewhere);
    // A damaged checkpoint is named, not overwritten.
    std::fs::write(&last, "x").unwrap();
    assert!(go(&other, Start::Resume).unwrap_err().to_string().contains("last.safetensors: byte 1"));
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (r, data) = recipe(&["train.lr=1e38", "train.warmup_epochs=0", "train.eps=1e-30"]);
    let e = run(&r, &data, &Device::Cpu, &options(&dir.path().join("r"), Start::New), &mut Silent).unwrap_err().to_string();
    assert!(e.contains("the loss is not a number in epoch"), "{e}");
}

#[test]
fn ties_go_to_the_lower_loss_then_the_earlier_epoch() {
    let b = |epoch, accuracy, loss| Best { epoch, accuracy, loss };
    assert!(b(2, 0.6, 9.0).beats(&b(1, 0.5, 1.0)));
    assert!(b(2, 0.5, 0.9).beats(&b(1, 0.5, 1.0)));
    assert!(!b(2, 0.5, 1.0).beats(&b(1, 0.5, 1.0)));
}
