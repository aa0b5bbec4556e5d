//! Datasets whose samples are event files.

use super::{Dataset, DatasetSpec, Manifest, Recording, Source, Split, Subset, split};
use crate::events::{self, EventStream, FORMATS, Sensor};
use crate::rng::Rng;
use crate::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Labelled event files of one sensor.
pub struct Files {
    /// The dataset's name.
    pub name: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The sensor.
    pub sensor: Sensor,
    /// Files and labels.
    pub files: Vec<(PathBuf, u32)>,
    /// Whether a damaged file is an error.
    pub strict: bool,
    /// What is done to each recording: where a camera's axes are not those of its pictures.
    pub turn: Option<fn(&mut EventStream)>,
    /// [`Dataset::faults`].
    pub faults: Vec<[String; 2]>,
}

impl Dataset for Files {
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
        self.files.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.files[i].1
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let path = &self.files[i].0;
        let mut stream = events::open(path, self.strict)?;
        if let Some(turn) = self.turn {
            turn(&mut stream);
        }
        on_sensor(&mut stream, self.sensor, path, self.strict)?;
        Ok(Recording::Events(stream))
    }
    fn describe(&self, i: usize) -> String {
        self.files[i].0.display().to_string()
    }
    fn faults(&self) -> Vec<[String; 2]> {
        self.faults.clone()
    }
    fn source(&self, i: usize) -> Option<Source> {
        Some(Source { file: Some(self.files[i].0.clone()), settings: format!("strict {}", self.strict) })
    }
}

/// Events beyond the dataset's sensor are left out with a warning, or refused; a file of such events is of something else.
fn on_sensor(stream: &mut EventStream, sensor: Sensor, path: &Path, strict: bool) -> Result<()> {
    let n = stream.events.len();
    let outside = stream.events.iter().filter(|e| !sensor.holds(e)).count();
    if outside > 0 {
        let what = format!("{outside} of {n} events lie outside the dataset's sensor of {sensor}");
        if strict || outside * 2 > n {
            return Err(Error::format(path, 0, what));
        }
        stream.events.retain(|e| sensor.holds(e));
        stream.warnings.push(what);
    }
    stream.sensor = sensor;
    Ok(())
}

/// The class folders of `dir` with their event files: classes in order (of number where all names are numbers), files in
/// order of name, hidden ones and those without an event file's extension left out.
///
/// # Errors
/// A folder that cannot be listed.
pub fn class_folders(dir: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    folders_with(dir, named_like_events)
}

/// As [`class_folders`], with the files that `wanted` wants.
fn folders_with(dir: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let mut classes = Vec::new();
    for path in listed(dir)? {
        if path.is_dir() {
            let files = listed(&path)?.into_iter().filter(|p| wanted(p) && p.is_file()).collect();
            classes.push((name_of(&path), files));
        }
    }
    if classes.iter().all(|(name, _)| name.parse::<u64>().is_ok()) {
        classes.sort_by_key(|(name, _)| name.parse::<u64>().unwrap_or(0));
    }
    Ok(classes)
}

/// One part of a folder of class folders; see [`layout`].
pub(super) struct Layout {
    /// The classes, of both parts: those of the training files.
    pub classes: Vec<String>,
    /// The part's files and their labels.
    pub files: Vec<(PathBuf, u32)>,
    /// The training files, at least one; all others have the shape of the first.
    pub training: Vec<PathBuf>,
    /// [`Dataset::faults`].
    pub faults: Vec<[String; 2]>,
}

/// The files that `wanted` wants (`what` says what they are) in `DIR/train/<class>/*` and `DIR/test/<class>/*`, or in `DIR/<class>/*`
/// alone, of which `test_fraction` of each class becomes the test set.
pub(super) fn layout(spec: &DatasetSpec, dir: &Path, part: Split, wanted: fn(&Path) -> bool, what: &str) -> Result<Layout> {
    let parts = (subfolder(dir, "train"), subfolder(dir, "test"));
    let (train, test) = match &parts {
        (Some(train), Some(test)) => (train.as_path(), Some(test.as_path())),
        _ => (dir, None),
    };
    let folders = folders_with(train, wanted)?;
    let classes: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
    let (files, mut faults) = labelled(train, folders, &classes, what)?;
    let training = files.iter().map(|f| f.0.clone()).collect();
    let files = match (part, test) {
        (Split::Train, Some(_)) => files,
        (Split::Test, Some(test)) => {
            let (files, more) = labelled(test, folders_with(test, wanted)?, &classes, what)?;
            faults.extend(more);
            files
        }
        (_, None) => {
            let labels: Vec<u32> = files.iter().map(|f| f.1).collect();
            let (stay, taken) = split::stratified(&labels, spec.test_fraction, &Rng::new(spec.split_seed).stream("test"));
            let chosen = if part == Split::Train { stay } else { taken };
            chosen.into_iter().map(|i| files[i].clone()).collect()
        }
    };
    Ok(Layout { classes, files, training, faults })
}

/// What the first of the files that can be read says of all of them; that one before it cannot be read is a fault of the layout.
///
/// # Errors
/// None of the first twenty can be read.
pub(super) fn first<T>(found: &mut Layout, read: impl Fn(&Path) -> Result<T>) -> Result<T> {
    const ASKED: usize = 20;
    let mut wrong: Option<(String, Error)> = None;
    for path in found.training.iter().take(ASKED) {
        match read(path) {
            Ok(first) => {
                if let Some((place, e)) = wrong {
                    let what = e.to_string();
                    let what = what.strip_prefix(&format!("{place}: ")).unwrap_or(&what).to_owned();
                    found.faults.push([place, what]);
                }
                return Ok(first);
            }
            Err(e) => _ = wrong.get_or_insert((path.display().to_string(), e)),
        }
    }
    Err(wrong.map_or_else(|| Error::config("data.dir", "no file"), |(_, e)| e))
}

/// A dataset of class folders in two folders, one for each part; the classes are the manifest's, else those of the
/// training folder.
pub(super) fn parted(
    spec: &DatasetSpec,
    manifest: &Manifest,
    parts: [Option<PathBuf>; 2],
    part: Split,
    turn: Option<fn(&mut EventStream)>,
) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let [Some(train), Some(test)] = parts else {
        let what = format!("not laid out as {} is: expected {}", manifest.title, manifest.tree);
        return Err(Error::config(dir.display().to_string(), what));
    };
    let here = if part == Split::Train { &train } else { &test };
    let classes = match manifest.classes.is_empty() {
        false => manifest.classes.clone(),
        true => class_folders(&train)?.into_iter().map(|c| c.0).collect(),
    };
    let labelled = labelled(here, class_folders(here)?, &classes, "event files")?;
    Ok(Box::new(of(spec, manifest, classes, labelled, turn)))
}

/// A dataset of class folders without an official split. `first90` takes the first nine tenths of each class for training,
/// `last90` the last (by the numbers in the names); else `data.test_fraction` of each class is drawn for the test.
pub(super) fn whole(
    spec: &DatasetSpec,
    manifest: &Manifest,
    dir: &Path,
    part: Split,
    turn: Option<fn(&mut EventStream)>,
) -> Result<Box<dyn Dataset>> {
    let mut folders = class_folders(dir)?;
    for (_, files) in &mut folders {
        files.sort_by_cached_key(|f| (numbers_in(&name_of(f)), f.clone()));
    }
    folders.retain(|(_, files)| !files.is_empty());
    let classes = match manifest.classes.is_empty() {
        false => manifest.classes.clone(),
        true => folders.iter().map(|c| c.0.clone()).collect(),
    };
    let labelled = labelled(dir, folders, &classes, "event files")?;
    let all: Arc<dyn Dataset> = Arc::new(of(spec, manifest, classes, labelled, turn));
    let labels = all.labels();
    let (stay, taken) = if let Some(named @ ("first90" | "last90")) = spec.split.as_deref() {
        // Files of a class stand together.
        let runs = labels.chunk_by(|a, b| a == b);
        let train = |i: usize, n: usize| if named == "first90" { i * 10 < n * 9 } else { i * 10 >= n };
        let train: Vec<bool> = runs.flat_map(|run| (0..run.len()).map(|i| train(i, run.len()))).collect();
        (0..labels.len()).partition(|&i| train[i])
    } else {
        let rng = Rng::new(spec.split_seed).stream("test");
        let fraction = match spec.split.as_deref() {
            Some("random90") => 0.1,
            _ => spec.test_fraction,
        };
        split::stratified(&labels, fraction, &rng)
    };
    let chosen = if part == Split::Train { stay } else { taken };
    Ok(Box::new(Subset::new(all, chosen)))
}

/// The files of a dataset whose sensor the manifest says.
pub(super) fn of(
    spec: &DatasetSpec,
    manifest: &Manifest,
    classes: Vec<String>,
    (files, faults): Labelled,
    turn: Option<fn(&mut EventStream)>,
) -> Files {
    let [width, height] = spec.sensor.or(manifest.sensor).unwrap_or_default();
    Files { name: manifest.name.clone(), classes, sensor: Sensor::new(width, height), files, strict: spec.strict, turn, faults }
}

/// The numbers in a name, so that 10 follows 9.
fn numbers_in(name: &str) -> Vec<u64> {
    let digits = name.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|d| d.parse().ok()).collect()
}

/// Files and their labels, and the [faults](Dataset::faults) of their folders.
pub(super) type Labelled = (Vec<(PathBuf, u32)>, Vec<[String; 2]>);

/// Files of class folders with labels by the position of the folder's name in `classes`; `what` says what they are. A folder of another
/// name is a fault.
///
/// # Errors
/// No file at all.
pub(super) fn labelled(dir: &Path, folders: Vec<(String, Vec<PathBuf>)>, classes: &[String], what: &str) -> Result<Labelled> {
    let (mut out, mut faults) = (Vec::new(), Vec::new());
    for (name, files) in folders {
        let Some(label) = classes.iter().position(|c| *c == name) else {
            // A folder of other things beside those of the classes is of no matter.
            if !files.is_empty() {
                let known = classes.join(", ");
                faults.push([dir.display().to_string(), format!("folder `{name}` is none of the classes {known}")]);
            }
            continue;
        };
        out.extend(files.into_iter().map(|f| (f, label as u32)));
    }
    if out.is_empty() {
        return Err(Error::config(dir.display().to_string(), format!("no {what} in its class folders")));
    }
    Ok((out, faults))
}

/// The subfolder of that name, whatever its capitals.
pub(super) fn subfolder(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = listed(dir).ok()?;
    entries.into_iter().find(|p| p.is_dir() && name_of(p).eq_ignore_ascii_case(name))
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether the file's name, or of a text its content, is that of an event file.
pub(super) fn named_like_events(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let Some(extension) = extension else {
        return false;
    };
    // Texts lie about in many folders; those of events are told by their content.
    if events::text::FORMAT.extensions.contains(&extension.as_str()) {
        let mut head = Vec::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(4096).read_to_end(&mut head));
        return read.is_ok() && events::sniff(&head, Some(path)).is_some();
    }
    FORMATS.iter().any(|f| f.extensions.contains(&extension.as_str()))
}

/// What lies in `dir`, in order of name, without hidden files and what macOS puts into its archives.
pub(super) fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| Error::io(dir, e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if !name_of(&path).starts_with('.') && name_of(&path) != "__MACOSX" {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
