//! Spikes of 51 cells of an auditory cortex that hear 18 sounds: a CSV with columns `sound_ID`, `role` (train, val, test) and
//! 0 to 499, one for each millisecond, whose value is the cell that fired (0: none).
//!
//! The column order differs by file, so columns are found by name. Rows of the role `val` count as training samples, of
//! which `data.validation` are kept back as everywhere.

use super::files::{listed, name_of};
use super::trains::Trains;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::{Error, Result};
use std::path::Path;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "auditory_cortex", manifest: include_str!("../../datasets/auditory_cortex.toml"), open };

const CELLS: usize = 51;
const STEPS: usize = 500;

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let files: Vec<_> = listed(&dir)?.into_iter().filter(|f| name_of(f).ends_with(".csv")).collect();
    let Some(path) = files.first() else {
        let what = format!("no CSV file in it; expected {}", manifest.tree);
        return Err(Error::config(dir.display().to_string(), what));
    };
    let mut out = Trains {
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        units: CELLS,
        length: STEPS as f64,
        frames: spec.frames,
        slices: spec.slices,
        what: "row",
        ..Trains::default()
    };
    read(path, part, &mut out)?;
    Ok(Box::new(out))
}

fn read(path: &Path, part: Split, out: &mut Trains) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let mut lines = text.split('\n');
    let header: Vec<&str> = lines.next().unwrap_or_default().trim().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name);
    let missing = || Error::format(path, 0, "no columns sound_ID, role and 0 to 499");
    let sound = column("sound_ID").ok_or_else(missing)?;
    let role = column("role").ok_or_else(missing)?;
    let steps: Option<Vec<usize>> = (0..STEPS).map(|t| column(&t.to_string())).collect();
    let steps = steps.ok_or_else(missing)?;
    let mut at = text.find('\n').map_or(text.len(), |n| n + 1);
    for (i, line) in lines.enumerate() {
        let row: Vec<&str> = line.trim().split(',').collect();
        let error = |what: String| Error::format(path, at as u64, format!("row {}: {what}", i + 2));
        if row.len() > 1 {
            if row.len() != header.len() {
                return Err(error(format!("{} columns of {}", row.len(), header.len())));
            }
            let here = match row[role] {
                "train" | "val" => Split::Train,
                "test" => Split::Test,
                other => return Err(error(format!("role `{other}`"))),
            };
            if here == part {
                let number = |f: &str| f.parse::<f64>().ok().filter(|v| v.fract() == 0.0);
                let label = number(row[sound]).filter(|v| (1.0..=out.classes.len() as f64).contains(v));
                let label = label.ok_or_else(|| error(format!("sound `{}`", row[sound])))?;
                let mut spikes = Vec::new();
                for (t, &c) in steps.iter().enumerate() {
                    let cell = number(row[c]).filter(|v| (0.0..=CELLS as f64).contains(v));
                    let cell = cell.ok_or_else(|| error(format!("cell `{}`", row[c])))?;
                    if cell > 0.0 {
                        spikes.push((t as f32, cell as u16 - 1));
                    }
                }
                out.spikes.push(spikes);
                out.labels.push(label as u32 - 1);
            }
        }
        at += line.len() + 1;
    }
    Ok(())
}
