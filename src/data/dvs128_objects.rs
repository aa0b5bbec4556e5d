//! Desk objects before a DVS128: `session_a/<Object>.aedat` to train on and `session_b/<Object>.aedat` to test on, each
//! recording cut into windows of 200 ms.

use super::files::{listed, name_of, subfolder};
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Split};
use crate::events::{self, EventStream, Sensor};
use crate::{Error, Result};
use std::path::PathBuf;

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "dvs128_objects", manifest: include_str!("../../datasets/dvs128_objects.toml"), open };

/// The length of a window, microseconds.
const WINDOW: i64 = 200_000;

/// Windows of recordings, held in memory.
struct Windows {
    name: String,
    classes: Vec<String>,
    sensor: Sensor,
    recordings: Vec<(PathBuf, EventStream)>,
    /// Recording, class, and the events of the window.
    windows: Vec<(usize, u32, std::ops::Range<usize>)>,
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let session = match part {
        Split::Train => "session_a",
        Split::Test => "session_b",
    };
    let missing = |what: &str| {
        let what = format!("{what}; expected {}", manifest.tree);
        Error::config(dir.display().to_string(), what)
    };
    let folder = subfolder(&dir, session).ok_or_else(|| missing(&format!("no folder {session}")))?;
    let files = listed(&folder)?;
    let [width, height] = manifest.sensor.unwrap_or_default();
    let mut out = Windows {
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        sensor: Sensor::new(width, height),
        recordings: Vec::new(),
        windows: Vec::new(),
    };
    for (label, class) in manifest.classes.iter().enumerate() {
        let file = files.iter().find(|f| name_of(f) == format!("{class}.aedat"));
        let file = file.ok_or_else(|| missing(&format!("no {session}/{class}.aedat")))?;
        let mut stream = events::open(file, spec.strict)?;
        stream.sort();
        stream.events.retain(|e| out.sensor.holds(e));
        let (first, last) = match (stream.events.first(), stream.events.last()) {
            (Some(a), Some(b)) => (a.t, b.t),
            _ => continue,
        };
        // Whole windows only.
        for w in 0..(last - first) / WINDOW {
            let at = |w: i64| stream.events.partition_point(|e| e.t < first + w * WINDOW);
            let range = at(w)..at(w + 1);
            out.windows.push((out.recordings.len(), label as u32, range));
        }
        out.recordings.push((file.clone(), stream));
    }
    Ok(Box::new(out))
}

impl Dataset for Windows {
    fn name(&self) -> &str {
        &self.name
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sensor(&self) -> Sensor {
        self.sensor
    }
    fn len(&self) -> usize {
        self.windows.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.windows[i].1
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let (recording, _, range) = &self.windows[i];
        let events = self.recordings[*recording].1.events[range.clone()].to_vec();
        Ok(Recording::Events(EventStream::new(events, self.sensor)))
    }
    fn describe(&self, i: usize) -> String {
        let (recording, _, range) = &self.windows[i];
        let path = self.recordings[*recording].0.display();
        format!("{path}, events {} to {}", range.start, range.end)
    }
}
