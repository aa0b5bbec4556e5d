//! `spikemix eval`.

use super::progress::Progress;
use super::{Place, print, print_json, say};
use crate::checkpoint::{Checkpoint, best_of};
use crate::config::Settings;
use crate::counts::Counts;
use crate::ctx::Module;
use crate::data::{Samples, Splits};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{self, Spec};
use crate::params::{Build, Params};
use crate::profile::report::Activity;
use crate::recipe::Recipe;
use crate::train::{self, Evaluation, Now, Watch};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
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
    #[command(flatten)]
    subject: Subject,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `eval` and `profile` run.
#[derive(Args)]
pub(super) struct Subject {
    /// The checkpoint, a .safetensors file of `spikemix train`, or a run's folder for its best.safetensors
    #[arg(value_parser = PathBufValueParser::new().map(best_of))]
    pub checkpoint: PathBuf,
    /// Another dataset than the checkpoint's; the same as --set data.name=NAME
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The dataset's folder; the same as --set data.dir=FOLDER
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Override a key of the checkpoint's recipe, for example train.batch=8; can be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Which samples
    #[arg(long, value_enum, default_value = "test")]
    pub split: Which,
    #[command(flatten)]
    place: Place,
}

/// A checkpoint's network on its device, with its recipe and data.
pub(super) struct Opened {
    pub checkpoint: Checkpoint,
    pub recipe: Recipe,
    pub data: Splits,
    pub device: Device,
    pub params: Params,
    pub net: Box<dyn Module>,
    /// Set by Ctrl-C.
    stop: Arc<AtomicBool>,
}

impl Subject {
    /// The recipe with `set` and `data_dir` put over it. Training samples come as they are, not augmented.
    pub fn open(&self) -> Result<Opened> {
        let checkpoint = Checkpoint::open(&self.checkpoint)?;
        let mut settings = settings(&checkpoint)?;
        // Recipes were once not asked about keys without effect.
        checkpoint.spec::<Spec>()?.idle_keys().iter().for_each(|(key, _)| settings.remove(&format!("model.{key}")));
        self.set.iter().try_for_each(|s| settings.set(s))?;
        if let Some(name) = &self.dataset {
            settings.put_string("data.name", name.as_str());
        }
        if let Some(dir) = &self.data_dir {
            // A string whatever it looks like.
            settings.put_string("data.dir", dir.to_string_lossy());
        }
        settings.remove("data.augment");
        let (recipe, data) = Recipe::open_to_evaluate(settings)?;
        let (learned, found) = (&checkpoint.meta.classes, data.test.dataset().classes());
        if let Some(i) = learned.iter().zip(found).position(|(a, b)| a != b) {
            let what = format!(
                "class {i} is {:?} here and {:?} in {}; labels would be compared by number",
                found[i],
                learned[i],
                self.checkpoint.display()
            );
            return Err(Error::config(recipe.data.name, what));
        }
        if self.split.samples(&data).is_empty() {
            return Err(Error::config("--split val", "data.validation is 0, so that no sample was kept for validation"));
        }
        let device = self.place.open()?;
        let mut params = Params::new(&device);
        let net = model::build(&recipe.model, &mut Build::new(&mut params, recipe.train.seed))?;
        checkpoint.load_into(&mut params)?;
        let stop = Arc::new(AtomicBool::new(false));
        super::train::stop_on_signal(stop.clone())?;
        Ok(Opened { checkpoint, recipe, data, device, params, net, stop })
    }
}

impl Opened {
    /// Runs the samples under a progress bar named `what`, until they are done or the user stops it.
    pub fn evaluate(&self, what: &'static str, samples: &Arc<Samples>, batch: usize, counts: Counts) -> Result<Evaluation> {
        let mut watch = Progress::new();
        let now = |done| Now { done, total: samples.len(), ..Now::default() };
        watch.begin(what, &now(0));
        let mut tick = |done| {
            watch.step(&now(done));
            match self.stop.load(Ordering::SeqCst) {
                true => Err(ErrorKind::Interrupted(format!("stopped after {done} of {} samples", samples.len())).into()),
                false => Ok(()),
            }
        };
        let loss = self.recipe.train.loss();
        let result = train::evaluate(&*self.net, &self.params, samples, batch, &loss, Some(counts), &mut tick);
        watch.end();
        result
    }
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
    let opened = a.subject.open()?;
    let Opened { checkpoint: c, recipe, data, device, params, .. } = &opened;
    let began = Instant::now();
    let samples = a.subject.split.samples(data);
    let e = opened.evaluate("eval", samples, recipe.train.batch, Counts::default())?;
    data.warnings().iter().for_each(|w| say(&format!("warning: {w}")));
    let of = |which, otherwise| if a.subject.split == which { Some(e.accuracy) } else { otherwise };
    let outcome = Outcome {
        split: a.subject.split,
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
        checkpoint: a.subject.checkpoint.clone(),
    };
    if a.json {
        return print_json(&outcome);
    }
    let split = a.subject.split.name();
    print(&format!(
        "{}\n{split} accuracy  {:.2}%  ({} samples{}, loss {:.4}, weights of epoch {})\nparameters     {}\ntime           {:.1} s on {}\n",
        outcome.activity.text(),
        100.0 * outcome.accuracy,
        outcome.samples,
        if recipe.train.loss().per_step() { ", of their labelled steps" } else { "" },
        outcome.loss,
        outcome.chosen_epoch,
        outcome.parameters,
        outcome.seconds,
        outcome.device,
    ))
}

/// The recipe that a checkpoint carries.
fn settings(c: &Checkpoint) -> Result<Settings> {
    let place = c.path.display().to_string();
    let recipe: Recipe = c.recipe()?;
    let table = toml::Table::try_from(&recipe).map_err(|e| Error::config(place.clone(), e.to_string()))?;
    Ok(Settings::from_table(format!("{place}: recipe"), table))
}
