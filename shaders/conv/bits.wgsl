// 3x3 convolution of packed spikes [planes, images, h, w, words(cin)], as an implicit product: k = tap * cin + ci.
struct U { images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, splits: u32, exact: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(u.images * u.h * u.w, u.cout, 9u * u.cin, 1u); }
#import neighbour
#import bits
fn load_b(k: u32, j: u32) -> f32 { return w[k * u.cout + j]; }
fn store(split: u32, i: u32, j: u32, v: f32) { y[i * u.cout + j] = v; }
#import arrivals
#import keep
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_of(group.x + group.y * groups.x);
    if (exists(at)) { keep(at, lane, convolve(at, min(size().x - at.y, TILE), lane)); }
}
