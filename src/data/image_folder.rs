//! Own still images: a folder per class with PNG, JPEG, BMP, GIF (its first picture), PNM or WebP files, in the layouts of
//! [`folder`](super::folder).
//!
//! A picture is cut centrally to the proportions of `data.size` (the size of the first training image if none) and scaled to it. It has
//! three channels, red, green and blue, and no transparency.

use super::files::{first, layout};
use super::images::Still;
use super::{Dataset, DatasetSpec, Entry, Manifest, Recording, Source, Split};
use crate::encode::Encoding;
use crate::events::Sensor;
use crate::{Error, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};
use std::path::{Path, PathBuf};

/// The registry's entry.
pub static ENTRY: Entry = Entry { name: "image_folder", manifest: include_str!("../../datasets/image_folder.toml"), open };

const CHANNELS: usize = 3;

struct ImageFolder {
    name: String,
    classes: Vec<String>,
    /// Height and width.
    size: [usize; 2],
    files: Vec<(PathBuf, u32)>,
    faults: Vec<[String; 2]>,
    still: Still,
}

fn named_like_images(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|f| f.reading_enabled())
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let mut found = layout(spec, &dir, part, named_like_images, "images")?;
    let size = match spec.size {
        Some(size) => size,
        None => {
            let picture = first(&mut found, decode)?;
            [picture.height() as usize, picture.width() as usize]
        }
    };
    if size.iter().any(|n| !(1..=1 << 15).contains(n)) {
        return Err(Error::config("data.size", format!("{size:?} is not of 1 to 32768 pixels along each axis")));
    }
    let (name, still) = (manifest.name.clone(), Still::new(spec));
    Ok(Box::new(ImageFolder { name, classes: found.classes, size, files: found.files, faults: found.faults, still }))
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let reader = ImageReader::open(path).and_then(|r| r.with_guessed_format()).map_err(|e| Error::io(path, e))?;
    reader.decode().map_err(|e| Error::config(path.display().to_string(), format!("no image could be read: {e}")))
}

/// `[height, width, 3]` of the largest central part of those proportions. Cut before it is scaled: an extreme picture scaled to cover
/// could need any amount of memory.
fn fit(picture: &DynamicImage, [height, width]: [usize; 2]) -> Vec<u8> {
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let scale = (w / width as f64).min(h / height as f64);
    let [cut_w, cut_h] = [width, height].map(|n| ((n as f64 * scale).round() as u32).max(1));
    let (x, y) = (picture.width().saturating_sub(cut_w) / 2, picture.height().saturating_sub(cut_h) / 2);
    let part = picture.crop_imm(x, y, cut_w, cut_h);
    part.resize_exact(width as u32, height as u32, FilterType::Triangle).into_rgb8().into_raw()
}

impl Dataset for ImageFolder {
    fn name(&self) -> &str {
        &self.name
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sensor(&self) -> Sensor {
        Sensor::new(self.size[1] as u32, self.size[0] as u32)
    }
    fn len(&self) -> usize {
        self.files.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.files[i].1
    }
    fn load(&self, i: usize) -> Result<Recording> {
        Ok(Recording::Array(self.still.steps(i, &fit(&decode(&self.files[i].0)?, self.size))))
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
        let settings = format!("{:?}, {}", self.size, self.still.source(i));
        Some(Source { file: Some(self.files[i].0.clone()), settings })
    }
    fn shape(&self, _: &Encoding) -> [usize; 4] {
        [self.still.frames, self.size[0], self.size[1], CHANNELS]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Splits, StillInput, open};
    use super::*;
    use crate::encode::Crop;
    use image::{Rgb, RgbImage};

    /// Red and blue pictures in every format, wider than high, with a green rim at left and right.
    fn folder(formats: &[&str]) -> (tempfile::TempDir, DatasetSpec) {
        let dir = tempfile::tempdir().unwrap();
        for (class, colour) in [("blue", [0, 0, 255]), ("red", [255, 0, 0])] {
            std::fs::create_dir(dir.path().join(class)).unwrap();
            for extension in formats {
                let inner = |x: u32| (10..30).contains(&x);
                let picture = RgbImage::from_fn(40, 20, |x, _| if inner(x) { Rgb(colour) } else { Rgb([0, 255, 0]) });
                DynamicImage::from(picture).save(dir.path().join(class).join(format!("a.{extension}"))).unwrap();
            }
            std::fs::write(dir.path().join(class).join("notes.txt"), "no image").unwrap();
        }
        let spec = DatasetSpec { size: Some([8, 8]), frames: 2, ..DatasetSpec::new("image_folder") };
        let spec = DatasetSpec { dir: Some(dir.path().into()), test_fraction: 0.2, ..spec };
        (dir, spec)
    }

    #[test]
    fn every_format_is_scaled_and_cut() {
        let (_dir, mut spec) = folder(&["png", "jpg", "bmp", "gif", "ppm", "webp"]);
        let (train, test) = (open(&spec, Split::Train).unwrap(), open(&spec, Split::Test).unwrap());
        assert_eq!((train.len(), test.len(), train.classes()), (10, 2, &["blue".to_owned(), "red".to_owned()][..]));
        assert_eq!(train.shape(&spec.encoding()), [2, 8, 8, 3]);
        for (d, i) in (0..10).map(|i| (&train, i)).chain([(&test, 0), (&test, 1)]) {
            let Recording::Array(x) = d.load(i).unwrap() else { panic!() };
            assert_eq!((x.len(), &x[..192]), (384, &x[192..]), "{}", d.describe(i));
            let own = if d.label(i) == 0 { 2 } else { 0 };
            // Without the first and last column, where JPEG and scaling blend.
            let inner = (0..64).filter(|p| (1..7).contains(&(p % 8)));
            assert!(inner.clone().all(|p| x[p * 3 + own] > 0.9 && x[p * 3 + 1] < 0.1), "{}: {x:?}", d.describe(i));
        }
        spec.input = StillInput::Rate;
        let a = open(&spec, Split::Train).unwrap();
        let Recording::Array(x) = a.load(0).unwrap() else { panic!() };
        assert!(x.iter().all(|v| *v == 0.0 || *v == 1.0));
        assert_eq!(a.load(0).unwrap(), open(&spec, Split::Train).unwrap().load(0).unwrap());
        spec.validation = 0.3;
        assert_eq!(Splits::open(&spec, 0).unwrap().train.shape(), [2, 8, 8, 3]);
    }

    /// The first picture says the size; where it cannot be read the others are counted, and training refuses it.
    #[test]
    fn a_first_that_is_damaged_hides_nothing() {
        let (dir, spec) = folder(&["png", "bmp"]);
        let spec = DatasetSpec { size: None, ..spec };
        let path = dir.path().join("blue/a.bmp");
        std::fs::write(&path, "no image").unwrap();
        let said = format!("{}: no image could be read: ", path.display());
        let e = open(&spec, Split::Train).err().unwrap().to_string();
        assert!(e.starts_with(&said), "{e}");
        let report = crate::data::check("image_folder", dir.path(), None, true).unwrap();
        assert_eq!(report.problems.iter().filter(|p| p.starts_with(&said)).count(), 1, "{:?}", report.problems);
        let counted: usize = report.parts.iter().map(|p| p.samples).sum();
        assert_eq!(counted, 4, "{:?}", report.problems);
    }

    #[test]
    fn mistakes_are_said_in_one_sentence() {
        let (dir, spec) = folder(&["png", "bmp"]);
        let said = |spec: &DatasetSpec| open(spec, Split::Train).err().unwrap().to_string();
        let without = DatasetSpec { size: None, ..spec.clone() };
        assert_eq!(open(&without, Split::Test).unwrap().shape(&without.encoding()), [2, 20, 40, 3]);
        let empty = DatasetSpec { size: Some([0, 8]), ..spec.clone() };
        assert!(said(&empty).starts_with("data.size: [0, 8] is not"), "{}", said(&empty));
        let cropped = DatasetSpec { crop: Some(Crop::Centre([4, 4])), ..spec.clone() };
        assert!(said(&cropped).starts_with("data.crop: samples of image_folder are arrays of 8 x 8"), "{}", said(&cropped));
        let mut jittered = spec.clone();
        jittered.augment.time_jitter = 5.0;
        assert!(said(&jittered).starts_with("data.augment.time_jitter: works on events"), "{}", said(&jittered));
        let none = DatasetSpec { dir: Some(dir.path().join("red")), ..spec.clone() };
        assert!(said(&none).contains("no images in its class folders"), "{}", said(&none));
        // Cut off, and of another kind than its name says.
        for (name, change) in [("a.png", 60), ("a.bmp", 3)] {
            let path = dir.path().join("red").join(name);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..change]).unwrap();
            let all = [Split::Train, Split::Test].map(|part| open(&spec, part).unwrap());
            let errors = all.iter().flat_map(|d| (0..d.len()).filter_map(|i| d.load(i).err()));
            let said: Vec<String> = errors.map(|e| e.to_string()).collect();
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&path.display().to_string()) && !said[0].contains('\n'), "{said:?}");
            std::fs::write(&path, bytes).unwrap();
        }
    }
}
