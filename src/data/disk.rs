//! Samples on disk, so that the next run need not decode and encode them again.
//!
//! An entry is one file, `<two digits>/<the others>` of the BLAKE3 hash of what the sample is made from ([`Source`](super::Source)), every
//! setting and [`VERSION`]. The file that the sample is read from counts by the hash of its content: nothing stale is ever found, and data
//! that are moved or copied are found again. It is read for that once a run, which costs little beside decoding it. Entries are written whole or not at all ([`write_unsynced`]), by any number of
//! processes at once: the last one wins, with the same content. In front of the content stands its hash; an entry that does not agree
//! with it is made anew. Trouble with the cache is a warning, never an error: samples can be had without it.

use super::cache::{Compact, Kept, Packed};
use crate::Result;
use crate::files::{make_folder, write_unsynced};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// To be raised when a decoder, an encoding or the layout of entries makes something else of the same key.
const VERSION: u32 = 2;

/// A cache folder.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    /// What the files looked at so far hold.
    contents: Mutex<HashMap<PathBuf, Content>>,
    found: AtomicUsize,
    written: AtomicUsize,
    /// Set when an entry could not be written: then no more are.
    full: AtomicBool,
}

/// The hash of a file's content, once somebody has made it; none of a file that cannot be read.
type Content = Arc<OnceLock<Option<blake3::Hash>>>;

/// What an entry is found by.
#[derive(Debug)]
pub(super) struct Key {
    path: PathBuf,
    /// The file the sample is made from, and its content when the key was made.
    file: Option<(PathBuf, blake3::Hash)>,
}

/// What stands between the hash and the content, as JSON behind its length.
#[derive(Serialize, Deserialize)]
struct Head {
    holds: Holds,
    /// What was said when the sample was made.
    warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Holds {
    U8,
    U16,
    F32,
    /// Packed events, and the time of the first.
    Events(i64),
}

impl Disk {
    pub fn new(dir: PathBuf) -> Self {
        let [found, written] = [0; 2].map(AtomicUsize::new);
        Disk { dir, contents: Mutex::default(), found, written, full: AtomicBool::new(false) }
    }
    /// The key of what is made of `file`, if of any, with `settings`; none of a file that cannot be read.
    pub fn key(&self, file: Option<PathBuf>, settings: &str) -> Option<Key> {
        let file = match file {
            Some(path) => Some((path.clone(), self.content(path)?)),
            None => None,
        };
        // How a file is read may depend on its extension too.
        let file_key = file.as_ref().map(|(path, hash)| format!("{hash} {:?}", path.extension()));
        let text = format!("spikemix {} {VERSION} {file_key:?} {settings}", env!("CARGO_PKG_VERSION"));
        let name = blake3::hash(text.as_bytes()).to_hex();
        let (folder, entry) = name.split_at(2);
        Some(Key { path: self.dir.join(folder).join(entry), file })
    }
    /// What the file held when it was first asked for: however many samples and epochs there are, it is read once.
    fn content(&self, path: PathBuf) -> Option<blake3::Hash> {
        let mut all = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let content = all.entry(path.clone()).or_default().clone();
        drop(all);
        *content.get_or_init(|| hashed(&path))
    }
    /// The entry, if there is a sound one, with the warnings of when it was made; and what was wrong with it.
    pub fn read(&self, key: &Key) -> (Option<(Kept, Vec<String>)>, Option<String>) {
        let path = &key.path;
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            // Where the cache is no folder, writing says so.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return (None, None),
            Err(e) => return (None, Some(format!("cache: {}: {e}", path.display()))),
        };
        match unpack(&bytes) {
            Some(entry) => {
                self.found.fetch_add(1, Ordering::Relaxed);
                (Some(entry), None)
            }
            None => (None, Some(format!("cache: {} is damaged, and made anew", path.display()))),
        }
    }
    /// Writes an entry; returns what went wrong. After that no more are written.
    pub fn write(&self, key: &Key, kept: &Kept, warnings: &[String]) -> Option<String> {
        if self.full.load(Ordering::Relaxed) {
            return None;
        }
        // What was made of a file that changed since it was looked at is not what the key says.
        if key.file.as_ref().is_some_and(|(path, hash)| hashed(path) != Some(*hash)) {
            return None;
        }
        let write = || -> Result<()> {
            let folder = crate::files::folder_of(&key.path);
            make_folder(folder)?;
            write_unsynced(&key.path, &pack(kept, warnings)?)
        };
        match write() {
            Ok(()) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                None
            }
            // Of several threads one says so.
            Err(e) => (!self.full.swap(true, Ordering::Relaxed)).then(|| format!("cache: {e}; no more samples are kept there")),
        }
    }
    /// What was found and added so far, and the size of all entries.
    pub fn report(&self) -> String {
        let (mut entries, mut bytes) = (0u64, 0u64);
        for file in files(&self.dir).iter().flat_map(|folder| files(folder)) {
            entries += 1;
            bytes += std::fs::metadata(&file).map_or(0, |m| m.len());
        }
        let [found, written] = [&self.found, &self.written].map(|n| n.load(Ordering::Relaxed));
        let (dir, mib) = (self.dir.display(), bytes as f64 / 1_048_576.0);
        format!("cache: {found} samples found in {dir}, {written} added; it holds {entries} in {mib:.1} MiB")
    }
}

/// The hash of what a file holds.
fn hashed(path: &Path) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).ok()?).ok()?;
    Some(hasher.finalize())
}

/// What lies in a folder; nothing where it cannot be listed.
fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

fn pack(kept: &Kept, warnings: &[String]) -> Result<Vec<u8>> {
    // Numbers stand in this machine's own order of bytes.
    let (holds, content): (_, &[u8]) = match kept {
        Kept::Array(Compact::U8(v)) => (Holds::U8, v),
        Kept::Array(Compact::U16(v)) => (Holds::U16, bytemuck::cast_slice(v)),
        Kept::Array(Compact::F32(v)) => (Holds::F32, bytemuck::cast_slice(v)),
        Kept::Events(e) => (Holds::Events(e.t0), bytemuck::cast_slice(&e.events)),
    };
    let head = serde_json::to_vec(&Head { holds, warnings: warnings.to_vec() })
        .map_err(|e| crate::Error::shape("cache", e.to_string()))?;
    let mut body = (head.len() as u32).to_le_bytes().to_vec();
    body.extend(head);
    body.extend(lz4_flex::block::compress_prepend_size(content));
    Ok([blake3::hash(&body).as_bytes(), &body[..]].concat())
}

fn unpack(bytes: &[u8]) -> Option<(Kept, Vec<String>)> {
    let (hash, body) = bytes.split_first_chunk::<32>()?;
    if blake3::hash(body) != blake3::Hash::from_bytes(*hash) {
        return None;
    }
    let (n, rest) = body.split_first_chunk::<4>()?;
    let (head, content) = rest.split_at_checked(u32::from_le_bytes(*n) as usize)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let content = lz4_flex::block::decompress_size_prepended(content).ok()?;
    let kept = match head.holds {
        Holds::U8 => Kept::Array(Compact::U8(content.into())),
        Holds::U16 => Kept::Array(Compact::U16(bytemuck::pod_collect_to_vec(&content).into())),
        Holds::F32 => Kept::Array(Compact::F32(bytemuck::pod_collect_to_vec(&content).into())),
        Holds::Events(t0) => Kept::Events(Packed { t0, events: bytemuck::pod_collect_to_vec(&content).into() }),
    };
    Some((kept, head.warnings))
}

#[cfg(test)]
mod tests {
    use super::super::{Augment, DatasetSpec, Split, Splits, StillInput, open};
    use super::*;
    use crate::encode::{Crop, Kind, SplitBy};
    use crate::events::{Event, EventStream, Filter, Sensor, npz, save};
    use crate::rng::Rng;

    /// A folder of two classes with ten recordings each, and a recipe's table for it with a cache.
    fn data() -> (tempfile::TempDir, DatasetSpec) {
        let dir = tempfile::tempdir().unwrap();
        for k in 0..20 {
            let class = if k < 10 { "a" } else { "b" };
            write(&dir.path().join("data").join(class).join(format!("{}.npz", k % 10)), k);
        }
        let spec = DatasetSpec {
            dir: Some(dir.path().join("data")),
            cache: Some(dir.path().join("cache")),
            sensor: Some([8, 8]),
            frames: 3,
            validation: 0.3,
            cache_mib: 0,
            ..DatasetSpec::new("folder")
        };
        (dir, spec)
    }
    fn write(path: &Path, seed: u64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut r = Rng::new(seed);
        let mut t = 0;
        let event = |_| {
            t += r.below(100) as i64;
            Event { t, x: r.below(8) as u16, y: r.below(8) as u16, p: r.below(2) == 1 }
        };
        save(path, &EventStream::new((0..200).map(event).collect(), Sensor::new(8, 8)), &npz::FORMAT).unwrap();
    }
    /// All samples, and what the cache did.
    fn all(spec: &DatasetSpec) -> (Vec<Vec<f32>>, [usize; 2], Vec<String>) {
        let s = Splits::open(spec, 0).unwrap();
        let parts = [&s.train, &s.validation, &s.test];
        let x = parts.iter().flat_map(|p| (0..p.len()).map(|i| p.sample(i, 4).unwrap().x)).collect();
        let disk = s.disk.as_ref().unwrap();
        (x, [&disk.found, &disk.written].map(|n| n.load(Ordering::Relaxed)), s.warnings())
    }

    #[test]
    fn samples_are_found_again_and_settings_are_told_apart() {
        let (dir, spec) = data();
        let (want, counts, _) = all(&spec);
        assert_eq!((want.len(), counts), (20, [0, 20]));
        assert_eq!(all(&spec), (want.clone(), [20, 0], vec![]));
        assert_eq!(all(&DatasetSpec { cache_mib: 100, ..spec.clone() }), (want.clone(), [20, 0], vec![]));
        // Each of these makes other arrays of the same files. Augmented training samples are kept as events.
        let others = [
            DatasetSpec { frames: 4, ..spec.clone() },
            DatasetSpec { split_by: SplitBy::Time, ..spec.clone() },
            DatasetSpec { encoding: Kind::Raster, ..spec.clone() },
            DatasetSpec { encoding: Kind::Surface, ..spec.clone() },
            DatasetSpec { encoding: Kind::Surface, tau_us: Some(9), ..spec.clone() },
            DatasetSpec { duration_us: Some(500), ..spec.clone() },
            DatasetSpec { duration_us: Some(500), max_steps: Some(2), ..spec.clone() },
            DatasetSpec { size: Some([4, 4]), ..spec.clone() },
            DatasetSpec { crop: Some(Crop::Centre([4, 4])), ..spec.clone() },
            DatasetSpec { sensor: Some([9, 8]), ..spec.clone() },
            DatasetSpec { filter: Filter { refractory_us: 900, ..Filter::default() }, ..spec.clone() },
        ];
        for other in others {
            let fresh = DatasetSpec { cache: Some(dir.path().join("other")), ..other.clone() };
            let (x, counts, warnings) = all(&other);
            assert_eq!(counts, [0, 20], "{other:?}");
            assert_eq!((x, warnings), {
                let (x, _, w) = all(&fresh);
                (x, w)
            });
            // What was said when samples were made is said again.
            let again = all(&other);
            assert_eq!((again.1, again.2.len()), ([20, 0], if other.max_steps.is_some() { 20 } else { 0 }));
        }
        let augmented = DatasetSpec { augment: Augment { translate: 2, ..Augment::default() }, ..spec.clone() };
        let (x, counts, _) = all(&augmented);
        assert!(counts[0] > 0 && counts[1] > 0 && counts[0] + counts[1] == 20 && x != want);
        assert_eq!(all(&augmented), (x.clone(), [20, 0], vec![]));
        let filtered = DatasetSpec { filter: Filter { start_us: 500, ..Filter::default() }, ..augmented };
        let (y, counts, _) = all(&filtered);
        assert_eq!((counts, x == y), ([0, 20], false));
        // A file that is written again is another file.
        write(&dir.path().join("data/a/3.npz"), 77);
        let (x, counts, _) = all(&spec);
        assert_eq!((counts, x == want), ([19, 1], false));
        let report = Splits::open(&spec, 0).unwrap().cache().unwrap();
        assert!(report.contains("0 samples found in") && report.contains(" MiB"), "{report}");
    }

    /// The content of a file counts, not where it lies nor when it was written.
    #[test]
    fn contents_are_told_apart_and_found_anywhere() {
        let (dir, spec) = data();
        let (want, ..) = all(&spec);
        let at = |name: &str| dir.path().join(name);
        std::fs::rename(at("data"), at("moved")).unwrap();
        let moved = DatasetSpec { dir: Some(at("moved")), ..spec.clone() };
        assert_eq!(all(&moved), (want.clone(), [20, 0], vec![]));
        // Another recording in its place, of the same size and time.
        let path = at("moved/b/7.npz");
        let (mut bytes, time) = (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap());
        let sound = bytes.clone();
        let made = |seed: u64| {
            write(&at("other.npz"), seed);
            std::fs::read(at("other.npz")).unwrap()
        };
        let other = (99..).map(made).find(|b| b.len() == bytes.len()).unwrap();
        let rewritten = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        rewritten(&other);
        let (x, counts, _) = all(&moved);
        assert_eq!((counts, x == want), ([19, 1], false));
        // What is said of a damaged file names the place where it lies now.
        bytes.truncate(bytes.len() - 40);
        rewritten(&bytes);
        let (_, counts, warnings) = all(&moved);
        assert_eq!((counts, warnings.len()), ([19, 1], 1), "{warnings:?}");
        std::fs::rename(at("moved"), at("data")).unwrap();
        let (_, counts, again) = all(&spec);
        assert_eq!((counts, again.len()), ([20, 0], 1));
        assert!(again[0].contains("/data/b/7.npz: ") && warnings[0].contains("/moved/b/7.npz: "), "{again:?}");
        // The extension may decide how the bytes are read.
        std::fs::write(at("data/b/7.npz"), sound).unwrap();
        std::fs::rename(at("data/b/7.npz"), at("data/b/7.npy")).unwrap();
        assert_eq!(all(&spec), (want, [19, 1], vec![]));
    }

    /// A file is read for its key once, and what is made of it after it changed is kept under no key.
    #[test]
    fn a_file_that_changes_during_a_run_leaves_no_entry() {
        let (dir, spec) = data();
        let path = dir.path().join("data/a/3.npz");
        let disk = Disk::new(dir.path().join("cache"));
        let key = disk.key(Some(path.clone()), "s").unwrap();
        let kept = Kept::Array(Compact::of(vec![1.0]));
        write(&path, 77);
        assert_eq!(disk.key(Some(path.clone()), "s").unwrap().path, key.path);
        assert_eq!(disk.write(&key, &kept, &[]), None);
        assert!(disk.read(&key).0.is_none());
        write(&path, 3);
        assert_eq!(disk.write(&key, &kept, &[]), None);
        assert!(disk.read(&key).0.is_some());
        assert_ne!(disk.key(Some(path), "t").unwrap().path, key.path);
        assert!(disk.key(Some(dir.path().join("none")), "s").is_none());
        assert!(disk.key(None, "s").is_some() && spec.cache.is_some());
    }

    /// Pictures are kept as recordings are, before they are augmented.
    #[test]
    fn pictures_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        for (c, class) in ["a", "b"].into_iter().enumerate() {
            std::fs::create_dir_all(dir.path().join("data").join(class)).unwrap();
            for k in 0..10 {
                let picture =
                    image::RgbImage::from_fn(6, 6, |x, y| image::Rgb([(20 * x) as u8, 40 * y as u8, (10 * c + k) as u8]));
                picture.save(dir.path().join("data").join(class).join(format!("{k}.png"))).unwrap();
            }
        }
        let at = |name: &str| Some(dir.path().join(name));
        let spec = DatasetSpec {
            dir: at("data"),
            cache: at("cache"),
            validation: 0.3,
            cache_mib: 0,
            ..DatasetSpec::new("image_folder")
        };
        let (want, counts, _) = all(&spec);
        assert_eq!((want.len(), counts), (20, [0, 20]));
        assert_eq!(all(&spec), (want.clone(), [20, 0], vec![]));
        let rate = DatasetSpec { input: StillInput::Rate, ..spec.clone() };
        for other in [
            DatasetSpec { frames: 3, ..spec.clone() },
            DatasetSpec { size: Some([4, 4]), ..spec.clone() },
            rate.clone(),
            DatasetSpec { split_seed: 1, ..rate },
        ] {
            let (x, counts, _) = all(&other);
            assert_eq!((counts, x == want), ([0, 20], false), "{other:?}");
            assert_eq!(all(&other), (x, [20, 0], vec![]));
        }
        let flipped = DatasetSpec { augment: Augment { flip: 1.0, ..Augment::default() }, ..spec };
        let (x, counts, _) = all(&flipped);
        assert_eq!((counts, x == want), ([20, 0], false));
    }

    #[test]
    fn damaged_entries_are_made_anew() {
        let (_dir, spec) = data();
        let (want, ..) = all(&spec);
        let entries: Vec<_> = files(spec.cache.as_deref().unwrap()).iter().flat_map(|f| files(f)).collect();
        assert_eq!(entries.len(), 20);
        for (i, entry) in entries.iter().take(5).enumerate() {
            let mut bytes = std::fs::read(entry).unwrap();
            match i {
                0 => bytes.truncate(40),
                1 => bytes.clear(),
                2 => bytes[3] ^= 1,
                3 => *bytes.last_mut().unwrap() ^= 128,
                _ => bytes.push(0),
            }
            std::fs::write(entry, bytes).unwrap();
        }
        let (x, counts, warnings) = all(&spec);
        assert_eq!((x, counts, warnings.len()), (want.clone(), [15, 5], 5));
        assert!(warnings.iter().all(|w| w.starts_with("cache: ") && w.ends_with("is damaged, and made anew")), "{warnings:?}");
        assert_eq!(all(&spec), (want, [20, 0], vec![]));
    }

    #[test]
    fn writers_at_once_leave_sound_entries() {
        let (_dir, spec) = data();
        let (want, ..) = all(&DatasetSpec { cache: Some(spec.cache.clone().unwrap().join("apart")), ..spec.clone() });
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| all(&spec))).collect();
            for run in runs {
                let (x, counts, warnings) = run.join().unwrap();
                assert_eq!((x == want, counts[0] + counts[1], warnings), (true, 20, vec![]));
            }
        });
        assert_eq!(all(&spec).1, [20, 0]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_a_warning() {
        let (dir, spec) = data();
        std::fs::write(dir.path().join("cache"), "a file").unwrap();
        let (x, counts, warnings) = all(&spec);
        assert_eq!((x.len(), counts), (20, [0, 0]));
        assert!(warnings.len() == 1 && warnings[0].ends_with("no more samples are kept there"), "{warnings:?}");
    }

    #[test]
    fn entries_are_exact() {
        for kept in [
            Kept::Array(Compact::of(vec![0.0, 3.0])),
            Kept::Array(Compact::of(vec![0.0, 300.0])),
            Kept::Array(Compact::of(vec![0.5; 1000])),
            Kept::Array(Compact::of(vec![])),
            Kept::Events(Packed::of(&[Event { t: -4, x: 1, y: 2, p: true }]).unwrap()),
        ] {
            let bytes = pack(&kept, &["w".into()]).unwrap();
            let (back, warnings) = unpack(&bytes).unwrap();
            assert_eq!((format!("{back:?}"), warnings), (format!("{kept:?}"), vec!["w".to_string()]));
        }
    }

    #[test]
    fn sources_name_what_can_change() {
        let (_dir, spec) = data();
        let source = |spec: &DatasetSpec| open(spec, Split::Train).unwrap().source(0).unwrap();
        assert_ne!(source(&spec), source(&DatasetSpec { strict: true, ..spec.clone() }));
        let mut made = DatasetSpec::new("gestures");
        let before = source(&made);
        made.gestures.seed = 1;
        assert_ne!(before, source(&made));
    }
}
