//! `[data]` of a recipe.

use super::gestures::GestureSpec;
use super::{Augment, Manifest};
use crate::encode::{Compress, Crop, Encoding, Kind, SplitBy};
use crate::events::Filter;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A dataset and how it is read: `[data]` of a recipe. Only `name` is required.
///
/// ```
/// let spec: spikemix::data::DatasetSpec = toml::from_str(r#"
///     name = "nmnist"
///     dir = "/data/nmnist"
///     frames = 10
///     crop = [32, 32]
///     augment = { translate = 2 }
/// "#).unwrap();
/// assert_eq!(spec.encoding().frames, 10);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The dataset's name in the registry, [`super::DATASETS`].
    pub name: String,
    /// The folder it lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What the arrays hold of the events: `frames` (counts), `voxel`, `surface` or `raster` (spikes), each polarity in its channel.
    #[serde(default)]
    pub encoding: Kind,
    /// T: how many slices a recording is cut into (SpikingJelly's `frames_number`). Without a part where `duration_us` is given.
    #[serde(default = "defaults::frames")]
    pub frames: usize,
    /// Spike trains alone: how many equal slices a step is cut into, whose counts are channels side by side (the micro time bins of voxel
    /// cubes). With `frames = 1` the network sees the whole course of a sample at once.
    #[serde(default = "defaults::slices", skip_serializing_if = "defaults::is_one")]
    pub slices: usize,
    /// How it is cut: by `number` of events or by `time`; voxel grids always by time.
    #[serde(default)]
    pub split_by: SplitBy,
    /// The duration of a step, microseconds, instead of `frames`: T then depends on the recording, and in a batch shorter recordings are
    /// padded. Padded steps count nowhere: not in scores, loss, statistics of norms, rates or operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<i64>,
    /// The most steps with `duration_us` (1000 by default); what is recorded later is left out with a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// The time in which a time surface falls to 1/e, microseconds (50000 by default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau_us: Option<i64>,
    /// A part of the sensor: `[height, width]` for the centre (where it exceeds the sensor it is padded), or
    /// `{ x = 10, y = 0, width = 64, height = 64 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// What the (cropped) sensor is scaled down to, `[height, width]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// What becomes of the values of the arrays, counts of events mostly: `none`, `sqrt` or `log` (ln(1 + v)).
    #[serde(default, skip_serializing_if = "Compress::is_off")]
    pub compress: Compress,
    /// The sensor, `[width, height]`, for own recordings whose format does not say it (ATIS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<[u32; 2]>,
    /// The share of each class of the training set that is kept for validation, from 0 to below 1. With 0 all of it is trained on and the
    /// last epoch is the chosen one: for settings that were chosen otherwise, by folds for instance.
    #[serde(default = "defaults::validation")]
    pub validation: f64,
    /// The share of each class that becomes the test set where the data come without one.
    #[serde(default = "defaults::test_fraction")]
    pub test_fraction: f64,
    /// One of the dataset's documented splits, by its name in the manifest; the official or usual one if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// How still images become a sequence.
    #[serde(default)]
    pub input: StillInput,
    /// The seed of every random split; independent of the run's seed, so that runs compare.
    #[serde(default)]
    pub split_seed: u64,
    /// How many training samples to use, validation included (synthetic data: to make); all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// How many test samples to use (synthetic data: to make); all if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_samples: Option<usize>,
    /// Whether a damaged file is an error; by default what can be read of it is used and a warning given.
    #[serde(default)]
    pub strict: bool,
    /// Memory for samples kept between epochs, MiB.
    #[serde(default = "defaults::cache_mib")]
    pub cache_mib: usize,
    /// A folder for encoded samples (events where samples are augmented), made where it is missing; several runs may share it. An entry is
    /// found by all it depends on: the file's content, every setting of the encoding, and this program's version, so that data that are moved or copied are found again
    /// and a file that changes in any way is read anew. For that each file is read once a run.
    /// Nothing in it is ever deleted; deleting the folder is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// What is taken out of every recording; nothing by default.
    #[serde(default, skip_serializing_if = "Filter::is_off")]
    pub filter: Filter,
    /// Random changes of training samples; none by default. A recipe may name a set of them: `augment = "spikformer"`, or
    /// `recipe = "spikformer"` in the table to change some of it, see [`super::augment::RECIPES`].
    #[serde(default)]
    pub augment: Augment,
    /// The synthetic gestures' own settings.
    #[serde(default)]
    pub gestures: GestureSpec,
}

/// How a still image becomes T steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StillInput {
    /// The same picture at each step, brightness from 0 to 1.
    #[default]
    Constant,
    /// At each step a spike with the brightness as its probability; the draw is the same for a sample in each epoch.
    Rate,
}

mod defaults {
    pub fn frames() -> usize {
        super::Encoding::default().frames
    }
    pub fn slices() -> usize {
        1
    }
    pub fn is_one(n: &usize) -> bool {
        *n == 1
    }
    pub fn validation() -> f64 {
        0.1
    }
    pub fn test_fraction() -> f64 {
        0.2
    }
    pub fn cache_mib() -> usize {
        2048
    }
}

impl DatasetSpec {
    /// The dataset called `name`, all else as by default.
    pub fn new(name: impl Into<String>) -> Self {
        DatasetSpec {
            name: name.into(),
            dir: None,
            encoding: Kind::default(),
            frames: defaults::frames(),
            slices: defaults::slices(),
            split_by: SplitBy::default(),
            duration_us: None,
            max_steps: None,
            tau_us: None,
            crop: None,
            size: None,
            compress: Compress::None,
            sensor: None,
            validation: defaults::validation(),
            test_fraction: defaults::test_fraction(),
            split: None,
            input: StillInput::default(),
            split_seed: 0,
            train_samples: None,
            test_samples: None,
            strict: false,
            cache_mib: defaults::cache_mib(),
            cache: None,
            filter: Filter::default(),
            augment: Augment::default(),
            gestures: GestureSpec::default(),
        }
    }
    /// The dataset's folder.
    ///
    /// # Errors
    /// None is named or it does not exist: one sentence on how to get the dataset.
    pub fn folder(&self, manifest: &Manifest) -> Result<PathBuf> {
        match &self.dir {
            Some(dir) if dir.is_dir() => Ok(dir.clone()),
            _ => Err(self.absent(manifest)),
        }
    }
    /// The file `name` in the dataset's folder.
    ///
    /// # Errors
    /// It does not exist: the same sentence.
    pub fn file(&self, manifest: &Manifest, name: &str) -> Result<PathBuf> {
        let path = self.folder(manifest)?.join(name);
        if path.is_file() { Ok(path) } else { Err(self.absent(manifest)) }
    }
    fn absent(&self, manifest: &Manifest) -> Error {
        let place = self.dir.as_ref().map_or("hand (data.dir is not set)".into(), |d| d.display().to_string());
        Error::config("data.dir", manifest.get.replace("{dir}", &place))
    }
    /// How events become arrays.
    pub fn encoding(&self) -> Encoding {
        Encoding {
            kind: self.encoding,
            frames: self.frames,
            split_by: self.split_by,
            duration_us: self.duration_us,
            max_steps: self.max_steps,
            tau_us: self.tau_us,
            crop: self.crop,
            size: self.size,
            compress: self.compress,
            filter: self.filter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_agree_and_unknown_keys_are_refused() {
        let spec: DatasetSpec = toml::from_str(r#"name = "nmnist""#).unwrap();
        assert_eq!(spec, DatasetSpec::new("nmnist"));
        let back: DatasetSpec = toml::from_str(&toml::to_string(&spec).unwrap()).unwrap();
        assert_eq!(back, spec);
        let crop = |text: &str| toml::from_str::<DatasetSpec>(&format!("name = 'a'\nencoding = 'frame'\ncrop = {text}"));
        assert_eq!(crop("[3, 4]").unwrap().crop, Some(Crop::Centre([3, 4])));
        let rectangle = crop("{ x = 1, y = 2, width = 3, height = 4 }").unwrap();
        assert_eq!(toml::from_str::<DatasetSpec>(&toml::to_string(&rectangle).unwrap()).unwrap(), rectangle);
        assert!(crop("{ x = 1, y = 2, width = 3, hight = 4 }").unwrap_err().to_string().contains("[height, width]"));
        for bad in [
            "name = 'a'\nframe = 3",
            "name = 'a'\n[augment]\nflipp = 1",
            "name = 'a'\n[gestures.camera]\nx = 1",
            "name = 'a'\nencoding = 'voxels'",
            "name = 'a'\ncrop = [1]",
        ] {
            assert!(toml::from_str::<DatasetSpec>(bad).is_err(), "{bad}");
        }
    }
}
