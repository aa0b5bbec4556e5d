//! Recipes: everything that decides a training run, as a TOML file with the tables `[data]`, `[model]` and `[train]`.
//!
//! ```toml
//! name = "gestures"            # names the run's folder; the file's name by default
//!
//! [data]                       # crate::data::DatasetSpec
//! name = "gestures"
//! frames = 8
//!
//! [model]                      # crate::model::Spec; classes and in_channels are taken from the data where they are left out
//! net = "spikformer"
//! dim = 64
//!
//! [train]                      # TrainSpec
//! epochs = 12
//! ```
//! Unknown keys and impossible values are errors that name the file and the key. The device and the number of threads are no part of a
//! recipe.

use crate::config::Settings;
use crate::data::{Augment, DatasetSpec, Splits};
use crate::error::{Error, ErrorKind, Result};
use crate::loss::Loss;
use crate::model::{Net, Spec};
use crate::optim::{AdamWSpec, Schedule, Shape, Unit};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A recipe with every setting resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run's folder.
    pub name: String,
    /// What is learned from.
    pub data: DatasetSpec,
    /// What learns.
    pub model: Spec,
    /// How.
    #[serde(default)]
    pub train: TrainSpec,
}

/// Which loss; the key in recipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Cross entropy of the mean over steps.
    #[default]
    CrossEntropy,
    /// Cross entropy of every step with its own label, for data that have one for each step; accuracies then are those of steps.
    CePerStep,
    /// Temporal efficient training.
    Tet,
}

/// `[train]` of a recipe. Defaults are those of the papers' event-camera recipes but for the number of epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Samples a step; an incomplete last batch of an epoch is left out.
    pub batch: usize,
    /// Full learning rate.
    pub lr: f64,
    /// Learning rate at the end of the cosine.
    pub min_lr: f64,
    /// Learning rate at the start of the warm-up.
    pub warmup_lr: f64,
    /// Length of the linear warm-up, epochs (fractions count).
    pub warmup_epochs: f64,
    /// What follows the warm-up: `cosine` or `constant`.
    pub schedule: Shape,
    /// Whether the learning rate changes at every `step` or every `epoch`.
    pub schedule_by: Unit,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Whether norms, biases and learned neuron constants decay too.
    pub decay_norms_and_biases: bool,
    /// AdamW's decay of the mean gradient.
    pub beta1: f64,
    /// AdamW's decay of the mean squared gradient.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub eps: f64,
    /// `cross_entropy`, `ce_per_step` or `tet`.
    pub loss: LossKind,
    /// Share of the label that is spread over all classes.
    pub label_smoothing: f64,
    /// TET: share of the mean-square pull.
    pub tet_lambda: f64,
    /// TET: what the scores are pulled to.
    pub tet_means: f64,
    /// Seed of initial weights, shuffles and augmentation (`--seed`). Data have their own: `data.split_seed`.
    pub seed: u64,
}

impl Default for TrainSpec {
    fn default() -> Self {
        TrainSpec {
            epochs: 30,
            batch: 16,
            lr: 1e-3,
            min_lr: 1e-5,
            warmup_lr: 1e-5,
            warmup_epochs: 1.0,
            schedule: Shape::Cosine,
            schedule_by: Unit::Step,
            weight_decay: 0.06,
            decay_norms_and_biases: true,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            loss: LossKind::CrossEntropy,
            label_smoothing: 0.1,
            tet_lambda: 0.001,
            tet_means: 1.0,
            seed: 0,
        }
    }
}

impl TrainSpec {
    /// What is impossible about the settings, if anything: key and reason.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let at_least =
            |key, v: f64, least: f64| (!(v.is_finite() && v >= least)).then(|| (key, format!("{v} must be at least {least}")));
        let share = |key, v: f64| (!(0.0..1.0).contains(&v)).then(|| (key, format!("{v} must be from 0 to below 1")));
        let count = |key, v: usize| (v == 0).then(|| (key, "0 must be at least 1".to_string()));
        count("epochs", self.epochs)
            .or(count("batch", self.batch))
            .or((!(self.lr.is_finite() && self.lr > 0.0)).then(|| ("lr", format!("{} must be a positive number", self.lr))))
            .or(at_least("min_lr", self.min_lr, 0.0))
            .or((self.min_lr > self.lr).then(|| ("min_lr", format!("{} must not exceed lr ({})", self.min_lr, self.lr))))
            .or(at_least("warmup_lr", self.warmup_lr, 0.0))
            .or(at_least("warmup_epochs", self.warmup_epochs, 0.0))
            .or((self.warmup_epochs > self.epochs as f64)
                .then(|| ("warmup_epochs", format!("{} must not exceed epochs ({})", self.warmup_epochs, self.epochs))))
            .or(at_least("weight_decay", self.weight_decay, 0.0))
            .or(share("beta1", self.beta1))
            .or(share("beta2", self.beta2))
            .or((!(self.eps.is_finite() && self.eps > 0.0)).then(|| ("eps", format!("{} must be a positive number", self.eps))))
            .or(share("label_smoothing", self.label_smoothing))
            .or((!(0.0..=1.0).contains(&self.tet_lambda))
                .then(|| ("tet_lambda", format!("{} must be from 0 to 1", self.tet_lambda))))
            .or((!self.tet_means.is_finite()).then(|| ("tet_means", format!("{} must be a finite number", self.tet_means))))
    }
    /// The loss.
    pub fn loss(&self) -> Loss {
        let label_smoothing = self.label_smoothing as f32;
        match self.loss {
            LossKind::CrossEntropy => Loss::CrossEntropy { label_smoothing },
            LossKind::CePerStep => Loss::CrossEntropyPerStep { label_smoothing },
            LossKind::Tet => Loss::Tet { lambda: self.tet_lambda as f32, means: self.tet_means as f32, label_smoothing },
        }
    }
    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            lr: self.lr,
            min_lr: self.min_lr,
            warmup_lr: self.warmup_lr,
            warmup_epochs: self.warmup_epochs,
            epochs: self.epochs,
            shape: self.schedule,
            unit: self.schedule_by,
        }
    }
    /// The optimiser.
    pub fn adamw(&self) -> AdamWSpec {
        AdamWSpec {
            weight_decay: self.weight_decay,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            decay_norms_and_biases: self.decay_norms_and_biases,
        }
    }
}

/// What is read before the data are opened.
#[derive(Deserialize)]
struct Head {
    data: DatasetSpec,
    #[serde(default)]
    train: TrainSpec,
}

impl Recipe {
    /// The settings of a recipe file. The file's name, without `.toml`, is the run's unless the file gives one.
    ///
    /// # Errors
    /// A file that is missing or no TOML.
    pub fn settings(path: impl AsRef<Path>) -> Result<Settings> {
        let path = path.as_ref();
        let mut settings = Settings::parse(path.display().to_string(), &crate::files::read_text(path)?)?;
        settings.default("name", path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        Augment::expand(&mut settings);
        Ok(settings)
    }
    /// Reads a recipe, opens its data, and takes from the data what the model's table leaves out.
    ///
    /// # Errors
    /// An unknown key, an impossible value, data that are not there, or a model that does not fit them; each with file and key.
    pub fn open(settings: Settings) -> Result<(Recipe, Splits)> {
        Recipe::opened(settings, true)
    }
    /// As [`Recipe::open`], of data that are evaluated only: there may be fewer training samples than a batch holds.
    ///
    /// # Errors
    /// As [`Recipe::open`].
    pub fn open_to_evaluate(settings: Settings) -> Result<(Recipe, Splits)> {
        Recipe::opened(settings, false)
    }
    fn opened(mut settings: Settings, trains: bool) -> Result<(Recipe, Splits)> {
        Augment::resolve(&mut settings)?;
        let head: Head = settings.read()?;
        if let Some((key, what)) = head.train.problem() {
            return Err(settings.error(&format!("train.{key}"), what));
        }
        // Mistakes that need no data to be seen come first.
        let named = |e: Error, s: &Settings| match e.kind() {
            ErrorKind::Config { place, message } if s.get(place.split('.').next().unwrap_or("")).is_some() => {
                s.error(place, message.clone())
            }
            _ => e,
        };
        let data = Splits::open(&head.data, head.train.seed).map_err(|e| named(e, &settings))?;
        let classes = data.train.dataset().classes().len();
        let channels = data.train.shape()[3];
        settings.default("model.classes", classes as i64);
        settings.default("model.in_channels", channels as i64);
        let mut recipe: Recipe = settings.read()?;
        if recipe.model.net == Net::Csnn && recipe.model.input_size == (0, 0) {
            let shape = data.train.shape();
            recipe.model.input_size = (shape[1], shape[2]);
        }
        if recipe.name.is_empty() || recipe.name.contains(['/', '\\']) || recipe.name.starts_with('.') {
            return Err(settings.error("name", format!("{:?} cannot name a folder", recipe.name)));
        }
        recipe.model.validate().map_err(|e| named(e, &settings))?;
        if let Some((key, why)) = recipe.model.idle_keys().into_iter().next() {
            return Err(settings.error(&format!("model.{key}"), why));
        }
        if recipe.model.classes != classes {
            let what = format!("{} does not fit the data, which have {classes} classes", recipe.model.classes);
            return Err(settings.error("model.classes", what));
        }
        if recipe.model.in_channels != channels {
            let what = format!("{} does not fit the data, which have {channels} channels", recipe.model.in_channels);
            return Err(settings.error("model.in_channels", what));
        }
        if recipe.train.loss().per_step() && data.train.dataset().step_labels(0).is_none() {
            let what = format!("samples of {} have one class, not one for each step", recipe.data.name);
            return Err(settings.error("train.loss", what));
        }
        if recipe.train.loss().per_step() && recipe.data.augment.mixup().is_some() {
            let what = "mixes samples of one class, and train.loss = \"ce_per_step\" takes a class for each step";
            return Err(settings.error("data.augment.mixup", what));
        }
        if trains && data.train.len() < recipe.train.batch {
            let what = format!("{} exceeds the {} training samples", recipe.train.batch, data.train.len());
            return Err(settings.error("train.batch", what));
        }
        Ok((recipe, data))
    }
    /// The recipe as TOML.
    ///
    /// # Errors
    /// A value that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::config("recipe", e.to_string()))
    }
    /// The first key in which two recipes differ: `train.lr: 0.001 here, 0.01 there`.
    pub fn difference(&self, other: &Recipe) -> Option<String> {
        let (a, b) = (serde_json::to_value(self).ok()?, serde_json::to_value(other).ok()?);
        difference(&a, &b, "")
    }
    /// How the data were split, in words.
    pub fn split(&self, data: &Splits) -> String {
        if data.validation.is_empty() {
            return format!(
                "{} training, no validation (the last epoch is taken) and {} test samples",
                data.train.len(),
                data.test.len()
            );
        }
        format!(
            "{} training, {} validation (a share of {} of each class of the training set, drawn with split_seed {}) and {} test samples",
            data.train.len(),
            data.validation.len(),
            self.data.validation,
            self.data.split_seed,
            data.test.len()
        )
    }
}

fn difference(a: &serde_json::Value, b: &serde_json::Value, path: &str) -> Option<String> {
    if let (Some(x), Some(y)) = (a.as_object(), b.as_object()) {
        let keys = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k)));
        let dot = if path.is_empty() { "" } else { "." };
        return keys.into_iter().find_map(|k| difference(&a[k], &b[k], &format!("{path}{dot}{k}")));
    }
    (a != b).then(|| format!("{path}: {a} here, {b} there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "name = 'x'\n[data]\nname = 'gestures'\nframes = 2\ntrain_samples = 32\ntest_samples = 16\n[model]\n[train]\nbatch = 4";

    fn open(sets: &[&str]) -> Result<Recipe> {
        let mut s = Settings::parse("a.toml", TEXT)?;
        for x in sets {
            s.set(x)?;
        }
        Recipe::open(s).map(|r| r.0)
    }

    #[test]
    fn a_batch_may_exceed_what_is_not_trained_on() {
        let mut s = Settings::parse("a.toml", TEXT).unwrap();
        s.set("train.batch=1000").unwrap();
        assert_eq!(Recipe::open_to_evaluate(s).unwrap().0.train.batch, 1000);
    }

    #[test]
    fn data_fill_in_the_model() {
        let r = open(&["train.lr=0.01"]).unwrap();
        assert_eq!((r.model.classes, r.model.in_channels, r.train.batch, r.train.lr), (8, 2, 4, 0.01));
        let again: Recipe = toml::from_str(&r.to_toml().unwrap()).unwrap();
        assert_eq!(again, r);
        assert_eq!(r.difference(&again), None);
        let other = Recipe { train: TrainSpec { lr: 0.5, ..r.train.clone() }, ..r.clone() };
        assert_eq!(r.difference(&other).unwrap(), "train.lr: 0.01 here, 0.5 there");
    }

    #[test]
    fn recipes_of_the_repository_are_sound_and_say_how_to_get_their_data() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes");
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mut settings = Recipe::settings(&path).unwrap();
            Augment::resolve(&mut settings).unwrap();
            let recipe: Recipe = settings.read().unwrap();
            assert_eq!(recipe.train.problem(), None, "{}", path.display());
            recipe.model.validate().unwrap();
            let manifest = crate::data::entry(&recipe.data.name).unwrap().manifest().unwrap();
            assert!(recipe.data.split.iter().all(|s| manifest.splits.contains_key(s)), "{}", path.display());
            if recipe.data.name != "gestures" {
                let e = Recipe::open(Recipe::settings(&path).unwrap()).err().unwrap().to_string();
                assert!(e.contains("data.dir") && e.contains("not at hand (data.dir is not set)"), "{e}");
            }
        }
    }

    #[test]
    fn impossible_values_name_their_key() {
        for (set, place) in [
            ("train.batch=0", "--set train.batch: 0 must be at least 1"),
            ("train.batch=1000", "--set train.batch: 1000 exceeds the 24"),
            ("train.lr=-1", "--set train.lr: -1 must be a positive number"),
            ("train.lr=nan", "--set train.lr: NaN must be"),
            ("train.epochs=0", "--set train.epochs: "),
            ("train.min_lr=1", "--set train.min_lr: 1 must not exceed lr"),
            ("train.label_smoothing=1", "--set train.label_smoothing: "),
            ("train.tet_lambda=2", "--set train.tet_lambda: "),
            ("train.loss=text", "--set train.loss: \"text\" is not one of its values; did you mean tet?"),
            ("train.loss=ce_per_step", "--set train.loss: samples of gestures have one class"),
            ("data.slices=0", "--set data.slices: 0 must be at least 1"),
            ("data.slices=2", "--set data.slices: cuts steps of spike trains; samples of gestures are none"),
            ("data.validation=1", "--set data.validation: 1 is no share"),
            ("data.validation=-0.1", "--set data.validation: -0.1 is no share"),
            ("data.cache=", "--set data.cache: \"\" names no folder"),
            ("data.name=gesture", "--set data.name: no dataset is called `gesture`"),
            ("model.classes=3", "--set model.classes: 3 does not fit the data, which have 8 classes"),
            ("model.in_channels=3", "--set model.in_channels: 3 does not fit"),
            ("model.heads=5", "--set model.heads: 5 heads do not divide a width of 256"),
            ("model.semm.experts=5", "--set model.semm.experts: 5 experts do not divide a width of 256"),
            ("name=a/b", "--set name: "),
            ("trian.lr=1", "--set trian: there is no such key; did you mean train?"),
        ] {
            let e = open(&[set]).expect_err(set).to_string();
            assert!(e.starts_with(place), "{set}: {e}");
        }
    }

    #[test]
    fn keys_without_effect_are_refused() {
        for (key, value, instead) in [
            ("heads", "8", "semm.experts"),
            ("mlp_ratio", "2", "semm.hidden"),
            ("attention_v_threshold", "1.0", "semm.v_threshold"),
        ] {
            let set = format!("model.{key}={value}");
            assert!(open(&[&set]).is_ok(), "{set}");
            let e = open(&["model.semm.experts=4", &set]).expect_err(&set).to_string();
            let place = format!("--set model.{key}: has no effect with [model.semm]");
            assert!(e.starts_with(&place) && e.contains(instead), "{e}");
        }
        let layers = "model.layers=[\"conv 8\", \"flatten\", \"fc 16\"]";
        for set in ["model.dim=64", "model.depth=3", "model.heads=4", "model.scale=0.5"] {
            let e = open(&["model.net=csnn", layers, set]).expect_err(set).to_string();
            let place = format!("--set {}: has no effect on a csnn", set.split('=').next().unwrap());
            assert!(e.starts_with(&place), "{e}");
        }
        assert!(open(&["model.net=csnn", layers, "model.input_size=[32, 32]"]).is_ok());
        let e = open(&["model.input_size=[32, 32]"]).expect_err("input_size").to_string();
        assert!(e.starts_with("--set model.input_size: has no effect on a transformer"), "{e}");
        // A recipe as resolved names every key, and can be run again.
        let resolved = open(&["model.semm.experts=4"]).unwrap().to_toml().unwrap();
        assert!(resolved.contains("heads = 16"), "{resolved}");
        Recipe::open(Settings::parse("recipe.toml", &resolved).unwrap()).unwrap();
    }
}
