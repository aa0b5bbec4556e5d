//! DVS128 Gesture: `user<n>_<light>.aedat` (AEDAT 3.1) with `user<n>_<light>_labels.csv`, cut to gestures; or a folder of
//! recordings that are cut already, `train/<class>/*` and `test/<class>/*`.
//!
//! A row of the label file is a class (1 to 11) and the microseconds at which the gesture begins and before which it ends.
//! Users are split by `trials_to_train.txt` and `trials_to_test.txt` where these are there, else at user 23.

use super::files::{listed, name_of, parted, subfolder};
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Source, Split};
use crate::events::aedat3::Aedat3Decoder;
use crate::events::{EventStream, Parts, Sensor};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "dvs128_gesture", manifest: include_str!("../../datasets/dvs128_gesture.toml"), open };

/// The last user whose recordings are for training.
const LAST_TRAINING_USER: u32 = 23;

/// A gesture within a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gesture {
    /// The class, from 0.
    pub label: u32,
    /// When it begins, microseconds.
    pub begin: i64,
    /// The first microsecond behind it.
    pub end: i64,
}

/// Reads a label file: `class,startTime_usec,endTime_usec`, then a row for each gesture.
///
/// # Errors
/// A file that cannot be read, or a row that is none.
pub fn labels(path: &Path) -> Result<Vec<Gesture>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let mut at = 0;
    let mut out = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        let row = line.trim();
        let numbers: Vec<i64> = row.split(',').filter_map(|f| f.trim().parse().ok()).collect();
        match numbers[..] {
            [class @ 1..=11, begin, end] if begin <= end => out.push(Gesture { label: class as u32 - 1, begin, end }),
            _ if i == 0 || row.is_empty() => {}
            _ => {
                let what = format!("row {}, `{row}`, is no class and two times", i + 1);
                return Err(Error::format(path, at, what));
            }
        }
        at += line.len() as u64 + 1;
    }
    Ok(out)
}

/// A recording that parts are read of.
type Cuttable = Arc<Parts<Aedat3Decoder>>;

/// Gestures cut out of recordings when they are asked for, in any order: a recording is decoded whole once, after that only
/// what a gesture needs of it.
struct Gestures {
    name: String,
    classes: Vec<String>,
    sensor: Sensor,
    strict: bool,
    recordings: Vec<(PathBuf, Mutex<Option<Cuttable>>)>,
    /// Of those that the list of trials names.
    missing: Vec<String>,
    /// Each with the number of its recording.
    gestures: Vec<(usize, Gesture)>,
}

/// The user's number in `user12_led.aedat`.
fn user(name: &str) -> Option<u32> {
    let digits: String = name.strip_prefix("user")?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let raw = subfolder(&dir, "DvsGesture").unwrap_or_else(|| dir.clone());
    let files = listed(&raw)?;
    let recordings: Vec<&PathBuf> = files.iter().filter(|f| name_of(f).ends_with(".aedat")).collect();
    if recordings.is_empty() {
        let parts = [subfolder(&dir, "train"), subfolder(&dir, "test")];
        return parted(spec, manifest, parts, part, None);
    }
    let list = raw.join(format!("trials_to_{}.txt", part.name()));
    let listed_here = match std::fs::read_to_string(&list) {
        Ok(text) => Some(text.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>()),
        Err(_) => None,
    };
    let (mut used, mut gestures) = (Vec::new(), Vec::new());
    for path in recordings {
        let name = name_of(path);
        let here = match (&listed_here, user(&name)) {
            (Some(list), _) => list.contains(&name),
            (None, Some(user)) => (user <= LAST_TRAINING_USER) == (part == Split::Train),
            (None, None) => false,
        };
        if here {
            let csv = path.with_file_name(name.replace(".aedat", "_labels.csv"));
            gestures.extend(labels(&csv)?.into_iter().map(|g| (used.len(), g)));
            used.push((path.clone(), Mutex::default()));
        }
    }
    if gestures.is_empty() {
        let what = format!("no gestures for the {} part; expected {}", part.name(), manifest.tree);
        return Err(Error::config(raw.display().to_string(), what));
    }
    let there = |name: &String| files.iter().any(|f| name_of(f) == *name);
    let missing = listed_here.into_iter().flatten().filter(|n| !n.is_empty() && !there(n)).collect();
    let [width, height] = manifest.sensor.unwrap_or_default();
    Ok(Box::new(Gestures {
        missing,
        name: manifest.name.clone(),
        classes: manifest.classes.clone(),
        sensor: Sensor::new(width, height),
        strict: spec.strict,
        recordings: used,
        gestures,
    }))
}

impl Gestures {
    fn recording(&self, i: usize) -> Result<Cuttable> {
        let (path, parts) = &self.recordings[i];
        // Whoever else wants this recording waits for it instead of decoding it too.
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match &*parts {
            Some(p) => p.clone(),
            None => parts.insert(Arc::new(Parts::open(path, self.strict)?)).clone(),
        })
    }
}

impl Dataset for Gestures {
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
        self.gestures.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.gestures[i].1.label
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let (recording, g) = &self.gestures[i];
        let parts = self.recording(*recording)?;
        let mut events = parts.read(g.begin, g.end)?;
        events.retain(|e| self.sensor.holds(e));
        let mut stream = EventStream::new(events, self.sensor);
        stream.warnings.clone_from(&parts.warnings);
        stream.damage.clone_from(&parts.damage);
        Ok(Recording::Events(stream))
    }
    fn describe(&self, i: usize) -> String {
        let (recording, g) = &self.gestures[i];
        let path = &self.recordings[*recording].0;
        format!("{}, {} to {} us", path.display(), g.begin, g.end)
    }
    fn source(&self, i: usize) -> Option<Source> {
        let (recording, g) = &self.gestures[i];
        let file = Some(self.recordings[*recording].0.clone());
        Some(Source { file, settings: format!("strict {}, {} to {} us", self.strict, g.begin, g.end) })
    }
    fn warnings(&self) -> Vec<String> {
        let more = if self.missing.len() > 1 { format!(" (and {} more)", self.missing.len() - 1) } else { String::new() };
        self.missing.first().map(|m| format!("{m}{more} is in the list of trials and not in the folder")).into_iter().collect()
    }
    /// Left and right arms and turns of direction are classes of their own.
    fn mirrors(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;
    use crate::events::{Event, aedat3, save};

    #[test]
    fn gestures_are_cut_and_users_split() {
        let dir = tempfile::tempdir().unwrap();
        let events = (0..100).map(|i| Event { t: i * 10, x: i as u16, y: 3, p: true });
        let stream = EventStream::new(events.collect(), Sensor::new(128, 128));
        for user in ["user03_led", "user24_lab"] {
            save(dir.path().join(format!("{user}.aedat")), &stream, &aedat3::FORMAT).unwrap();
            let rows = "class,startTime_usec,endTime_usec\n1,100,200\n11,500,530\n";
            std::fs::write(dir.path().join(format!("{user}_labels.csv")), rows).unwrap();
        }
        let mut spec = DatasetSpec { dir: Some(dir.path().into()), ..DatasetSpec::new("dvs128_gesture") };
        for part in [Split::Train, Split::Test] {
            let d = open(&spec, part).unwrap();
            assert_eq!(d.labels(), [0, 10]);
            let Recording::Events(e) = d.load(0).unwrap() else { panic!() };
            assert_eq!((e.events.len(), e.events[0].t), (10, 100));
            assert!(d.describe(1).contains("500 to 530"));
        }
        spec.augment.flip = 0.5;
        assert!(open(&spec, Split::Train).is_err());
        std::fs::write(dir.path().join("user24_lab_labels.csv"), "class\n12,1,2\n").unwrap();
        spec.augment.flip = 0.0;
        let said = open(&spec, Split::Test).err().unwrap().to_string();
        assert!(said.contains("row 2, `12,1,2`") && said.contains("byte 6"), "{said}");
        std::fs::write(dir.path().join("trials_to_train.txt"), "user03_led.aedat\nuser25_lab.aedat\nuser26_lab.aedat\n").unwrap();
        let said = open(&spec, Split::Train).unwrap().warnings();
        assert_eq!(said, ["user25_lab.aedat (and 1 more) is in the list of trials and not in the folder"]);
        std::fs::write(dir.path().join("trials_to_train.txt"), "user24_lab.aedat\n").unwrap();
        assert!(open(&spec, Split::Train).is_err());
    }
}
