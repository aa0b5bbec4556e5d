// y[split] = A B (+ bias); A is [m, k], or [k, m] with ta; B is [k, n], or [n, k] with tb.
struct U { m: u32, k: u32, n: u32, ta: u32, tb: u32, has_bias: u32, splits: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(u.m, u.n, u.k, u.splits); }
fn unit() -> u32 { return 1u; }
fn load_a(i: u32, k: u32) -> f32 {
    if (u.ta != 0u) { return a[k * u.m + i]; }
    return a[i * u.k + k];
}
fn load_b(k: u32, j: u32) -> f32 {
    if (u.tb != 0u) { return b[j * u.k + k]; }
    return b[k * u.n + j];
}
fn store(split: u32, i: u32, j: u32, v: f32) {
    var r = v;
    if (u.has_bias != 0u) { r += bias[j]; }
    y[(split * u.m + i) * u.n + j] = r;
}
#import keep
#import tiled
