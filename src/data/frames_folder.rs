//! Frames that were made elsewhere: a folder per class with `.npz` files that hold an array `frames` `[T, C, H, W]`, as SpikingJelly's
//! `frames_number` and `frames_duration` folders do, in the layouts of [`folder`](super::folder). T is
//! that of the files, not `data.frames`.

use super::files::{first, layout};
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Source, Split};
use crate::encode::Encoding;
use crate::events::{Sensor, npy};
use crate::{Error, Result};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "frames_folder", manifest: include_str!("../../datasets/frames_folder.toml"), open };

const ARRAY: &str = "frames.npy";

struct FramesFolder {
    name: String,
    classes: Vec<String>,
    /// T, H, W, C.
    shape: [usize; 4],
    files: Vec<(PathBuf, u32)>,
    faults: Vec<[String; 2]>,
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let npz = |path: &Path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    let mut found = layout(spec, &spec.folder(manifest)?, part, npz, ".npz files")?;
    let (shape, _) = first(&mut found, read)?;
    Ok(Box::new(FramesFolder {
        name: manifest.name.clone(),
        classes: found.classes,
        shape,
        files: found.files,
        faults: found.faults,
    }))
}

/// Shape `[T, H, W, C]` and content of the file's frames.
fn read(path: &Path) -> Result<([usize; 4], Vec<f32>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let error = |what: String| Error::config(path.display().to_string(), what);
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).map_err(|e| error(e.to_string()))?;
    let mut entry = archive.by_name(ARRAY).map_err(|e| error(format!("{ARRAY}: {e}")))?;
    let mut array = Vec::new();
    // No more than deflate can make of it.
    let limit = entry.compressed_size().saturating_mul(1032);
    entry.by_ref().take(limit).read_to_end(&mut array).map_err(|e| error(format!("{ARRAY}: {e}")))?;
    let (shape, values) = npy::numbers(&array).map_err(|e| error(format!("{ARRAY}: {e}")))?;
    let &[t, c, h, w] = &shape[..] else {
        return Err(error(format!("{ARRAY} has the shape {shape:?}, not [T, C, H, W]")));
    };
    let at = |i: usize| {
        let (t, y, x, c_) = (i / c / w / h, i / c / w % h, i / c % w, i % c);
        values.get(((t * c + c_) * h + y) * w + x).unwrap_or(0.0) as f32
    };
    Ok(([t, h, w, c], (0..values.len()).map(at).collect()))
}

impl Dataset for FramesFolder {
    fn name(&self) -> &str {
        &self.name
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sensor(&self) -> Sensor {
        Sensor::new(self.shape[2] as u32, self.shape[1] as u32)
    }
    fn len(&self) -> usize {
        self.files.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.files[i].1
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let (shape, x) = read(&self.files[i].0)?;
        match shape == self.shape {
            true => Ok(Recording::Array(x)),
            false => {
                let what = format!("frames [T, H, W, C] of {shape:?} where the first file has {:?}", self.shape);
                Err(Error::config(self.describe(i), what))
            }
        }
    }
    fn is_events(&self) -> bool {
        false
    }
    fn faults(&self) -> Vec<[String; 2]> {
        self.faults.clone()
    }
    fn describe(&self, i: usize) -> String {
        self.files[i].0.display().to_string()
    }
    fn source(&self, i: usize) -> Option<Source> {
        // The shape is the first file's: another first file may make an error of this one.
        Some(Source { file: Some(self.files[i].0.clone()), settings: format!("{:?}", self.shape) })
    }
    fn shape(&self, _: &Encoding) -> [usize; 4] {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splits, open};
    use super::*;
    use npyz::WriterBuilder as _;
    use std::io::Write as _;

    /// Frames `[T, C, H, W]` numbered from `first` on.
    fn save(path: &Path, name: &str, shape: [u64; 4], first: f32) {
        let mut array = Vec::new();
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut array).begin_nd().unwrap();
        writer.extend((0..shape.iter().product()).map(|i| first + i as f32)).unwrap();
        writer.finish().unwrap();
        let mut npz = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        npz.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        npz.write_all(&array).unwrap();
        npz.finish().unwrap();
    }

    fn folder() -> (tempfile::TempDir, DatasetSpec) {
        let dir = tempfile::tempdir().unwrap();
        for (k, place) in ["train/a", "train/b", "test/a", "test/b"].into_iter().enumerate() {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
            (0..6).for_each(|i| {
                save(&dir.path().join(place).join(format!("{i}.npz")), "frames", [2, 2, 3, 4], (100 * k + i) as f32)
            });
        }
        let spec = DatasetSpec { dir: Some(dir.path().into()), validation: 0.3, ..DatasetSpec::new("frames_folder") };
        (dir, spec)
    }

    #[test]
    fn channels_come_last_and_augmentation_works() {
        let (_dir, mut spec) = folder();
        let d = open(&spec, Split::Test).unwrap();
        assert_eq!((d.len(), d.shape(&spec.encoding()), d.label(7)), (12, [2, 3, 4, 2], 1));
        let Recording::Array(x) = d.load(7).unwrap() else { panic!() };
        // Place (1, 2) of step 1, off and on.
        assert_eq!(x[24 + (4 + 2) * 2..][..2], [301.0 + 24.0 + 6.0, 301.0 + 24.0 + 12.0 + 6.0]);
        spec.augment.flip = 1.0;
        let mirrored = Splits::open(&spec, 1).unwrap();
        spec.augment.flip = 0.0;
        let plain = Splits::open(&spec, 1).unwrap();
        // From the file, then from memory.
        for _ in 0..2 {
            let (a, b) = (mirrored.train.sample(3, 0).unwrap().x, plain.train.sample(3, 0).unwrap().x);
            assert!((0..24).all(|p| a[p * 2..][..2] == b[(p / 4 * 4 + 3 - p % 4) * 2..][..2]));
            assert_eq!(mirrored.test.sample(3, 0).unwrap(), plain.test.sample(3, 0).unwrap());
        }
    }

    #[test]
    fn frames_are_kept_on_disk() {
        let (dir, mut spec) = folder();
        spec.cache = Some(dir.path().join("cache"));
        let report = |spec: &DatasetSpec| {
            let s = Splits::open(spec, 1).unwrap();
            [&s.train, &s.validation, &s.test].iter().for_each(|part| part.fill().unwrap());
            (s.cache().unwrap(), s.test.sample(0, 0).unwrap().x)
        };
        let (first, x) = report(&spec);
        assert!(first.starts_with("cache: 0 samples found") && first.contains("24 added"), "{first}");
        let (again, y) = report(&spec);
        assert!(again.starts_with("cache: 24 samples found") && x == y, "{again}");
        save(&dir.path().join("test/a/0.npz"), "frames", [2, 2, 3, 4], 77.0);
        let (changed, z) = report(&spec);
        assert!(changed.starts_with("cache: 23 samples found") && z != x, "{changed}");
    }

    #[test]
    fn mistakes_are_said_in_one_sentence() {
        let (dir, spec) = folder();
        let said = |spec: &DatasetSpec| open(spec, Split::Train).err().unwrap().to_string();
        let scaled = DatasetSpec { size: Some([6, 8]), ..spec.clone() };
        assert!(said(&scaled).starts_with("data.size: samples of frames_folder are arrays of 3 x 4"), "{}", said(&scaled));
        let mut filtered = spec.clone();
        filtered.filter.denoise_us = 1000;
        assert!(said(&filtered).starts_with("data.filter: works on events"));
        let path = dir.path().join("train/a/3.npz");
        let loads = || open(&spec, Split::Train).unwrap().load(3).err().unwrap().to_string();
        save(&path, "frames", [2, 2, 3, 5], 0.0);
        assert!(loads().contains("3.npz: frames [T, H, W, C] of [2, 3, 5, 2]"), "{}", loads());
        save(&path, "events", [2, 2, 3, 4], 0.0);
        assert!(loads().contains("3.npz: frames.npy: "), "{}", loads());
        std::fs::write(&path, "PK no archive").unwrap();
        assert!(loads().contains("3.npz: "), "{}", loads());
    }
}
