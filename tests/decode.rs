//! Every recording of `counts.tsv` whose format is known decodes to the counts independent readers found.
//!
//! The recordings lie in `SPIKEMIX_DATA` (default `../shared/data`, else none of this runs).

use libtest_mimic::{Failed, Trial};
use spikemix::data::{DatasetSpec, Recording, Split};
use spikemix::{data, events};
use std::path::{Path, PathBuf};

/// The folder of recordings.
pub fn data_dir() -> PathBuf {
    match std::env::var_os("SPIKEMIX_DATA") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// A trial per row of `counts.tsv`; ignored where the format has no decoder yet or there are no recordings.
pub fn trials() -> Vec<Trial> {
    let dir = data_dir();
    let Ok(table) = std::fs::read_to_string(dir.join("counts.tsv")) else {
        return vec![Trial::test("decode::recordings", || Ok(())).with_ignored_flag(true)];
    };
    let mut trials: Vec<_> = table
        .lines()
        .skip(1)
        .filter_map(|row| row.split_once('\t').map(|(file, rest)| (file.to_owned(), rest.to_owned())))
        .map(|(file, rest)| {
            let path = dir.join(&file);
            let head = head(&path);
            let known = events::sniff(&head, Some(&path)).is_some();
            Trial::test(format!("decode::{file}"), move || row(&path, &rest)).with_ignored_flag(!known)
        })
        .collect();
    // Hand-made files whose every valid bit is clear; the README of the recordings says how many events each holds.
    for (file, events) in [("aedat1_for_testing", 12), ("aedat2_led", 18), ("aedat3_fluorescent", 5)] {
        let path = dir.join(format!("formats/aedat31_{file}.aedat"));
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::{file}"), move || {
            let stream = events::open(&path, true).map_err(|e| e.to_string())?;
            same("events", stream.events.len(), events)
        });
        trials.push(trial.with_ignored_flag(missing));
    }
    let nmnist = dir.join("nmnist");
    let missing = !nmnist.is_dir();
    let trial = Trial::test("decode::nmnist", move || whole_nmnist(&nmnist));
    trials.push(trial.with_ignored_flag(missing));
    let other = dir.join("formats/evt2_words_no_header.bin");
    let missing = !other.exists();
    let trial = Trial::test("decode::evt2_is_not_atis", move || {
        let format = events::sniff(&head(&other), Some(&other));
        same("format", format.map(|f| f.name == "atis").unwrap_or(false), false)
    });
    trials.push(trial.with_ignored_flag(missing));
    trials
}

/// All recordings of the subset, strictly, with every event on the sensor.
fn whole_nmnist(dir: &Path) -> Result<(), Failed> {
    let spec = DatasetSpec { dir: Some(dir.into()), strict: true, ..DatasetSpec::new("nmnist") };
    for (split, want) in [(Split::Train, 1000), (Split::Test, 100)] {
        let dataset = data::open(&spec, split)?;
        same("recordings", dataset.len(), want)?;
        let digits: std::collections::BTreeSet<u32> = dataset.labels().into_iter().collect();
        same("digits", digits.into_iter().collect::<Vec<_>>(), (0..10).collect())?;
        for i in 0..dataset.len() {
            let Recording::Events(stream) = dataset.load(i)? else {
                return Err("no events".into());
            };
            let folder = dataset.describe(i);
            let digit = format!("{0}{1}{0}", std::path::MAIN_SEPARATOR, dataset.label(i));
            if stream.events.len() < 500 || !folder.contains(&digit) {
                return Err(format!("{folder}: {} events", stream.events.len()).into());
            }
        }
    }
    Ok(())
}

fn head(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    if let Ok(f) = std::fs::File::open(path) {
        f.take(1 << 16).read_to_end(&mut out).ok();
    }
    out
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), Failed> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, not {want:?}").into()) }
}

fn row(path: &Path, rest: &str) -> Result<(), Failed> {
    let want = rest.split('\t').skip(1).map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let s = events::open(path, true).map_err(|e| e.to_string())?.stats();
    let got = [
        s.events as i64,
        s.t_first.unwrap_or(0),
        s.t_last.unwrap_or(0),
        s.sum_t_minus_t0,
        s.sum_x as i64,
        s.sum_y as i64,
        s.n_on as i64,
        s.x_max.unwrap_or(0).into(),
        s.y_max.unwrap_or(0).into(),
        s.backsteps as i64,
    ];
    same("n t_first t_last sum_t_minus_t0 sum_x sum_y n_on xmax ymax backsteps", &got[..], &want[..])
}
