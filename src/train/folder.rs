//! The folder of a run and the files in it.
//!
//! | file | what |
//! |---|---|
//! | `recipe.toml` | the recipe, every setting resolved |
//! | `metrics.jsonl` | one object an epoch |
//! | `last.safetensors` | where the run stands, with the optimiser's state; what `--resume` goes on from |
//! | `best.safetensors` | the weights of the epoch that is best on the validation samples so far |
//! | `result.json` | what the run came to; written last |
//! | `lock` | empty; locked while a run is in progress |

use crate::checkpoint::Checkpoint;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{make_folder, read_text, write_atomic};
use crate::recipe::Recipe;
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with a folder that a run has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Refuse it.
    #[default]
    New,
    /// Go on with the run.
    Resume,
    /// Remove the run's files and begin anew.
    Force,
}

const FILES: [&str; 5] = ["recipe.toml", "metrics.jsonl", "last.safetensors", "best.safetensors", "result.json"];

/// The folder of a run, locked against other runs as long as it is held.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf, #[allow(dead_code)] Arc<File>);

/// Locks the folder at `path`. The system unlocks it when the process ends, however that comes.
fn lock(path: &Path) -> Result<Arc<File>> {
    let at = path.join("lock");
    let file = File::options().create(true).append(true).open(&at).map_err(|e| Error::io(&at, e))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::config(path.display().to_string(), "a run is in progress here, in another process"))
        }
        // Some network drives know no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Arc::new(file)),
    }
}

impl Folder {
    /// Makes or takes up the folder at `path`. The second value is the checkpoint to go on from, where there is one.
    ///
    /// # Errors
    /// A folder that holds another run or other files; with [`Start::Resume`] one without a run, or with a run of another recipe.
    pub fn open(path: &Path, recipe: &Recipe, start: Start) -> Result<(Folder, Option<Checkpoint>)> {
        let wrong = |m: String| Error::config(path.display().to_string(), m);
        let has_run = path.join(FILES[0]).exists();
        if start == Start::Resume {
            if !has_run {
                return Err(wrong("there is no run here to resume".into()));
            }
            let folder = Folder(path.to_path_buf(), lock(path)?);
            let text = read_text(folder.recipe())?;
            let old: Recipe = Settings::parse(folder.recipe().display().to_string(), &text)?.read()?;
            if let Some(d) = recipe.difference(&old) {
                return Err(wrong(format!("the run here has another recipe, so it cannot be resumed ({d})")));
            }
            let last = folder.last();
            return match Checkpoint::open(&last) {
                Ok(c) => Ok((folder, Some(c))),
                Err(e) if matches!(e.kind(), ErrorKind::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound) => {
                    // The first epoch's best weights are written before it, the others behind it.
                    let later = Checkpoint::open(folder.best()).is_ok_and(|best| best.meta.epoch > 1);
                    match folder.result().exists() || later {
                        true => Err(wrong(
                            "last.safetensors is gone, without which the run here cannot be resumed; --force begins anew".into(),
                        )),
                        // It was stopped before its first checkpoint.
                        false => Ok((folder, None)),
                    }
                }
                Err(e) => Err(e),
            };
        }
        if start == Start::New {
            if has_run {
                return Err(wrong(
                    "there is a run here already; --resume goes on with it, --force overwrites it, --out names another folder"
                        .into(),
                ));
            }
            if std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_some()) {
                return Err(wrong(
                    "the folder is not empty and holds no run; --out names another one, --force uses it all the same".into(),
                ));
            }
        }
        make_folder(path)?;
        let folder = Folder(path.to_path_buf(), lock(path)?);
        for file in FILES {
            match std::fs::remove_file(path.join(file)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(path.join(file), e)),
                _ => {}
            }
        }
        write_atomic(folder.recipe(), recipe.to_toml()?.as_bytes())?;
        Ok((folder, None))
    }
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The recipe as resolved.
    pub fn recipe(&self) -> PathBuf {
        self.0.join(FILES[0])
    }
    /// One object an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.0.join(FILES[1])
    }
    /// Where the run stands.
    pub fn last(&self) -> PathBuf {
        self.0.join(FILES[2])
    }
    /// The best weights so far.
    pub fn best(&self) -> PathBuf {
        self.0.join(FILES[3])
    }
    /// What the run came to.
    pub fn result(&self) -> PathBuf {
        self.0.join(FILES[4])
    }
    /// Writes the metrics of all epochs.
    ///
    /// # Errors
    /// The system's.
    pub fn write_metrics(&self, rows: &[Value]) -> Result<()> {
        let lines: String = rows.iter().map(|r| format!("{r}\n")).collect();
        write_atomic(self.metrics(), lines.as_bytes())
    }
    /// The metrics of the first `epochs` epochs; a run that was killed between two files may have written one more.
    pub fn read_metrics(&self, epochs: usize) -> Vec<Value> {
        let text = read_text(self.metrics()).unwrap_or_default();
        let rows = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        rows.filter(|r| r["epoch"].as_u64().is_some_and(|e| e <= epochs as u64)).collect()
    }
}
