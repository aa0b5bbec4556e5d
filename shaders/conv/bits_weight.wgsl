// Weight gradient of a 3x3 convolution of packed spikes, over the split's run of images.
struct U { images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, splits: u32, exact: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(9u * u.cin, u.cout, u.images * u.h * u.w, u.splits); }
fn unit() -> u32 { return u.h * u.w; }
#import neighbour
#import spike
fn load_a(i: u32, k: u32) -> f32 {
    let p = neighbour(k, i / u.cin);
    if (p == OUTSIDE) { return 0.0; }
    return spike(p, i % u.cin);
}
fn load_b(k: u32, j: u32) -> f32 { return dy[k * u.cout + j]; }
fn store(split: u32, i: u32, j: u32, v: f32) { dw[(split * 9u * u.cin + i) * u.cout + j] = v; }
#import keep
#import walk_weight
