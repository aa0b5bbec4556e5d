// y = X w (+ bias) for the listed columns of w, X the sum of planes of packed spikes [planes, rows, words(cin)]. Rows of y are as long as
// the list.
struct U { rows: u32, planes: u32, cin: u32, cout: u32, first: u32, c: u32, has_bias: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> list: array<u32>;
@group(0) @binding(3) var<storage, read> count: array<u32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(u.rows, count[0], u.cin, 1u); }
fn load_b(k: u32, j: u32) -> f32 { return w[k * u.cout + u.first + list[j]]; }
fn store(split: u32, i: u32, j: u32, v: f32) {
    var r = v;
    if (u.has_bias != 0u) { r += bias[u.first + list[j]]; }
    y[i * count[0] + j] = r;
}
fn source(i: u32) -> u32 { return i; }
#import keep
#import walk
