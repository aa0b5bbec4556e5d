//! `spikemix eval`.

use super::progress::Progress;
use super::{Place, print, print_json, say};
use crate::checkpoint::Checkpoint;
use crate::config::Settings;
use crate::counts::Counts;
use crate::data::{Samples, Splits};
use crate::error::{Error, ErrorKind, Result};
use crate::model;
use crate::params::{Build, Params};
use crate::profile::report::Activity;
use crate::recipe::Recipe;
use crate::train::{self, Now, Watch};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Which {
    /// The test samples.
    Test,
    /// The validation samples, taken from the training set as in training.
    Val,
    /// The samples that were trained on, without augmentation.
    Train,
}

impl Which {
    /// `test`, `val` or `train`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Which::Test => "test",
            Which::Val => "val",
            Which::Train => "train",
        }
    }
    /// Its samples.
    pub(super) fn samples(self, data: &Splits) -> &Arc<Samples> {
        match self {
            Which::Test => &data.test,
            Which::Val => &data.validation,
            Which::Train => &data.train,
        }
    }
}

/// Test the network of a checkpoint: accuracy, firing rates, routers, operations, energy.
///
/// The checkpoint carries its recipe, so the data are found as in training; --data-dir and --set say otherwise.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix eval runs/gestures-0/best.safetensors
  spikemix eval best.safetensors --data-dir /data/nmnist --split val --json
  spikemix eval best.safetensors --set data.test_samples=50 --device gpu:0")]
pub(super) struct EvalArgs {
    /// The checkpoint, a .safetensors file of `spikemix train`
    checkpoint: PathBuf,
    /// The dataset's folder; the same as --set data.dir=FOLDER
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Override a key of the checkpoint's recipe, for example train.batch=8; can be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Which samples
    #[arg(long, value_enum, default_value = "test")]
    split: Which,
    #[command(flatten)]
    place: Place,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `spikemix eval --json` prints.
#[derive(Serialize)]
struct Outcome {
    /// Of the samples asked for.
    split: Which,
    accuracy: f64,
    loss: f64,
    /// Of this evaluation where the split is `test`, else null.
    test_accuracy: Option<f64>,
    /// Of this evaluation where the split is `val`, else what the checkpoint says.
    val_accuracy: Option<f64>,
    chosen_epoch: usize,
    #[serde(flatten)]
    activity: Activity,
    seed: u64,
    seconds: f64,
    parameters: usize,
    samples: usize,
    classes: Vec<String>,
    confusion: Vec<Vec<u64>>,
    device: String,
    checkpoint: PathBuf,
}

/// Runs the command.
pub(super) fn run(a: &EvalArgs) -> Result<()> {
    let (c, recipe, data) = open(&a.checkpoint, &a.set, a.data_dir.as_deref())?;
    let device = a.place.open()?;
    let mut params = Params::new(&device);
    let net = model::build(&recipe.model, &mut Build::new(&mut params, recipe.train.seed))?;
    c.load_into(&mut params)?;

    let samples = a.split.samples(&data);
    let (began, stop, mut watch) = (Instant::now(), Arc::new(AtomicBool::new(false)), Progress::new());
    super::train::stop_on_signal(stop.clone())?;
    let now = |done| Now { done, total: samples.len(), ..Now::default() };
    watch.begin("eval", &now(0));
    let mut tick = |done| {
        watch.step(&now(done));
        match stop.load(Ordering::SeqCst) {
            true => Err(ErrorKind::Interrupted(format!("stopped after {done} of {} samples", samples.len())).into()),
            false => Ok(()),
        }
    };
    let loss = recipe.train.loss();
    let result = train::evaluate(&*net, &params, samples, recipe.train.batch, &loss, Some(Counts::default()), &mut tick);
    watch.end();
    let e = result?;
    data.warnings().iter().for_each(|w| say(&format!("warning: {w}")));
    let of = |which, otherwise| if a.split == which { Some(e.accuracy) } else { otherwise };
    let outcome = Outcome {
        split: a.split,
        accuracy: e.accuracy,
        loss: e.loss,
        test_accuracy: of(Which::Test, None),
        val_accuracy: of(Which::Val, c.meta.metrics["val_accuracy"].as_f64()),
        chosen_epoch: c.meta.epoch,
        activity: Activity::of(&e.counts.unwrap_or_default()),
        seed: recipe.train.seed,
        seconds: began.elapsed().as_secs_f64(),
        parameters: params.learnable(),
        samples: e.samples,
        classes: samples.dataset().classes().to_vec(),
        confusion: e.confusion,
        device: device.describe(),
        checkpoint: a.checkpoint.clone(),
    };
    if a.json {
        return print_json(&outcome);
    }
    let split = a.split.name();
    print(&format!(
        "{}\n{split} accuracy  {:.2}%  ({} samples{}, loss {:.4}, weights of epoch {})\nparameters     {}\ntime           {:.1} s on {}\n",
        outcome.activity.text(),
        100.0 * outcome.accuracy,
        outcome.samples,
        if loss.per_step() { ", of their labelled steps" } else { "" },
        outcome.loss,
        outcome.chosen_epoch,
        outcome.parameters,
        outcome.seconds,
        outcome.device,
    ))
}

/// A checkpoint, its recipe with `set` and `data_dir` put over it, and its data. Training samples come as they are, not augmented.
pub(super) fn open(checkpoint: &Path, set: &[String], data_dir: Option<&Path>) -> Result<(Checkpoint, Recipe, Splits)> {
    let c = Checkpoint::open(checkpoint)?;
    let mut settings = settings(&c)?;
    set.iter().try_for_each(|s| settings.set(s))?;
    if let Some(dir) = data_dir {
        // A string whatever it looks like.
        settings.put_string("data.dir", dir.to_string_lossy());
    }
    settings.remove("data.augment");
    let (recipe, data) = Recipe::open(settings)?;
    Ok((c, recipe, data))
}

/// The recipe that a checkpoint carries.
fn settings(c: &Checkpoint) -> Result<Settings> {
    let place = c.path.display().to_string();
    let recipe: Recipe = c.recipe()?;
    let table = toml::Table::try_from(&recipe).map_err(|e| Error::config(place.clone(), e.to_string()))?;
    Ok(Settings::from_table(format!("{place}: recipe"), table))
}
