//! Training: from a recipe to a folder with weights and a result.
//!
//! Each epoch walks over the training samples in an order that depends on seed and epoch alone, then measures the validation samples
//! (taken from the training set). The *chosen* epoch is the one with the highest validation accuracy, of equals the one with the lower
//! validation loss, of equals the earlier; with `data.validation = 0` all training samples are trained on and the last epoch is the chosen one. The test samples are run once, at the end, with the weights of the chosen epoch.
//!
//! A step reads nothing back from the device: loss and accuracy add up there and are read every [`LOOK_EVERY`] steps, when firing
//! rates are counted too. [`Folder`] says which files a run writes. A run that was stopped goes on where it was: position, weights,
//! running statistics and the optimiser's state are in `last.safetensors`, and everything random is a function of seed, epoch and
//! sample; on the CPU the resumed run equals the uninterrupted one to the bit.

mod evaluate;
mod folder;

pub use evaluate::{Evaluation, answers, evaluate, input};
pub use folder::{Folder, Start};

use crate::checkpoint::{Checkpoint, Meta, json, save};
use crate::counts::Counts;
use crate::ctx::{Ctx, Module};
use crate::data::{Batch, Loader, LoaderOptions, Samples, Splits};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomic;
use crate::kernel::elementwise::{Add, AddU};
use crate::loss::{Loss, scored};
use crate::model;
use crate::optim::AdamW;
use crate::params::{Build, Params};
use crate::profile::report::Activity;
use crate::recipe::Recipe;
use crate::rng::Rng;
use crate::tensor::torch::Named;
use crate::tensor::{Repr, Tensor, launch1};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Steps between two readings of loss, accuracy and firing rates.
pub const LOOK_EVERY: usize = 20;

/// Where and how to run a recipe.
#[derive(Clone)]
pub struct Options {
    /// The run's folder.
    pub out: PathBuf,
    /// What to do where it is there already.
    pub start: Start,
    /// Set from outside (Ctrl-C) to stop after the step at hand.
    pub stop: Arc<AtomicBool>,
}

/// What is going on, for a progress bar.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Samples done of this pass.
    pub done: usize,
    /// Samples of this pass.
    pub total: usize,
    /// Mean loss of this epoch so far, as last read.
    pub loss: Option<f64>,
    /// Training accuracy of this epoch so far, as last read.
    pub accuracy: Option<f64>,
    /// Spikes a neuron and step, of the batches that were counted in this epoch.
    pub firing_rate: Option<f64>,
}

/// Metrics of an epoch: a line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize)]
pub struct EpochRow {
    /// Epochs behind it, this one included.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// Learning rate of the epoch's first step.
    pub lr: f64,
    /// Mean training loss.
    pub train_loss: f64,
    /// Training accuracy, while the weights changed; of a mixed sample the class with the larger share is the right one.
    pub train_accuracy: f64,
    /// Validation loss; none where `data.validation` is 0.
    pub val_loss: Option<f64>,
    /// Validation accuracy; none likewise.
    pub val_accuracy: Option<f64>,
    /// Spikes a neuron and step, of the batches that were counted.
    pub firing_rate: f64,
    /// Open gates over all gates, of the batches that were counted.
    pub router_firing_rate: Option<f64>,
    /// Whether it is the best so far; without validation samples the latest is.
    pub best: bool,
    /// Training samples a second.
    pub samples_per_second: f64,
    /// Of the epoch's training, how long the next batch was waited for: reading, augmenting and encoding that was not done ahead.
    pub seconds_waiting_for_data: f64,
    /// Seconds since the run began, interruptions left out.
    pub seconds: f64,
}

/// Told how a run goes.
pub trait Watch {
    /// A sentence for the user.
    fn say(&mut self, _: &str) {}
    /// A pass over samples begins.
    fn begin(&mut self, _what: &str, _: &Now) {}
    /// A batch is done.
    fn step(&mut self, _: &Now) {}
    /// The pass is over.
    fn end(&mut self) {}
    /// An epoch is over.
    fn epoch(&mut self, _: &EpochRow) {}
}

/// Watches nothing.
pub struct Silent;
impl Watch for Silent {}

/// What a run came to: `result.json`, and what `spikemix train --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Accuracy on the test samples with the weights of the chosen epoch.
    pub test_accuracy: f64,
    /// Loss there.
    pub test_loss: f64,
    /// Validation accuracy of the chosen epoch; none where `data.validation` is 0.
    pub val_accuracy: Option<f64>,
    /// Validation loss of the chosen epoch; none likewise.
    pub val_loss: Option<f64>,
    /// The epoch with the best validation accuracy, from 1; the last where there are no validation samples.
    pub chosen_epoch: usize,
    /// Rates, operations and energy on the test samples.
    #[serde(flatten)]
    pub activity: Activity,
    /// The run's seed.
    pub seed: u64,
    /// Seconds of training and evaluation, interruptions left out.
    pub seconds: f64,
    /// Epochs trained.
    pub epochs: usize,
    /// Learnable scalars.
    pub parameters: usize,
    /// Training, validation and test samples.
    pub samples: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// `confusion[label][answer]` on the test samples.
    pub confusion: Vec<Vec<u64>>,
    /// The device.
    pub device: String,
    /// The run's folder.
    pub out: PathBuf,
}

/// What a resumed run needs besides tensors and position.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    optimiser_steps: u64,
    best: Option<Best>,
    sums: Sums,
    seconds: f64,
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Best {
    epoch: usize,
    accuracy: f64,
    loss: f64,
}

impl Best {
    fn beats(&self, other: &Best) -> bool {
        self.accuracy > other.accuracy || self.accuracy == other.accuracy && self.loss < other.loss
    }
}

/// Sums over the epoch at hand.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    loss: f64,
    correct: f64,
    batches: u64,
    labels: u64,
    spikes: u64,
    opportunities: u64,
    open: u64,
    gates: u64,
    seconds: f64,
    waiting: f64,
}

impl Sums {
    fn count(&mut self, counts: &Counts) {
        for r in counts.neurons() {
            self.spikes += r.spikes;
            self.opportunities += r.opportunities;
        }
        for r in &counts.routers {
            self.open += r.open.iter().sum::<u64>();
            self.gates += r.tokens * r.open.len() as u64;
        }
    }
    fn ratio(a: u64, b: u64) -> Option<f64> {
        (b > 0).then(|| a as f64 / b as f64)
    }
    fn now(&self, done: usize, total: usize) -> Now {
        let read = self.batches > 0;
        Now {
            done,
            total,
            loss: read.then(|| self.loss / self.batches as f64),
            accuracy: read.then(|| self.correct / self.labels as f64),
            firing_rate: Sums::ratio(self.spikes, self.opportunities),
        }
    }
}

/// Loss and right answers of the training steps since the last reading, on the device.
struct Pending {
    loss: Tensor,
    correct: Tensor,
    batches: u64,
    labels: u64,
}

struct Trainer<'a> {
    recipe: &'a Recipe,
    data: &'a Splits,
    options: &'a Options,
    loss: Loss,
    model: Box<dyn Module>,
    params: Params,
    optimiser: AdamW,
    folder: Folder,
    epoch: usize,
    step: usize,
    state: State,
    pending: Option<Pending>,
    rows: Vec<Value>,
    began: Instant,
}

/// Trains `recipe` on `data` (see [`Recipe::open`]) and tests the chosen epoch.
///
/// # Errors
/// A folder that is not free, files that cannot be read or written, a loss that is not a number, a lost device; or
/// [`ErrorKind::Interrupted`] after [`Options::stop`] was set, with the run ready to be resumed.
pub fn run(recipe: &Recipe, data: &Splits, device: &Device, options: &Options, watch: &mut dyn Watch) -> Result<Outcome> {
    let mut params = Params::new(device);
    let model = model::build(&recipe.model, &mut Build::new(&mut params, recipe.train.seed))?;
    let (folder, last) = Folder::open(&options.out, recipe, options.start)?;
    let mut t = Trainer {
        recipe,
        data,
        options,
        loss: recipe.train.loss(),
        model,
        params,
        optimiser: AdamW::new(recipe.train.adamw()),
        folder,
        epoch: 0,
        step: 0,
        state: State::default(),
        pending: None,
        rows: Vec::new(),
        began: Instant::now(),
    };
    watch.say(&format!("{} learnable parameters; {}", t.params.learnable(), recipe.split(data)));
    match last {
        Some(c) => t.resume(&c, watch)?,
        None if options.start == Start::Resume => watch.say("the run was stopped before its first checkpoint; it begins anew"),
        None => {}
    }
    while t.epoch < recipe.train.epochs {
        t.run_epoch(watch)?;
        if t.epoch == 1 {
            warn(data, watch);
            data.cache().iter().for_each(|said| watch.say(said));
        }
    }
    t.test(watch)
}

/// How samples are loaded: in order, on no more threads than the run has.
fn loading(batch: usize) -> LoaderOptions {
    let all = LoaderOptions::default();
    LoaderOptions { batch, shuffle: false, threads: all.threads.min(rayon::current_num_threads()), ..all }
}

/// Tells what was wrong with the data, at most a few sentences.
fn warn(data: &Splits, watch: &mut dyn Watch) {
    let all = data.warnings();
    all.iter().take(5).for_each(|w| watch.say(&format!("warning: {w}")));
    if all.len() > 5 {
        watch.say(&format!("warning: {} more of that kind", all.len() - 5));
    }
}

impl Trainer<'_> {
    fn resume(&mut self, c: &Checkpoint, watch: &mut dyn Watch) -> Result<()> {
        c.load_into(&mut self.params)?;
        self.state = c.run()?;
        self.optimiser = AdamW::from_named(self.recipe.train.adamw(), &self.params, self.state.optimiser_steps, &c.optimiser)
            .map_err(|e| Error::config(c.path.display().to_string(), e.to_string()))?;
        (self.epoch, self.step) = (c.meta.epoch, c.meta.step);
        self.rows = self.folder.read_metrics(self.epoch);
        // Without what a run that was killed left half-written.
        self.folder.write_metrics(&self.rows)?;
        let whole = self.epoch >= self.recipe.train.epochs;
        watch.say(&match (whole, self.step) {
            (true, _) => format!("resumed behind the last epoch, {}: nothing is left but the test", self.epoch),
            (false, 0) => format!("resumed behind epoch {}", self.epoch),
            (false, step) => format!("resumed in epoch {} after step {step}", self.epoch + 1),
        });
        Ok(())
    }
    fn seconds(&self) -> f64 {
        self.state.seconds + self.began.elapsed().as_secs_f64()
    }
    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }
    fn meta(&self, metrics: Value) -> Result<Meta> {
        Ok(Meta {
            recipe: json(self.recipe)?,
            seed: self.recipe.train.seed,
            split: self.recipe.split(self.data),
            classes: self.data.train.dataset().classes().to_vec(),
            sensor: Some(self.data.train.dataset().sensor()),
            epoch: self.epoch,
            step: self.step,
            metrics,
            ..Meta::new(&self.recipe.model)?
        })
    }
    /// Writes `last.safetensors`.
    fn save_last(&mut self) -> Result<()> {
        self.gather()?;
        self.state.seconds = self.seconds();
        self.began = Instant::now();
        self.state.optimiser_steps = self.optimiser.steps();
        let metrics = self.rows.last().cloned().unwrap_or_default();
        let meta = Meta { run: json(&self.state)?, ..self.meta(metrics)? };
        save(self.folder.last(), &self.params, &self.optimiser.to_named(&self.params)?, &meta)
    }
    /// Ends the run so that it can be resumed.
    fn interrupt(&mut self) -> Result<()> {
        self.save_last()?;
        let (epoch, step, folder) = (self.epoch + 1, self.step, self.folder.path().display());
        Err(ErrorKind::Interrupted(format!("stopped in epoch {epoch} after step {step}; --resume goes on from {folder}")).into())
    }

    fn train_step(&mut self, batch: &Batch, lr: f64, look: bool) -> Result<()> {
        let (x, padding) = input(batch, self.params.device())?;
        let rng = Rng::new(self.recipe.train.seed).stream("step").stream(self.optimiser.steps());
        let mut cx = Ctx::train(&self.params).with_padding(padding.clone()).with_rng(rng);
        if look {
            cx = cx.with_counts(Counts::default());
        }
        let device = self.params.device().clone();
        let logits = device.run(|| self.model.forward(&x, &mut cx))?;
        let out = self.loss.compute_soft(&logits, batch.targets(logits.channels())?, padding.as_ref())?;
        let gradients = device.run(|| cx.backward(&logits, out.grad))?;
        let (updates, counts) = cx.finish();
        self.params.update(updates);
        device.run(|| self.optimiser.step(&mut self.params, &gradients, lr))?;
        if let Some(c) = &counts {
            self.state.sums.count(c);
        }
        let labels = scored(&batch.labels) as u64;
        self.pending = Some(match self.pending.take() {
            None => Pending { loss: out.loss, correct: out.correct, batches: 1, labels },
            Some(p) => Pending {
                loss: add(&p.loss, &out.loss)?,
                correct: add(&p.correct, &out.correct)?,
                batches: p.batches + 1,
                labels: p.labels + labels,
            },
        });
        // On a GPU that waits for the step; on the CPU it costs nothing, and a run that is resumed adds up in the same order.
        if look || matches!(self.params.device(), Device::Cpu) { self.gather() } else { Ok(()) }
    }
    /// Reads what has added up on the device.
    fn gather(&mut self) -> Result<()> {
        let Some(p) = self.pending.take() else { return Ok(()) };
        let loss = f64::from(p.loss.item()?);
        if !loss.is_finite() {
            return Err(Error::config(
                self.folder.path().display().to_string(),
                format!(
                    "the loss is not a number in epoch {}, step {}; a lower train.lr or a longer train.warmup_epochs may help",
                    self.epoch + 1,
                    self.step + 1
                ),
            ));
        }
        let sums = &mut self.state.sums;
        sums.loss += loss;
        sums.correct += f64::from(p.correct.item()?);
        sums.batches += p.batches;
        sums.labels += p.labels;
        Ok(())
    }

    /// The rest of the epoch at hand, validation and checkpoints.
    fn run_epoch(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let (spec, began) = (&self.recipe.train, Instant::now());
        let options = LoaderOptions {
            seed: spec.seed,
            shuffle: true,
            drop_last: true,
            per_step: self.loss.per_step(),
            mixup: self.recipe.data.augment.mixup(),
            ..loading(spec.batch)
        };
        let loader = Loader::new(self.data.train.clone(), options)?;
        let steps = loader.batches();
        let schedule = spec.schedule();
        let total = steps * spec.batch;
        let name = format!("epoch {}/{}", self.epoch + 1, spec.epochs);
        watch.begin(&name, &self.state.sums.now(self.step * spec.batch, total));
        let mut batches = loader.epoch(self.epoch as u64, self.step);
        while let Some(batch) = batches.next() {
            let lr = schedule.at(self.epoch, self.step, steps);
            self.train_step(&batch?, lr, self.step.is_multiple_of(LOOK_EVERY) || self.step + 1 == steps)?;
            self.step += 1;
            watch.step(&self.state.sums.now(self.step * spec.batch, total));
            if self.stopped() {
                watch.end();
                self.state.sums.seconds += began.elapsed().as_secs_f64();
                self.state.sums.waiting += batches.waited().as_secs_f64();
                return self.interrupt();
            }
        }
        watch.end();
        self.state.sums.waiting += batches.waited().as_secs_f64();
        let trained = self.state.sums.seconds + began.elapsed().as_secs_f64();
        // An interruption from here on leaves the epoch's last step as the position; validation then runs again.
        let val = match &self.data.validation {
            v if v.is_empty() => None,
            v => match self.evaluate(&format!("{name} validation"), v, None, watch) {
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted(_)) => {
                    self.state.sums.seconds = trained;
                    return self.interrupt();
                }
                other => Some(other?),
            },
        };
        let sums = self.state.sums;
        self.epoch += 1;
        self.step = 0;
        self.state.sums = Sums::default();
        let now = val.map(|v| Best { epoch: self.epoch, accuracy: v.accuracy, loss: v.loss });
        let best = now.is_none_or(|now| self.state.best.is_none_or(|b| now.beats(&b)));
        let row = EpochRow {
            epoch: self.epoch,
            epochs: spec.epochs,
            lr: schedule.at(self.epoch - 1, 0, steps),
            train_loss: sums.loss / sums.batches.max(1) as f64,
            train_accuracy: sums.correct / sums.labels.max(1) as f64,
            val_loss: now.map(|v| v.loss),
            val_accuracy: now.map(|v| v.accuracy),
            firing_rate: Sums::ratio(sums.spikes, sums.opportunities).unwrap_or(0.0),
            router_firing_rate: Sums::ratio(sums.open, sums.gates),
            best,
            samples_per_second: total as f64 / trained.max(1e-9),
            seconds_waiting_for_data: sums.waiting,
            seconds: self.seconds(),
        };
        watch.epoch(&row);
        self.rows.push(json(&row)?);
        if best {
            self.state.best = now;
            save(self.folder.best(), &self.params, &Named::new(), &self.meta(json(&row)?)?)?;
        }
        self.folder.write_metrics(&self.rows)?;
        self.save_last()
    }

    fn evaluate(&self, what: &str, samples: &Arc<Samples>, counts: Option<Counts>, watch: &mut dyn Watch) -> Result<Evaluation> {
        let now = |done| Now { done, total: samples.len(), ..Now::default() };
        watch.begin(what, &now(0));
        let mut tick = |done| {
            watch.step(&now(done));
            if self.stopped() { Err(ErrorKind::Interrupted(String::new()).into()) } else { Ok(()) }
        };
        let out = evaluate(&*self.model, &self.params, samples, self.recipe.train.batch, &self.loss, counts, &mut tick);
        watch.end();
        out
    }

    /// The test samples with the weights of the chosen epoch.
    fn test(&mut self, watch: &mut dyn Watch) -> Result<Outcome> {
        let best = Checkpoint::open(self.folder.best())?;
        best.load_into(&mut self.params)?;
        let test = match self.evaluate("test", &self.data.test, Some(Counts::default()), watch) {
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted(_)) => {
                let folder = self.folder.path().display();
                return Err(ErrorKind::Interrupted(format!("stopped during the test; --resume goes on from {folder}")).into());
            }
            other => other?,
        };
        let metric = |key: &str| best.meta.metrics[key].as_f64();
        let out = Outcome {
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            val_accuracy: metric("val_accuracy"),
            val_loss: metric("val_loss"),
            chosen_epoch: best.meta.epoch,
            activity: Activity::of(&test.counts.unwrap_or_default()),
            seed: self.recipe.train.seed,
            seconds: self.seconds(),
            epochs: self.epoch,
            parameters: self.params.learnable(),
            samples: [self.data.train.len(), self.data.validation.len(), self.data.test.len()],
            classes: self.data.test.dataset().classes().to_vec(),
            confusion: test.confusion,
            device: self.params.device().describe(),
            out: self.folder.path().to_path_buf(),
        };
        let text = serde_json::to_string_pretty(&out).map_err(|e| Error::shape("result", e.to_string()))?;
        write_atomic(self.folder.result(), format!("{text}\n").as_bytes())?;
        Ok(out)
    }
}

fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    launch1(&Add, &AddU { n: a.len() as u32 }, &[a, b], a.shape(), Repr::F32)
}

#[cfg(test)]
mod tests;
