//! `spikemix datasets`.

use super::{print, print_json, table};
use crate::data::{CheckReport, DATASETS, Manifest, check, entry};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many damaged recordings are named.
const NAMED: usize = 10;

/// List the datasets that recipes can name, or check a folder against what is known of one.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  spikemix datasets
  spikemix datasets show dvs128_gesture
  spikemix datasets check nmnist --dir /data/nmnist
  spikemix datasets check nmnist --dir /data/nmnist --all
  spikemix datasets check folder --dir /data/mine --sensor 34x34"
)]
pub(super) struct DatasetsArgs {
    #[command(subcommand)]
    command: Option<Sub>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Sub {
    /// Say all that is known of a dataset: classes, files, splits, licence, citation, where a person downloads it
    #[command(after_help = "\
Examples:
  spikemix datasets show dvs128_gesture
  spikemix datasets show nmnist --json")]
    Show {
        /// Its name, as recipes say it
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compare a folder with what is known of a dataset: what is missing, how many samples of each class there are
    #[command(after_help = "\
Examples:
  spikemix datasets check nmnist --dir /data/nmnist --all
  spikemix datasets check folder --dir /data/mine --sensor 34x34")]
    Check {
        /// Its name, as recipes say it
        name: String,
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// The sensor's size in pixels, where recordings do not say it, for example 34x34
        #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = pixels)]
        sensor: Option<[u32; 2]>,
        /// Read every sample instead of the first of each class
        #[arg(long)]
        all: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Width and height of `34x34`.
fn pixels(text: &str) -> Result<[u32; 2], String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    sides.filter(|s| s.iter().all(|n| (1..=1 << 16).contains(n))).ok_or_else(|| "expected WIDTHxHEIGHT, for example 34x34".into())
}

/// Runs the command.
pub(super) fn run(a: &DatasetsArgs) -> Result<()> {
    match &a.command {
        None => list(a.json),
        Some(Sub::Show { name, json }) => show(&entry(name)?.manifest()?, *json),
        Some(Sub::Check { name, dir, sensor, all, json }) => {
            let report = check(name, dir, *sensor, *all)?;
            if *json {
                print_json(&report)?;
            } else {
                print(&text(&report))?;
            }
            match report.problems.len() {
                0 => Ok(()),
                n => {
                    let respects = if n == 1 { "respect" } else { "respects" };
                    Err(Error::config(dir.display().to_string(), format!("not as the manifest of {name} says in {n} {respects}")))
                }
            }
        }
    }
}

fn list(json: bool) -> Result<()> {
    let manifests = DATASETS.iter().map(|e| e.manifest()).collect::<Result<Vec<_>>>()?;
    if json {
        return print_json(&manifests);
    }
    let mut rows = vec![["name", "dataset", "sensor", "classes", "train", "test"].map(String::from).to_vec()];
    for m in &manifests {
        let known = |n: Option<usize>| n.map_or("-".into(), |n| n.to_string());
        rows.push(vec![
            m.name.clone(),
            m.title.clone(),
            m.sensor.map_or("-".into(), |[w, h]| format!("{w}x{h}")),
            known(Some(m.classes.len()).filter(|n| *n > 0)),
            known(m.counts.map(|c| c.train)),
            known(m.counts.map(|c| c.test)),
        ]);
    }
    print(&table(&rows, &[false, false, true, true, true, true]))
}

fn show(m: &Manifest, json: bool) -> Result<()> {
    // The manifest's sentence is what an absent folder gives; here nothing was looked for.
    let get = m.get.split_once("{dir}: ").map_or(m.get.as_str(), |(_, how)| how).to_string();
    if json {
        return print_json(&Manifest { get, ..m.clone() });
    }
    let mut rows: Vec<(String, String)> = vec![("dataset".into(), m.title.clone()), ("about".into(), m.about.clone())];
    let mut say = |key: &str, value: Option<String>| rows.extend(value.map(|v| (key.to_string(), v)));
    say("sensor", m.sensor.map(|[w, h]| format!("{w}x{h} pixels")));
    say("classes", Some(m.classes.join(", ")).filter(|c| !c.is_empty()));
    say("samples", m.counts.map(|c| format!("{} training, {} test", c.train, c.test)));
    say("files", Some(m.tree.clone()));
    say("split", Some(m.split.clone()));
    m.splits.iter().for_each(|(name, about)| say(&format!("split {name}"), Some(about.clone())));
    m.disagreements.iter().for_each(|d| say("known to differ", Some(d.clone())));
    say("get it", Some(get));
    say("from", m.url.clone());
    say("cite", m.citation.clone());
    say("licence", Some(m.licence.clone()));
    say("note", m.notes.clone());
    m.md5.iter().for_each(|(file, sum)| say("MD5", Some(format!("{sum}  {file}"))));
    say("looked up in", m.sources.clone());
    say("not verified", Some(m.unverified.join(", ")).filter(|u| !u.is_empty()));
    let line = |(key, value): &(String, String)| {
        let mut lines = value.trim().lines();
        let first = format!("{key:16}{}\n", lines.next().unwrap_or_default());
        lines.fold(first, |text, l| format!("{text}{:16}{l}\n", ""))
    };
    print(&rows.iter().map(line).collect::<String>())
}

fn text(r: &CheckReport) -> String {
    let mut s = String::new();
    for p in &r.parts {
        let expected = match p.expected {
            None => "no number is published".to_string(),
            Some(n) if n == p.samples => "as published".to_string(),
            Some(n) => format!("published: {n}"),
        };
        let events = p.events.map_or(String::new(), |[least, most]| format!(", {least} to {most} events each"));
        let damaged = if p.damaged > 0 { format!(", {} damaged", p.damaged) } else { String::new() };
        s += &format!("{}: {} samples ({expected}), {} of them read{events}{damaged}\n", p.part, p.samples, p.read);
        let classes: Vec<String> = p.classes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        s += &format!("  {}{}\n", if p.by_step { "steps: " } else { "" }, classes.join(", "));
    }
    if !r.checksums.is_empty() {
        s += &format!("checksums as published: {}\n", r.checksums.join(", "));
    }
    // Whole folders may be rounded: of warnings that differ in numbers alone the first stands for all.
    let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for w in &r.warnings {
        let what = w.split_once(": ").map_or(w.as_str(), |(_, what)| what);
        let kind: String = what.chars().filter(|c| !c.is_ascii_digit()).collect();
        kinds.entry(kind).or_insert((0, w)).0 += 1;
    }
    for (n, first) in kinds.values() {
        let more = if *n > 1 { format!(" (and {} more samples)", n - 1) } else { String::new() };
        s += &format!("warning: {first}{more}\n");
    }
    r.damaged.iter().take(NAMED).for_each(|d| s += &format!("damaged: {d}\n"));
    if r.damaged.len() > NAMED {
        s += &format!("damaged: and {} more\n", r.damaged.len() - NAMED);
    }
    r.problems.iter().for_each(|p| s += &format!("not as expected: {p}\n"));
    r.get.iter().for_each(|g| s += &format!("how to get it: {g}\n"));
    r.disagreements.iter().for_each(|d| s += &format!("known to differ: {d}\n"));
    s
}
