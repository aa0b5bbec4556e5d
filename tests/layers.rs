//! A module uses only modules that stand above it in `src/lib.rs`.

use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn check() -> Result<(), Failed> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(src.join("lib.rs"))?;
    let order: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let place = |name: &str| order.iter().position(|m| *m == name);
    let mut files = Vec::new();
    sources(&src, &mut files)?;
    let mut wrong = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&src)?;
        let Some(first) = inside.components().next() else { continue };
        let module = Path::new(first.as_os_str()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some(own) = place(&module) else { continue };
        for (n, line) in std::fs::read_to_string(&path)?.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if place(&name).is_some_and(|p| p > own) {
                    wrong.push(format!("src/{}:{}: {module} uses {name}, which stands below it", inside.display(), n + 1));
                }
            }
        }
    }
    if order.len() < 10 {
        wrong.push(format!("only {} modules found in lib.rs", order.len()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// The one trial.
pub fn trials() -> Vec<Trial> {
    vec![Trial::test("layers", check)]
}
