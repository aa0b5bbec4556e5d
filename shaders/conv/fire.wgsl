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
#import index
#import neighbour
#import model
fn arrive(p: u32, tap: u32, c: u32, sum: f32) -> f32 {
    let words = (u.cin + 31u) / 32u;
    let pixels = u.images * u.h * u.w;
    var y = sum;
    for (var q = 0u; q < u.planes; q++) {
        for (var i = 0u; i < words; i++) {
            // The same for all neurons of a place, so that invocations seldom part ways.
            var bits = x[(q * pixels + p) * words + i];
            while (bits != 0u) {
                let ci = i * 32u + firstTrailingBit(bits);
                bits &= bits - 1u;
                y += w[(tap * u.cin + ci) * u.cout + c];
            }
        }
    }
    return y;
}
#import fire
