// The gradient of a 3x3 convolution's input, as an implicit product: row i is a pixel, k = tap * cout + co. It is the convolution of dy
// with the weights turned round, channels and taps.
struct U { images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, splits: u32, exact: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(u.images * u.h * u.w, u.cin, 9u * u.cout, 1u); }
fn unit() -> u32 { return 1u; }
#import neighbour
fn load_a(i: u32, k: u32) -> f32 {
    let p = neighbour(i, k / u.cout);
    if (p == OUTSIDE) { return 0.0; }
    return dy[p * u.cout + k % u.cout];
}
fn load_b(k: u32, j: u32) -> f32 { return w[((8u - k / u.cout) * u.cin + j) * u.cout + k % u.cout]; }
fn store(split: u32, i: u32, j: u32, v: f32) { dx[i * u.cin + j] = v; }
#import keep
#import tiled
