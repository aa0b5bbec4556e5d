//! The folders of fixtures and recordings beside the repository.
//!
//! `SPIKEMIX_ORACLE` and `SPIKEMIX_DATA` name them (defaults `../shared/oracle` and `../shared/data`). Where one is absent, its tests show
//! as ignored; in CI (`CI` is set) they fail instead.

use libtest_mimic::Trial;
use std::path::{Path, PathBuf};

/// A folder: from the environment, or beside the repository.
pub fn folder(variable: &str, name: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name),
    }
}

/// The one trial that stands for those of an absent folder.
pub fn absent(name: &str, dir: &Path) -> Trial {
    let dir = dir.display().to_string();
    Trial::test(name.to_string(), move || Err(format!("{dir} is not there").into()))
        .with_ignored_flag(std::env::var_os("CI").is_none())
}
