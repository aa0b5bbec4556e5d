//! Checkpoints: safetensors files with PyTorch's names and layouts, so that `safetensors.torch.load_file` reads the weights as they are.
//!
//! Beside the tensors stands one metadata key, `spikemix`: the JSON of [`Meta`]. Tensors whose names begin with [`OPTIMISER`] are the
//! optimiser's state (`last.safetensors` has it, `best.safetensors` does not); all others are parameters and running statistics.
//!
//! Files are written whole or not at all ([`crate::files`]). Reading checks everything: a file that is cut short, that is something
//! else, or that belongs to another model is refused with one sentence.

use crate::error::{Error, Result};
use crate::events::Sensor;
use crate::files::write_atomic;
use crate::params::Params;
use crate::tensor::torch::Named;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The version of [`Meta`] that this program writes.
pub const VERSION: u32 = 1;

/// What the names of the optimiser's tensors begin with.
pub const OPTIMISER: &str = "optimiser.";

/// How neurons of this version compute; stored in every checkpoint, so that a reader need not guess.
pub const ARITHMETIC: &str = "decay_input: H = V + (X - (V - V_reset)) / tau, else H = V - (V - V_reset) / tau + X; S = [H >= \
     v_threshold]; hard reset: V = H (1 - S) + V_reset S; soft reset (v_reset none, leak towards 0): V = H - v_threshold S; V starts \
     at V_reset in each sample; plif: 1/tau = sigmoid(w)";

/// What a checkpoint says besides its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of this struct.
    pub version: u32,
    /// The program that wrote it.
    pub program: String,
    /// The model's spec.
    pub spec: Value,
    /// [`ARITHMETIC`] of the program that wrote it; neuron settings are in the spec.
    pub neuron_arithmetic: String,
    /// The recipe as resolved; null where there was none.
    pub recipe: Value,
    /// The seed of initial weights, shuffles and split.
    pub seed: u64,
    /// How the training set was divided, in words.
    pub split: String,
    /// Names of the classes, in order of their labels; empty where they are not known.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The sensor of the recordings it was trained on, where it is known.
    #[serde(default)]
    pub sensor: Option<Sensor>,
    /// Epochs behind it.
    pub epoch: usize,
    /// Steps of the next epoch behind it; 0 except where a run was interrupted.
    pub step: usize,
    /// Metrics of the last epoch behind it.
    pub metrics: Value,
    /// What a resumed run needs besides; null in `best.safetensors`.
    pub run: Value,
}

impl Meta {
    /// For a model of this spec; the rest empty.
    ///
    /// # Errors
    /// A spec that JSON cannot hold.
    pub fn new(spec: &impl Serialize) -> Result<Self> {
        Ok(Meta {
            version: VERSION,
            program: format!("spikemix {}", env!("CARGO_PKG_VERSION")),
            spec: json(spec)?,
            neuron_arithmetic: ARITHMETIC.to_string(),
            recipe: Value::Null,
            seed: 0,
            split: String::new(),
            classes: Vec::new(),
            sensor: None,
            epoch: 0,
            step: 0,
            metrics: Value::Null,
            run: Value::Null,
        })
    }
}

/// `v` as JSON.
///
/// # Errors
/// What JSON cannot hold.
pub fn json(v: &impl Serialize) -> Result<Value> {
    serde_json::to_value(v).map_err(|e| Error::shape("json", e.to_string()))
}

/// Writes parameters, the optimiser's state (names without [`OPTIMISER`]) and `meta` to `path`.
///
/// # Errors
/// The system's, with the path; what stood there before is then untouched.
pub fn save(path: impl AsRef<Path>, params: &Params, optimiser: &Named, meta: &Meta) -> Result<()> {
    let path = path.as_ref();
    let broken = |e: String| Error::format(path, 0, format!("cannot be written: {e}"));
    let weights = params.to_torch()?;
    let all = weights.iter().map(|(n, t)| (n.clone(), t)).chain(optimiser.iter().map(|(n, t)| (format!("{OPTIMISER}{n}"), t)));
    let views = all
        .map(|(name, (shape, data))| TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data)).map(|v| (name, v)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| broken(e.to_string()))?;
    // One key, for the order of several would be that of a hash map.
    let text = serde_json::to_string(meta).map_err(|e| broken(e.to_string()))?;
    let header = HashMap::from([("spikemix".to_string(), text)]);
    write_atomic(path, &serialize(views, Some(header)).map_err(|e| broken(e.to_string()))?)
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it says about itself.
    pub meta: Meta,
    /// Parameters and running statistics.
    pub weights: Named,
    /// The optimiser's state, names without [`OPTIMISER`]; empty where it was not kept.
    pub optimiser: Named,
}

/// The checkpoint that a path names: where it is the folder of a run, that run's best one.
pub fn best_of(path: PathBuf) -> PathBuf {
    let best = path.join("best.safetensors");
    if best.is_file() { best } else { path }
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// No such file; a file that is no safetensors file, is cut short, or holds tensors other than float32; one that another program
    /// wrote; a newer version. Each names the path, and the byte where there is one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Err(Error::config(path.display().to_string(), "a folder without best.safetensors, expected a checkpoint"));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let bad = |offset: u64, message: String| Error::format(path, offset, message);
        let header = check_length(&bytes).map_err(|(at, m)| bad(at, m))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(8, explain(&e)))?;
        let (_, info) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(8, explain(&e)))?;
        let text = info.metadata().as_ref().and_then(|m| m.get("spikemix")).ok_or_else(|| {
            bad(8, "a safetensors file, but no checkpoint of spikemix: its header has no metadata key `spikemix`".into())
        })?;
        let meta = read_meta(text).map_err(|m| bad(8, m))?;
        let (mut weights, mut optimiser) = (Named::new(), Named::new());
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                let at = info.info(name).map_or(0, |i| i.data_offsets.0) + header;
                return Err(bad(at as u64, format!("tensor {name} is {:?}, expected F32", view.dtype())));
            }
            let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let (list, name) = match name.strip_prefix(OPTIMISER) {
                Some(rest) => (&mut optimiser, rest),
                None => (&mut weights, name),
            };
            list.insert(name.to_string(), (view.shape().to_vec(), data));
        }
        Ok(Checkpoint { path: path.to_path_buf(), meta, weights, optimiser })
    }

    /// Puts the weights into `params`, which a model of the same spec has built.
    ///
    /// # Errors
    /// A tensor that is missing, one too many, or one of another shape: the file is of another model; one with a value that is no finite
    /// number. `params` is then unchanged.
    pub fn load_into(&self, params: &mut Params) -> Result<()> {
        let wrong = |m: String| Error::config(self.path.display().to_string(), m);
        let names: Vec<_> = params.iter().map(|(id, p)| (id, p.name.clone())).collect();
        let missing: Vec<&str> = names.iter().filter(|n| !self.weights.contains_key(&n.1)).map(|n| n.1.as_str()).collect();
        if let Some(first) = missing.first() {
            return Err(wrong(format!("tensor {first} is missing{}: this file is of another model", more(missing.len()))));
        }
        let known: std::collections::HashSet<&str> = names.iter().map(|n| n.1.as_str()).collect();
        let extra: Vec<&String> = self.weights.keys().filter(|k| !known.contains(k.as_str())).collect();
        if let Some(first) = extra.first() {
            return Err(wrong(format!(
                "tensor {first} is not one of the model's{}: this file is of another model",
                more(extra.len())
            )));
        }
        let mut new = params.clone();
        for (id, name) in names {
            let (shape, data) = &self.weights[&name];
            if let Some(i) = data.iter().position(|v| !v.is_finite()) {
                let what = format!("tensor {name} holds {} (element {i}): with it no result means anything", data[i]);
                return Err(wrong(what));
            }
            new.set_torch(id, shape, data).map_err(|e| wrong(format!("tensor {e}")))?;
        }
        *params = new;
        Ok(())
    }

    /// The spec, as a `T`.
    ///
    /// # Errors
    /// A spec that is none of this program's.
    pub fn spec<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        self.field("model", &self.meta.spec)
    }
    /// The recipe, as a `T`.
    ///
    /// # Errors
    /// No recipe, or none of this program's.
    pub fn recipe<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        self.field("recipe", &self.meta.recipe)
    }
    /// What a resumed run needs, as a `T`.
    ///
    /// # Errors
    /// There is none (`best.safetensors`), or it is not readable.
    pub fn run<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        self.field("run", &self.meta.run)
    }
    fn field<T: serde::de::DeserializeOwned>(&self, key: &str, v: &Value) -> Result<T> {
        let place = || format!("{}: {key}", self.path.display());
        if v.is_null() {
            return Err(Error::config(place(), "this checkpoint carries none"));
        }
        serde_path_to_error::deserialize(v).map_err(|e| {
            let path = e.path().to_string();
            let dot = if path == "." { String::new() } else { format!(".{path}") };
            Error::config(format!("{}{dot}", place()), e.inner().to_string())
        })
    }
}

/// Whether a file is of safetensors by its content: the length of its header, and as many bytes of a JSON object. A pipe is not asked, for
/// what is read of it is gone.
pub fn is_one(path: impl AsRef<Path>) -> bool {
    use std::io::Read;
    let header = || {
        let mut file = std::fs::File::open(&path)?;
        let mut first = [0; 9];
        file.read_exact(&mut first)?;
        let [length @ .., _] = first;
        let length = u64::from_le_bytes(length);
        let mut header = vec![first[8]];
        if HEADERS.contains(&length) && first[8] == b'{' {
            file.take(length - 1).read_to_end(&mut header)?;
        }
        Ok::<_, std::io::Error>((length, header))
    };
    path.as_ref().is_file()
        && header().is_ok_and(|(length, header)| {
            header.len() as u64 == length && matches!(serde_json::from_slice(&header), Ok(Value::Object(_)))
        })
}

/// How many more than the first are concerned.
fn more(n: usize) -> String {
    if n > 1 { format!(" (and {} more)", n - 1) } else { String::new() }
}

/// How long the header of a safetensors file may be.
const HEADERS: std::ops::RangeInclusive<u64> = 2..=100_000_000;

/// Checks the two lengths that a cut or foreign file has wrong; returns where tensors begin. Errors are a byte and a sentence.
fn check_length(bytes: &[u8]) -> Result<usize, (u64, String)> {
    let foreign = "not a safetensors file";
    let Some(first) = bytes.first_chunk::<8>() else {
        return Err((bytes.len() as u64, format!("{foreign}: it ends within its first 8 bytes")));
    };
    let header = u64::from_le_bytes(*first);
    if !HEADERS.contains(&header) || bytes.get(8).is_some_and(|&b| b != b'{') {
        return Err((0, foreign.to_string()));
    }
    // Header is at most 1e8 here, so this cannot overflow.
    let start = 8 + header as usize;
    let Some(text) = bytes.get(8..start) else {
        return Err((bytes.len() as u64, format!("cut short: it ends within its header of {header} bytes")));
    };
    let Ok(Value::Object(map)) = serde_json::from_slice(text) else {
        return Err((8, format!("{foreign}: its header is not JSON")));
    };
    let ends = map.iter().filter(|(k, _)| *k != "__metadata__").filter_map(|(_, v)| v["data_offsets"][1].as_u64());
    let end = start as u64 + ends.max().unwrap_or(0);
    if (bytes.len() as u64) < end {
        return Err((bytes.len() as u64, format!("cut short: it ends here and should have {end} bytes")));
    }
    Ok(start)
}

fn explain(e: &SafeTensorError) -> String {
    format!("a damaged safetensors file: {e}")
}

fn read_meta(text: &str) -> Result<Meta, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("its metadata is not JSON: {e}"))?;
    let version = value["version"].as_u64().ok_or("its metadata has no version")?;
    if version > u64::from(VERSION) {
        return Err(format!("written by a newer spikemix (checkpoint version {version}, this program knows {VERSION})"));
    }
    serde_json::from_value(value).map_err(|e| format!("its metadata is damaged: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::params::{Build, Init, Role};
    use crate::tensor::torch::Layout;

    fn params(outputs: usize) -> Params {
        let mut p = Params::new(&Device::Cpu);
        let mut b = Build::new(&mut p, 3);
        b.scope("head").param("weight", &[4, outputs], Role::Weight, Layout::Linear, Init::FanIn(4)).unwrap();
        b.scope("head").param("bias", &[outputs], Role::Bias, Layout::Plain, Init::Constant(0.5)).unwrap();
        b.scope("stages").scope(0).param("weight", &[3, 3, 2, 4], Role::Weight, Layout::Conv, Init::FanIn(18)).unwrap();
        p
    }
    fn meta() -> Meta {
        Meta { seed: 7, ..Meta::new(&serde_json::json!({"net": "x"})).unwrap() }
    }
    fn complaint(path: &Path) -> String {
        Checkpoint::open(path).unwrap_err().to_string()
    }

    #[test]
    fn round_trip_in_torch_layout() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let p = params(5);
        let state = Named::from([("m.head.bias".to_string(), (vec![5], vec![1.0; 5]))]);
        save(&path, &p, &state, &meta()).unwrap();
        let first = std::fs::read(&path).unwrap();
        save(&path, &p, &state, &meta()).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap());
        let c = Checkpoint::open(&path).unwrap();
        assert_eq!((c.meta.clone(), c.optimiser.clone()), (meta(), state));
        assert_eq!(c.weights["head.weight"].0, [5, 4]);
        assert_eq!(c.weights["stages.0.weight"].0, [4, 2, 3, 3]);
        let mut q = params(5);
        q.update(
            q.iter()
                .map(|(id, p)| (id, crate::tensor::Tensor::zeros(&Device::Cpu, p.value.shape()).unwrap()))
                .collect::<Vec<_>>(),
        );
        c.load_into(&mut q).unwrap();
        assert_eq!(q.to_torch().unwrap(), p.to_torch().unwrap());
    }

    #[test]
    fn files_of_other_models_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        save(&path, &params(5), &Named::new(), &meta()).unwrap();
        let mut c = Checkpoint::open(&path).unwrap();
        let e = c.load_into(&mut params(6)).unwrap_err().to_string();
        assert!(e.contains("a.safetensors: tensor head.") && e.contains("the model has [6") && e.contains("the file [5"), "{e}");
        let t = c.weights.remove("head.bias").unwrap();
        let mut damaged = t.clone();
        damaged.1[2] = f32::NAN;
        c.weights.insert("head.bias".into(), damaged);
        let e = c.load_into(&mut params(5)).unwrap_err().to_string();
        assert!(e.contains("tensor head.bias holds NaN (element 2)"), "{e}");
        c.weights.remove("head.bias");
        let e = c.load_into(&mut params(5)).unwrap_err().to_string();
        assert!(e.ends_with("tensor head.bias is missing: this file is of another model"), "{e}");
        c.weights.insert("head.bias".into(), t.clone());
        c.weights.insert("x".into(), t.clone());
        c.weights.insert("y".into(), t);
        let e = c.load_into(&mut params(5)).unwrap_err().to_string();
        assert!(e.ends_with("tensor x is not one of the model's (and 1 more): this file is of another model"), "{e}");
    }

    #[test]
    fn damage_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        save(&path, &params(5), &Named::new(), &meta()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let cut = |n: usize| {
            std::fs::write(&path, &whole[..n]).unwrap();
            complaint(&path)
        };
        assert!(is_one(&path) && !is_one(dir.path()) && !is_one(dir.path().join("none")));
        assert!(cut(0).contains("a.safetensors: byte 0: not a safetensors file"));
        assert!(cut(5).contains("byte 5: not a safetensors file"));
        assert!(cut(100).contains("byte 100: cut short: it ends within its header"));
        let n = whole.len();
        assert!(cut(n - 3).ends_with(&format!("byte {}: cut short: it ends here and should have {n} bytes", n - 3)));
        // No length or change of a byte may panic.
        for i in (0..n).step_by(7) {
            cut(i);
            let mut bytes = whole.clone();
            bytes[i] ^= 0x15;
            std::fs::write(&path, &bytes).unwrap();
            let _ = Checkpoint::open(&path);
        }
        std::fs::write(&path, b"[train]\nepochs = 4\n").unwrap();
        assert!(complaint(&path).ends_with("byte 0: not a safetensors file") && !is_one(&path));
        std::fs::write(&path, [&9u64.to_le_bytes()[..], b"{\"a\": 1, "].concat()).unwrap();
        assert!(!is_one(&path));
        let mut longer = whole.clone();
        longer.push(0);
        std::fs::write(&path, &longer).unwrap();
        assert!(complaint(&path).contains("damaged safetensors file"));

        let foreign = serialize([("a", TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap())], None).unwrap();
        std::fs::write(&path, foreign).unwrap();
        assert!(complaint(&path).contains("no checkpoint of spikemix"), "{}", complaint(&path));
        let newer = Meta { version: VERSION + 1, ..meta() };
        save(&path, &params(5), &Named::new(), &newer).unwrap();
        assert!(complaint(&path).contains("written by a newer spikemix"));
        assert!(complaint(&dir.path().join("none")).contains("none: "));
    }
}
