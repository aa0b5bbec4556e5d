//! What is known about a dataset, as data: `datasets/*.toml`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `datasets/<name>.toml` says of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name a recipe says.
    pub name: String,
    /// The name people say.
    pub title: String,
    /// What it is, in a sentence or two.
    pub about: String,
    /// Width and height of the sensor; none where the files say.
    pub sensor: Option<[u32; 2]>,
    /// The names of the classes, in order of the labels; empty where the folders say.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The files and folders expected.
    pub tree: String,
    /// Published numbers of samples, if there are.
    pub counts: Option<Counts>,
    /// How training and test samples are told apart where nothing is asked for.
    pub split: String,
    /// Documented splits by name, for `data.split`; the first sentence of each says what it is.
    #[serde(default)]
    pub splits: BTreeMap<String, String>,
    /// One sentence on how to get it; `{dir}` stands for the folder looked in.
    pub get: String,
    /// Where a person downloads it.
    pub url: Option<String>,
    /// Whom to cite.
    pub citation: Option<String>,
    /// Its licence.
    pub licence: String,
    /// What papers and libraries state differently: counts, splits, orientation.
    #[serde(default)]
    pub disagreements: Vec<String>,
    /// Traps and whatever else one should know.
    pub notes: Option<String>,
    /// Where what is said here was looked up.
    pub sources: Option<String>,
    /// The keys above for which no such place was found: they are said from memory.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// Published MD5 sums of files by name; of a name that lacks `.gz` the sum is of the unpacked content.
    #[serde(default)]
    pub md5: BTreeMap<String, String>,
}

/// Numbers of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Training samples.
    pub train: usize,
    /// Test samples.
    pub test: usize,
}
