//! Still images as datasets: `[T, H, W, C]` of one picture, constant or rate-coded.

use super::{Dataset, DatasetSpec, Recording, StillInput};
use crate::Result;
use crate::encode::Encoding;
use crate::events::Sensor;
use crate::rng::Rng;

/// Labelled pictures in memory.
#[derive(Clone, Debug)]
pub struct Images {
    name: String,
    classes: Vec<String>,
    /// Height, width and channels.
    size: [usize; 3],
    /// `[samples, H, W, C]`.
    pixels: Vec<u8>,
    labels: Vec<u32>,
    still: Still,
}

/// How still images become T steps.
#[derive(Clone, Debug)]
pub(super) struct Still {
    /// T.
    pub frames: usize,
    input: StillInput,
    seed: u64,
    rng: Rng,
}

impl Still {
    pub fn new(spec: &DatasetSpec) -> Self {
        let seed = spec.split_seed;
        Still { frames: spec.frames, input: spec.input, seed, rng: Rng::new(seed).stream("rate") }
    }
    /// What `steps` depends on besides the picture.
    pub fn source(&self, i: usize) -> String {
        match self.input {
            StillInput::Constant => format!("{} times", self.frames),
            StillInput::Rate => format!("{} steps drawn from {} for picture {i}", self.frames, self.seed),
        }
    }
    /// `[T, ...]` of picture `i` of a dataset.
    pub fn steps(&self, i: usize, pixels: &[u8]) -> Vec<f32> {
        let mut rng = self.rng.stream(i);
        let mut out = Vec::with_capacity(self.frames * pixels.len());
        for _ in 0..self.frames {
            match self.input {
                StillInput::Constant => out.extend(pixels.iter().map(|&v| f32::from(v) / 255.0)),
                StillInput::Rate => out.extend(pixels.iter().map(|&v| f32::from(rng.f32() < f32::from(v) / 255.0))),
            }
        }
        out
    }
}

impl Images {
    /// Pictures `[samples, H, W, C]` of `size` = `[H, W, C]`.
    ///
    /// # Panics
    /// If there are not as many pixels as labels demand.
    pub fn new(spec: &DatasetSpec, classes: Vec<String>, size: [usize; 3], pixels: Vec<u8>, labels: Vec<u32>) -> Self {
        assert_eq!(pixels.len(), labels.len() * size.iter().product::<usize>());
        Images { name: spec.name.clone(), classes, size, pixels, labels, still: Still::new(spec) }
    }
}

impl Dataset for Images {
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
        self.labels.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
    fn load(&self, i: usize) -> Result<Recording> {
        let n: usize = self.size.iter().product();
        Ok(Recording::Array(self.still.steps(i, &self.pixels[i * n..][..n])))
    }
    fn is_events(&self) -> bool {
        false
    }
    fn describe(&self, i: usize) -> String {
        format!("image {i}")
    }
    fn shape(&self, _: &Encoding) -> [usize; 4] {
        let [h, w, c] = self.size;
        [self.still.frames, h, w, c]
    }
}
