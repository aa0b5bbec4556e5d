//! Every recording of `counts.tsv` whose format is known decodes to the counts independent readers found.
//!
//! The recordings lie in `SPIKEMIX_DATA` (default `../shared/data`, else none of this runs).

use libtest_mimic::{Failed, Trial};
use spikemix::events;
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
        .filter_map(|row| {
            row.split_once('\t')
                .map(|(file, rest)| (file.to_owned(), rest.to_owned()))
        })
        .map(|(file, rest)| {
            let path = dir.join(&file);
            let head = head(&path);
            let known = events::sniff(&head, Some(&path)).is_some();
            Trial::test(format!("decode::{file}"), move || row(&path, &rest))
                .with_ignored_flag(!known)
        })
        .collect();
    // Hand-made files whose every valid bit is clear; the README of the recordings says how many events each holds.
    for (file, events) in [
        ("aedat1_for_testing", 12),
        ("aedat2_led", 18),
        ("aedat3_fluorescent", 5),
    ] {
        let path = dir.join(format!("formats/aedat31_{file}.aedat"));
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::{file}"), move || {
            let stream = events::open(&path, true).map_err(|e| e.to_string())?;
            same("events", stream.events.len(), events)
        });
        trials.push(trial.with_ignored_flag(missing));
    }
    trials
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
    if got == want {
        Ok(())
    } else {
        Err(format!("{what}: {got:?}, not {want:?}").into())
    }
}

fn row(path: &Path, rest: &str) -> Result<(), Failed> {
    let want = rest
        .split('\t')
        .skip(1)
        .map(str::parse)
        .collect::<Result<Vec<i64>, _>>()?;
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
    same(
        "n t_first t_last sum_t_minus_t0 sum_x sum_y n_on xmax ymax backsteps",
        &got[..],
        &want[..],
    )
}
