//! `spikemix train`.

use super::progress::Progress;
use super::{Place, print, print_json, say};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::train::{self, Options, Outcome, Start};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Train a network from a recipe, choose the epoch on validation data, test once.
///
/// Everything of the run goes into one folder: the recipe as resolved, metrics.jsonl (a line an epoch), last.safetensors (to resume
/// from), best.safetensors (the weights of the chosen epoch) and result.json. Ctrl-C finishes the step at hand and leaves a checkpoint;
/// a second Ctrl-C ends at once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  spikemix train examples/recipes/gestures.toml
  spikemix train examples/recipes/gestures.toml --set model.dim=96 --set train.epochs=20 --seed 1
  spikemix train examples/recipes/gestures.toml --unset model.semm
  spikemix train examples/recipes/nmnist.toml --set data.dir=/data/nmnist --device cpu --threads 2
  spikemix train examples/recipes/gestures.toml --resume")]
pub(super) struct TrainArgs {
    /// The recipe, a TOML file with the tables [data], [model] and [train]
    recipe: PathBuf,
    /// Override a key of the recipe, for example train.batch=8; can be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take a key or a table out of the recipe, for example model.semm, before --set is applied; can be given again
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// The run's seed; the same as --set train.seed=SEED, which must not say another one
    #[arg(allow_negative_numbers = true, long)]
    seed: Option<u64>,
    /// The run's folder; runs/NAME-SEED by default
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run in the folder, from its last checkpoint
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Overwrite the run in the folder
    #[arg(long)]
    force: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(a: &TrainArgs) -> Result<()> {
    let mut settings = Recipe::settings(&a.recipe)?;
    a.unset.iter().try_for_each(|s| settings.unset(s))?;
    a.set.iter().try_for_each(|s| settings.set(s))?;
    if let Some(seed) = a.seed {
        if let Some(other) = settings.overridden("train.seed").filter(|v| v.to_string() != seed.to_string()) {
            return Err(Error::usage(format!("--seed {seed} and --set train.seed={other}: which of the two?")));
        }
        settings.set(&format!("train.seed={seed}"))?;
    }
    let (recipe, data) = Recipe::open(settings)?;
    let device = a.place.open()?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(stop.clone())?;
    let out = a.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("{}-{}", recipe.name, recipe.train.seed)));
    let start = match (a.resume, a.force) {
        (true, _) => Start::Resume,
        (_, true) => Start::Force,
        _ => Start::New,
    };
    say(&format!("run: {}", out.display()));
    let outcome = train::run(&recipe, &data, &device, &Options { out, start, stop }, &mut Progress::new())?;
    say(&format!(
        "a report with pictures: spikemix profile {} --html report.html",
        outcome.out.join("best.safetensors").display()
    ));
    if a.json {
        return print_json(&outcome);
    }
    print(&text(&outcome))
}

/// The first signal sets `stop`, the second ends the process.
pub(super) fn stop_on_signal(stop: Arc<AtomicBool>) -> Result<()> {
    let handler = move || {
        if stop.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        say("stopping after this step (again to stop at once)");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::device(format!("cannot listen for Ctrl-C: {e}")))
}

/// The final report.
fn text(o: &Outcome) -> String {
    let chosen = match o.val_accuracy {
        Some(v) => {
            format!("validation accuracy {:.2}%  (what epoch {} of {} was chosen by)", 100.0 * v, o.chosen_epoch, o.epochs)
        }
        None => format!("validation accuracy none    (data.validation is 0: the last of {} epochs)", o.epochs),
    };
    format!(
        "{}\ntest accuracy       {:.2}%  ({} samples{}, run once with the weights of epoch {})\n\
         {chosen}\n\
         parameters          {}\n\
         seed                {}\n\
         time                {:.1} s on {}\n\
         weights             {}\n",
        o.activity.text(),
        100.0 * o.test_accuracy,
        o.samples[2],
        // With a loss per step it is these that are scored.
        if o.confusion.iter().flatten().sum::<u64>() == o.samples[2] as u64 { "" } else { ", of their labelled steps" },
        o.chosen_epoch,
        o.parameters,
        o.seed,
        o.seconds,
        o.device,
        o.out.join("best.safetensors").display(),
    )
}
