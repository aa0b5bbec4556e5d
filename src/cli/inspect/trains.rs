//! What `spikemix inspect` says of sets of spike trains.

use super::super::{print, print_json, table};
use crate::Result;
use crate::data::shd;
use serde::Serialize;
use std::collections::BTreeSet;

/// Counts of a set of spike trains.
#[derive(Serialize)]
struct TrainsStats {
    format: &'static str,
    samples: usize,
    /// Distinct labels, and the least and the largest.
    classes: usize,
    labels: Option<[u32; 2]>,
    /// The largest unit and one.
    units: u32,
    spikes: u64,
    /// Seconds until the last spike of the shortest and of the longest sample.
    shortest: f64,
    longest: f64,
    mean_spikes: f64,
    warnings: Vec<String>,
}

/// Says what a set of spike trains holds.
pub(super) fn show((found, damage): shd::Found, json: bool) -> Result<()> {
    let ends = || found.trains.iter().map(|t| t.times.iter().copied().fold(0.0, f32::max));
    let classes: BTreeSet<u32> = found.labels.iter().copied().collect();
    let spikes = found.trains.iter().map(|t| t.times.len() as u64).sum();
    let samples = found.trains.len();
    let s = TrainsStats {
        format: "hdf5 spike trains",
        samples,
        classes: classes.len(),
        labels: classes.first().zip(classes.last()).map(|(a, b)| [*a, *b]),
        units: found.trains.iter().flat_map(|t| &t.units).max().map_or(0, |&u| u32::from(u) + 1),
        spikes,
        shortest: ends().reduce(f32::min).unwrap_or(0.0).into(),
        longest: ends().reduce(f32::max).unwrap_or(0.0).into(),
        mean_spikes: spikes as f64 / samples.max(1) as f64,
        warnings: damage.iter().map(|e| format!("{e}; the {samples} samples before it are used")).collect(),
    };
    if json {
        return print_json(&s);
    }
    let labels = s.labels.map_or(String::new(), |[a, b]| format!(" (labels {a} to {b})"));
    let mut rows = vec![
        ("format", s.format.to_string()),
        ("samples", s.samples.to_string()),
        ("classes", format!("{}{labels}", s.classes)),
        ("units", s.units.to_string()),
        ("spikes", format!("{} ({:.1} a sample)", s.spikes, s.mean_spikes)),
        ("durations", format!("{:.3} s to {:.3} s, until the last spike", s.shortest, s.longest)),
    ];
    rows.extend(s.warnings.into_iter().map(|w| ("warning", w)));
    let rows: Vec<_> = rows.into_iter().map(|(k, v)| vec![k.to_string(), v]).collect();
    print(&table(&rows, &[]))
}
