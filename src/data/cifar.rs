//! CIFAR-10 and CIFAR-100 in their binary version: a record is its label (CIFAR-100: coarse, then fine) and 3072 bytes, the
//! red, green and blue planes of a picture of 32 x 32.

use super::files::subfolder;
use super::images::Images;
use super::mnist::unpacked;
use super::{Dataset, DatasetSpec, Entry, Manifest, Split};
use crate::{Error, Result};

/// The registry's entry of CIFAR-10.
pub static CIFAR10: Entry = Entry {
    name: "cifar10",
    manifest: include_str!("../../datasets/cifar10.toml"),
    open: |spec, manifest, part| {
        let train: Vec<String> = (1..=5).map(|i| format!("data_batch_{i}.bin")).collect();
        let files = if part == Split::Train { train } else { vec!["test_batch.bin".into()] };
        read(spec, manifest, "cifar-10-batches-bin", &files, 1)
    },
};

/// The registry's entry of CIFAR-100.
pub static CIFAR100: Entry = Entry {
    name: "cifar100",
    manifest: include_str!("../../datasets/cifar100.toml"),
    open: |spec, manifest, part| {
        let files = [format!("{}.bin", part.name())];
        read(spec, manifest, "cifar-100-binary", &files, 2)
    },
};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

fn read(spec: &DatasetSpec, manifest: &Manifest, inner: &str, files: &[String], label_bytes: usize) -> Result<Box<dyn Dataset>> {
    let dir = spec.folder(manifest)?;
    let dir = subfolder(&dir, inner).unwrap_or(dir);
    let get = manifest.get.replace("{dir}", &dir.display().to_string());
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let record = label_bytes + 3 * PLANE;
    for name in files {
        let (path, bytes) = unpacked(&dir, name, &get)?;
        let records = bytes.chunks_exact(record);
        let whole = bytes.len() - records.remainder().len();
        if whole < bytes.len() || whole == 0 {
            let what = format!("the file ends within a record of {record} bytes");
            return Err(Error::format(path, whole as u64, what));
        }
        for (i, r) in records.enumerate() {
            let label = u32::from(r[label_bytes - 1]);
            if !manifest.classes.is_empty() && label as usize >= manifest.classes.len() {
                let at = (i * record + label_bytes - 1) as u64;
                return Err(Error::format(path, at, format!("label {label}")));
            }
            labels.push(label);
            let planes = &r[label_bytes..];
            pixels.extend((0..PLANE).flat_map(|i| [0, 1, 2].map(|c| planes[c * PLANE + i])));
        }
    }
    let classes = manifest.classes.clone();
    Ok(Box::new(Images::new(spec, classes, [SIDE, SIDE, 3], pixels, labels)))
}

#[cfg(test)]
mod tests {
    use super::super::{Recording, open};
    use super::*;

    #[test]
    fn planes_become_channels() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = vec![7, 42];
        for c in [255, 0, 51] {
            record.extend([c; PLANE]);
        }
        std::fs::write(dir.path().join("test.bin"), record).unwrap();
        let spec = DatasetSpec { dir: Some(dir.path().into()), frames: 1, ..DatasetSpec::new("cifar100") };
        let d = open(&spec, Split::Test).unwrap();
        assert_eq!(d.labels(), [42]);
        let Recording::Array(x) = d.load(0).unwrap() else { panic!() };
        assert_eq!((x[..3].to_vec(), x.len()), (vec![1.0, 0.0, 0.2], 3072));
        assert!(open(&spec, Split::Train).is_err());
    }
}
