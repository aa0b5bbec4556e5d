// Packed spikes [planes, images, h, w, words(cin)] through a 3x3 convolution into neurons: for each spike a row of weights is added.
struct U {
    images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, steps: u32, has_v0: u32, store_v: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> tau: array<f32>;
@group(0) @binding(6) var<storage, read> v0: array<f32>;
@group(0) @binding(7) var<storage, read_write> s: array<u32>;
@group(0) @binding(8) var<storage, read_write> v: array<f32>;
#import neighbour
#import model
#import bits
fn size() -> vec4<u32> { return vec4<u32>(u.images * u.h * u.w, u.cout, 9u * u.cin, 1u); }
fn load_b(k: u32, j: u32) -> f32 { return w[k * u.cout + j]; }
#import fire
