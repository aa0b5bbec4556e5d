//! Kernels: every piece of arithmetic, twice. A WGSL shader and a native CPU twin under one name, held together by tests that walk
//! over [`crate::registry`].
//!
//! # How to add a kernel
//! 1. `shaders/<family>/<kernel>.wgsl`: `@group(0) @binding(0) var<uniform> u: U;`, then the storage buffers at bindings 1.. in the
//!    order of [`Kernel::bindings`] with the same names, entry point `main`.
//! 2. A struct in `kernel/<family>.rs` that implements [`Kernel`] (the macro `head!` writes its name, shader and bindings): the CPU twin,
//!    and the [`Case`]s that parity runs.
//! 3. A line in `registry.rs`.
//!
//! Everything else (parity on each device, naga reflection, `spikemix devices --check`, the profiler) follows by iteration.
//!
//! # Rules
//! - A kernel writes every element of its outputs: they arrive with whatever the pool held before.
//! - A CPU twin gives the same bits on any number of threads: work is cut by the problem's size, never by the thread count, and partial
//!   sums are added in a fixed order.
//! - Spikes are packed 32 channels to a u32, least significant first; each row (all channels of one place and step) is padded to whole
//!   words with zero bits; integer spikes are several planes, plane-major `[planes, rows, words]`, whose sum is the value.

/// The head of an `impl Kernel`: its uniform, its name (also the stem of its shader), and its bindings.
macro_rules! head {
    ($stem:literal, $uniform:ty, [$($name:ident: $access:ident),* $(,)?]) => {
        type Uniform = $uniform;
        fn name(&self) -> &'static str {
            $stem
        }
        fn wgsl(&self) -> &'static str {
            include_str!(concat!("../../shaders/", $stem, ".wgsl"))
        }
        fn bindings(&self) -> &'static [(&'static str, $crate::kernel::Access)] {
            &[$((stringify!($name), $crate::kernel::Access::$access)),*]
        }
    };
}

pub mod active;
pub mod attention;
pub mod bit_matrix;
pub mod bits;
pub mod channels;
pub mod columns;
pub mod conv;
pub mod delay;
pub mod depthwise;
pub mod elementwise;
pub mod fire;
pub mod frames;
pub mod gate;
pub mod grid;
pub mod loss;
pub mod matmul;
pub mod neuron;
pub mod norm;
pub mod optim;
pub mod pad;
pub mod panel;
pub mod par;
pub mod pool;
pub mod product;
pub mod reduce;
pub mod spike;
pub mod thin;
pub mod winograd;

use crate::rng::Rng;

/// How a kernel uses a storage buffer, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read `array<f32>`.
    ReadF32,
    /// Read `array<u32>` (packed spikes, labels, counts).
    ReadU32,
    /// Written `array<f32>`.
    WriteF32,
    /// Written `array<u32>`.
    WriteU32,
}

impl Access {
    /// Whether the kernel writes the buffer.
    pub fn is_output(self) -> bool {
        matches!(self, Access::WriteF32 | Access::WriteU32)
    }
    /// Whether the buffer holds floats.
    pub fn is_f32(self) -> bool {
        matches!(self, Access::ReadF32 | Access::WriteF32)
    }
}

/// A flat struct of u32, i32 and f32 whose `repr(C)` layout is that of the WGSL struct `U`; made by [`uniform!`](crate::uniform).
pub trait Uniform: bytemuck::Pod + Send + Sync {
    /// Field names and WGSL types in order.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// Declares a [`Uniform`]: `uniform! { /// doc pub struct AddU { /// doc n: u32 } }`.
#[macro_export]
macro_rules! uniform {
    ($(#[$m:meta])* pub struct $name:ident { $($(#[$fm:meta])* $field:ident : $ty:ident),+ $(,)? }) => {
        $(#[$m])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$fm])* pub $field: $ty),+ }
        impl $crate::kernel::Uniform for $name {
            const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), stringify!($ty))),+];
        }
    };
}

/// The buffers of one CPU launch, inputs and outputs each counted from 0 in the order of [`Kernel::bindings`].
pub struct Args<'a> {
    inputs: Vec<&'a [u32]>,
    outputs: Vec<&'a mut [u32]>,
}

impl<'a> Args<'a> {
    /// Buffers as raw words.
    pub fn new(inputs: Vec<&'a [u32]>, outputs: Vec<&'a mut [u32]>) -> Self {
        Args { inputs, outputs }
    }
    /// Input `i` as floats.
    pub fn f32(&self, i: usize) -> &'a [f32] {
        bytemuck::cast_slice(self.inputs[i])
    }
    /// Input `i` as words.
    pub fn u32(&self, i: usize) -> &'a [u32] {
        self.inputs[i]
    }
    /// Output `i` as floats; each output can be taken once.
    pub fn out_f32(&mut self, i: usize) -> &'a mut [f32] {
        bytemuck::cast_slice_mut(self.out_u32(i))
    }
    /// Output `i` as words; each output can be taken once.
    pub fn out_u32(&mut self, i: usize) -> &'a mut [u32] {
        std::mem::take(&mut self.outputs[i])
    }
}

/// Host data of a [`Case`].
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats.
    F32(Vec<f32>),
    /// Words.
    U32(Vec<u32>),
}

impl Data {
    /// The data as raw words.
    pub fn words(&self) -> &[u32] {
        match self {
            Data::F32(v) => bytemuck::cast_slice(v),
            Data::U32(v) => v,
        }
    }
}

/// One set of inputs on which the twins are compared.
#[derive(Clone, Debug)]
pub struct Case<U> {
    /// What is special about it: `odd channels`, `empty`, `dyadic`.
    pub name: String,
    /// The uniform.
    pub uniform: U,
    /// Inputs in binding order.
    pub inputs: Vec<Data>,
    /// Lengths of the outputs in words.
    pub outputs: Vec<usize>,
    /// Inputs are dyadic, so that every sum is exact and the twins must agree to the bit whatever the kernel's tolerance.
    pub exact: bool,
}

impl<U> Case<U> {
    /// A case under the kernel's tolerance.
    pub fn new(name: impl Into<String>, uniform: U, inputs: Vec<Data>, outputs: Vec<usize>) -> Self {
        Case { name: name.into(), uniform, inputs, outputs, exact: false }
    }
    /// The same case, to be equal to the bit.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
}

/// How far the twins may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all.
    Exact,
    /// By this fraction of the largest magnitude in the CPU twin's output.
    Relative(f32),
}

/// A number of invocations that was counted on the device and is not known to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The input whose first word is the count.
    pub input: usize,
    /// How much of it is taken together.
    pub rows: u32,
    /// Invocations for each such part.
    pub threads: u32,
}

/// A kernel: one WGSL shader and its CPU twin.
pub trait Kernel: Send + Sync + 'static {
    /// The uniform at binding 0.
    type Uniform: Uniform;
    /// `family/kernel`, the stem of its shader.
    fn name(&self) -> &'static str;
    /// What tells this instance from others of the same shader: `lif, sigmoid`.
    fn variant(&self) -> String {
        String::new()
    }
    /// The shader: `include_str!("../../shaders/family/kernel.wgsl")`.
    fn wgsl(&self) -> &'static str;
    /// Texts that replace lines `#import name` in the shader, besides those of `shaders/common`.
    fn imports(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Values of the shader's `override` constants.
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
    /// Storage buffers at bindings 1.., inputs before outputs.
    fn bindings(&self) -> &'static [(&'static str, Access)];
    /// Invocations per workgroup, as in the shader's `@workgroup_size`.
    fn workgroup(&self) -> u32 {
        64
    }
    /// Invocations needed.
    fn threads(&self, u: &Self::Uniform) -> usize;
    /// On a GPU, what `main` is dispatched for where the device has counted that: [`Kernel::threads`] is then the most that it can be. The
    /// shader must bear more invocations than these, for not every adapter can be told by its own memory how many there are.
    fn counted(&self, _: &Self::Uniform) -> Option<Counted> {
        None
    }
    /// On a GPU, whether the outputs are made zero before `main` starts: for a kernel that does not write all that it has outputs for. On
    /// the CPU a twin writes all of its outputs by itself. It is no part of the kernel's time in a profile by timestamps.
    fn cleared(&self) -> bool {
        false
    }
    /// On a GPU, what a second stage takes: words of scratch, and invocations of the entry point `finish`, which starts when `main` has
    /// ended everywhere. The scratch is bound behind the outputs as `scratch`, `array<f32>` or `array<u32>`. For reductions: the groups of
    /// one stage cannot hear of each other.
    fn finish(&self, _: &Self::Uniform) -> Option<[usize; 2]> {
        None
    }
    /// The input over which the CPU twin can write output 0, which is of the same length: where nobody else needs that input it is handed
    /// over, which spares memory and the time to bring it into the caches. The twin then finds an empty slice in its place.
    fn onto(&self) -> Option<usize> {
        None
    }
    /// The CPU twin.
    fn cpu(&self, u: &Self::Uniform, args: &mut Args<'_>);
    /// What parity runs: odd sizes, empty, padding, extremes.
    fn cases(&self) -> Vec<Case<Self::Uniform>>;
    /// How far the twins may differ where a case is not exact.
    fn tolerance(&self) -> Tolerance;
}

/// A [`Kernel`] without its uniform's type: what the registry holds and the GPU launches.
pub trait AnyKernel: Send + Sync {
    /// See [`Kernel::name`].
    fn name(&self) -> &'static str;
    /// Name with the variant: `neuron/forward (lif, sigmoid)`.
    fn label(&self) -> String;
    /// The shader with its imports replaced.
    fn source(&self) -> String;
    /// All that the compiled code depends on, without expanding the source.
    fn pipeline_key(&self) -> PipelineKey;
    /// See [`Kernel::overrides`].
    fn overrides(&self) -> Vec<(&'static str, f64)>;
    /// See [`Kernel::bindings`].
    fn bindings(&self) -> &'static [(&'static str, Access)];
    /// Field names and WGSL types of the uniform.
    fn fields(&self) -> &'static [(&'static str, &'static str)];
    /// See [`Kernel::workgroup`].
    fn workgroup(&self) -> u32;
    /// Invocations for a uniform given as bytes.
    fn threads(&self, uniform: &[u8]) -> usize;
    /// See [`Kernel::counted`].
    fn counted(&self, uniform: &[u8]) -> Option<Counted>;
    /// See [`Kernel::cleared`].
    fn cleared(&self) -> bool;
    /// See [`Kernel::finish`].
    fn finish(&self, uniform: &[u8]) -> Option<[usize; 2]>;
    /// See [`Kernel::onto`].
    fn onto(&self) -> Option<usize>;
    /// Runs the CPU twin.
    fn cpu(&self, uniform: &[u8], args: &mut Args<'_>);
    /// The cases, their uniforms as bytes.
    fn cases(&self) -> Vec<Case<Vec<u8>>>;
    /// See [`Kernel::tolerance`].
    fn tolerance(&self) -> Tolerance;
}

/// What a kernel's compiled code depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineKey {
    wgsl: &'static str,
    imports: Vec<(&'static str, String)>,
    overrides: Vec<(&'static str, u64)>,
}

impl std::hash::Hash for PipelineKey {
    /// Of the shader only where it lies: a key is made for every launch, and shaders are static.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.wgsl.len(), &self.imports, &self.overrides).hash(state);
        self.wgsl.lines().next().hash(state);
    }
}

/// Texts any shader can `#import`.
const COMMON: &[(&str, &str)] = &[
    ("added", include_str!("../../shaders/common/added.wgsl")),
    ("arrivals", include_str!("../../shaders/common/arrivals.wgsl")),
    ("back", include_str!("../../shaders/common/back.wgsl")),
    ("bits", include_str!("../../shaders/common/bits.wgsl")),
    ("fire", include_str!("../../shaders/common/fire.wgsl")),
    ("index", include_str!("../../shaders/common/index.wgsl")),
    ("columns", include_str!("../../shaders/common/columns.wgsl")),
    ("before", include_str!("../../shaders/common/before.wgsl")),
    ("counts", include_str!("../../shaders/common/counts.wgsl")),
    ("keep", include_str!("../../shaders/common/keep.wgsl")),
    ("neighbour", include_str!("../../shaders/common/neighbour.wgsl")),
    ("one_sum", include_str!("../../shaders/common/one_sum.wgsl")),
    ("product", include_str!("../../shaders/common/product.wgsl")),
    ("spike", include_str!("../../shaders/common/spike.wgsl")),
    ("threefry", include_str!("../../shaders/common/threefry.wgsl")),
    ("two_sums", include_str!("../../shaders/common/two_sums.wgsl")),
    ("tiled", include_str!("../../shaders/common/tiled.wgsl")),
    ("walk", include_str!("../../shaders/common/walk.wgsl")),
    ("walk_weight", include_str!("../../shaders/common/walk_weight.wgsl")),
];

impl<K: Kernel> AnyKernel for K {
    fn name(&self) -> &'static str {
        Kernel::name(self)
    }
    fn label(&self) -> String {
        let v = self.variant();
        if v.is_empty() { Kernel::name(self).to_string() } else { format!("{} ({v})", Kernel::name(self)) }
    }
    fn source(&self) -> String {
        let imports = self.imports();
        let find = |name: &str| {
            imports
                .iter()
                .find(|i| i.0 == name)
                .map(|i| i.1.as_str())
                .or_else(|| COMMON.iter().find(|c| c.0 == name).map(|c| c.1))
        };
        expand(self.wgsl(), &find, &[])
    }
    fn pipeline_key(&self) -> PipelineKey {
        PipelineKey {
            wgsl: self.wgsl(),
            imports: self.imports(),
            overrides: Kernel::overrides(self).into_iter().map(|o| (o.0, o.1.to_bits())).collect(),
        }
    }
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        Kernel::overrides(self)
    }
    fn bindings(&self) -> &'static [(&'static str, Access)] {
        Kernel::bindings(self)
    }
    fn fields(&self) -> &'static [(&'static str, &'static str)] {
        K::Uniform::FIELDS
    }
    fn workgroup(&self) -> u32 {
        Kernel::workgroup(self)
    }
    fn threads(&self, uniform: &[u8]) -> usize {
        Kernel::threads(self, &bytemuck::pod_read_unaligned(uniform))
    }
    fn counted(&self, uniform: &[u8]) -> Option<Counted> {
        Kernel::counted(self, &bytemuck::pod_read_unaligned(uniform))
    }
    fn cleared(&self) -> bool {
        Kernel::cleared(self)
    }
    fn finish(&self, uniform: &[u8]) -> Option<[usize; 2]> {
        Kernel::finish(self, &bytemuck::pod_read_unaligned(uniform))
    }
    fn onto(&self) -> Option<usize> {
        Kernel::onto(self)
    }
    fn cpu(&self, uniform: &[u8], args: &mut Args<'_>) {
        Kernel::cpu(self, &bytemuck::pod_read_unaligned(uniform), args)
    }
    fn cases(&self) -> Vec<Case<Vec<u8>>> {
        Kernel::cases(self)
            .into_iter()
            .map(|c| Case {
                name: c.name,
                uniform: bytemuck::bytes_of(&c.uniform).to_vec(),
                inputs: c.inputs,
                outputs: c.outputs,
                exact: c.exact,
            })
            .collect()
    }
    fn tolerance(&self) -> Tolerance {
        Kernel::tolerance(self)
    }
}

/// A text with its imports, and theirs, in place. An import that is missing, or that is being put in place already (`within`), stays in the
/// text, and the reflection test and the pipeline compiler both name the line.
fn expand<'a>(text: &'a str, find: &impl Fn(&str) -> Option<&'a str>, within: &[&str]) -> String {
    let line = |l| match l_import(l).filter(|name| !within.contains(name)).and_then(|name| Some((name, find(name)?))) {
        Some((name, text)) => expand(text, find, &[within, &[name]].concat()),
        None => String::from(l),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn l_import(line: &str) -> Option<&str> {
    line.trim().strip_prefix("#import ").map(str::trim)
}

/// Words that hold a row of `channels` spikes.
pub fn words(channels: usize) -> usize {
    channels.div_ceil(32)
}

/// Runs `f` compiled for the widest vectors of this machine (AVX-512, AVX2 or the baseline, chosen at run time).
///
/// Everything `f` calls on its hot path must be `#[inline(always)]`, and so must the closure itself, or it is compiled for the
/// baseline. Arithmetic is the same on each: multiplications and additions are never contracted.
#[inline(always)]
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    arch().dispatch(f)
}

/// [`simd`] for loops that count bits, with an instruction for that where the widest vectors have one: one in place of some ten.
#[inline(always)]
pub fn simd_counts<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vpopcntdq,popcnt,bmi1,bmi2,lzcnt")]
        unsafe fn counting<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if matches!(arch(), pulp::Arch::V4(_)) && std::is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: this machine has both, and [`pulp::x86::V4`] holds the rest.
            return unsafe { counting(f) };
        }
    }
    simd(f)
}

/// The widest vectors of this machine, for code that names them ([`pulp::WithSimd`]).
#[inline(always)]
pub fn arch() -> pulp::Arch {
    static ARCH: std::sync::OnceLock<pulp::Arch> = std::sync::OnceLock::new();
    *ARCH.get_or_init(pulp::Arch::new)
}

/// Makes the data of cases.
pub struct Gen(Rng);

impl Gen {
    /// A generator for the cases of kernel `name`.
    pub fn new(name: &str) -> Self {
        Gen(Rng::new(0).stream(name))
    }
    /// Uniform floats in [-1, 1).
    pub fn f32s(&mut self, n: usize) -> Data {
        self.range(n, -1.0, 1.0)
    }
    /// Uniform floats in [low, high).
    pub fn range(&mut self, n: usize, low: f64, high: f64) -> Data {
        Data::F32((0..n).map(|_| self.0.uniform(low, high) as f32).collect())
    }
    /// Dyadic floats k/64 in [-1, 1): sums and products of a few thousand of them are exact.
    pub fn dyadic(&mut self, n: usize) -> Data {
        Data::F32((0..n).map(|_| (self.0.below(128) as f32 - 64.0) / 64.0).collect())
    }
    /// Small non-negative integers as floats, most of them zero, as event counts are.
    pub fn counts(&mut self, n: usize) -> Data {
        Data::F32((0..n).map(|_| if self.0.f32() < 0.9 { 0.0 } else { self.0.below(4) as f32 }).collect())
    }
    /// Packed spikes of the given rate, padding bits zero: [rows, words(channels)].
    pub fn bits(&mut self, rows: usize, channels: usize, rate: f32) -> Data {
        let w = words(channels);
        let mut v = vec![0u32; rows * w];
        for r in 0..rows {
            for c in 0..channels {
                v[r * w + c / 32] |= u32::from(self.0.f32() < rate) << (c % 32);
            }
        }
        Data::U32(v)
    }
    /// Integers below `n`.
    pub fn below(&mut self, count: usize, n: usize) -> Data {
        Data::U32((0..count).map(|_| self.0.below(n) as u32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_nest_and_end() {
        let find = |name: &str| {
            let texts = [("a", "1\n  #import b\n#import b"), ("b", "2"), ("c", "3\n#import d"), ("d", "#import c\n4")];
            texts.into_iter().find(|(n, _)| *n == name).map(|(_, text)| text)
        };
        let of = |text| expand(text, &find, &[]);
        assert_eq!(of("0\n#import a\n5"), "0\n1\n2\n2\n5");
        assert_eq!(of("#import c"), "3\n#import c\n4");
        assert_eq!(of("#import z"), "#import z");
    }
}
