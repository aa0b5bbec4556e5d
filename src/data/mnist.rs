//! MNIST and Fashion-MNIST as published: IDX files, gzipped or not.

use super::images::Images;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::events::DecodeError;
use crate::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The registry's entry of MNIST.
pub static MNIST: Entry = Entry { name: "mnist", manifest: include_str!("../../datasets/mnist.toml"), open };

/// The registry's entry of Fashion-MNIST.
pub static FASHION: Entry = Entry { name: "fashion_mnist", manifest: include_str!("../../datasets/fashion_mnist.toml"), open };

/// A file's bytes, unpacked where its name ends in `.gz`; the plain file is taken first.
pub(super) fn unpacked(dir: &Path, name: &str, get: &str) -> Result<(PathBuf, Vec<u8>)> {
    let (path, bytes, damage) = unpacked_so_far(dir, name, get)?;
    damage.map_or(Ok((path, bytes)), Err)
}

/// [`unpacked`]; of a packed file that is cut off or damaged what comes before, and what is wrong.
pub(super) fn unpacked_so_far(dir: &Path, name: &str, get: &str) -> Result<(PathBuf, Vec<u8>, Option<Error>)> {
    let plain = dir.join(name);
    let path = if plain.is_file() { plain } else { dir.join(format!("{name}.gz")) };
    if !path.is_file() {
        let what = format!("no {name} or {name}.gz in it; {get}");
        return Err(Error::config(dir.display().to_string(), what));
    }
    let (bytes, damage) = read_so_far(&path)?;
    Ok((path, bytes, damage))
}

/// The bytes of a file, unpacked where they are a gzip stream; what is wrong with that.
pub(super) fn read_so_far(path: &Path) -> Result<(Vec<u8>, Option<Error>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok((bytes, None));
    }
    let mut out = Vec::new();
    // No more than deflate can make of it.
    let mut packed = flate2::bufread::MultiGzDecoder::new(bytes.as_slice()).take(bytes.len() as u64 * 1032);
    let damage = packed.read_to_end(&mut out).err().map(|e| {
        let at = bytes.len() - packed.get_ref().get_ref().len();
        let what = match at == bytes.len() && e.kind() == std::io::ErrorKind::UnexpectedEof {
            true => "the file is cut off here, within its gzip stream".into(),
            false => format!("damaged gzip: {e}"),
        };
        Error::format(path, at as u64, what)
    });
    Ok((out, damage))
}

/// The shape of an IDX array of bytes, and the array.
///
/// # Errors
/// What is wrong with it, and where.
pub fn idx(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), DecodeError> {
    let &[0, 0, 8, axes, ..] = bytes else {
        return Err(DecodeError::new(0, "no IDX array of bytes"));
    };
    let head = 4 + 4 * usize::from(axes);
    let sizes = bytes.get(4..head).ok_or(DecodeError::new(4, "the file ends within its header"))?;
    let size = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    let shape: Vec<usize> = sizes.chunks_exact(4).map(size).collect();
    let n = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let data = &bytes[head..];
    match n.and_then(|n| data.get(..n)) {
        Some(data) => Ok((shape, data)),
        None => {
            let what = format!("{} bytes for an array of {shape:?}", data.len());
            Err(DecodeError::new(head as u64, what))
        }
    }
}

fn open(spec: &DatasetSpec, manifest: &Manifest, part: Split) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let name = match part {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let get = manifest.get.replace("{dir}", &dir.display().to_string());
    let read = |what: &str| unpacked(&dir, &format!("{name}-{what}-ubyte"), &get);
    let (image_path, images) = read("images-idx3")?;
    let (label_path, labels) = read("labels-idx1")?;
    let bad = |path: &Path, e: DecodeError| Error::format(path, e.offset, e.message);
    let (shape, pixels) = idx(&images).map_err(|e| bad(&image_path, e))?;
    let (n, labels) = idx(&labels).map_err(|e| bad(&label_path, e))?;
    let &[images, h, w] = &shape[..] else {
        return Err(bad(&image_path, DecodeError::new(4, format!("an array of {shape:?}, not of images"))));
    };
    let classes = manifest.classes.clone();
    if n != [images] || labels.iter().any(|&l| usize::from(l) >= classes.len()) {
        let what = format!("labels {n:?} do not fit {images} images of {} classes", classes.len());
        return Err(bad(&label_path, DecodeError::new(4, what)));
    }
    let labels = labels.iter().map(|&l| l.into()).collect();
    Ok(Box::new(Images::new(spec, classes, [h, w, 1], pixels.to_vec(), labels)))
}

#[cfg(test)]
mod tests {
    use super::super::{Recording, StillInput, open};
    use super::*;

    #[test]
    fn small_arrays() {
        let dir = tempfile::tempdir().unwrap();
        let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 255, 51, 0]].concat();
        std::fs::write(dir.path().join("train-images-idx3-ubyte"), images).unwrap();
        std::fs::write(dir.path().join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 3, 9]).unwrap();
        let mut spec = DatasetSpec { dir: Some(dir.path().into()), frames: 2, ..DatasetSpec::new("mnist") };
        let d = open(&spec, Split::Train).unwrap();
        assert_eq!((d.labels(), d.shape(&spec.encoding())), (vec![3, 9], [2, 1, 2, 1]));
        assert_eq!(d.load(1).unwrap(), Recording::Array(vec![0.2, 0., 0.2, 0.]));
        spec.input = StillInput::Rate;
        spec.frames = 1000;
        let Recording::Array(x) = open(&spec, Split::Train).unwrap().load(1).unwrap() else { panic!() };
        assert!((150.0..250.0).contains(&x.iter().sum::<f32>()));
        let said = open(&spec, Split::Test).err().unwrap().to_string();
        assert!(said.contains("t10k-images-idx3-ubyte"), "{said}");
        assert!(idx(&[0, 0, 8, 3, 0]).is_err() && idx(&[0, 0, 8, 1, 255, 255, 255, 255]).is_err());
    }
}
