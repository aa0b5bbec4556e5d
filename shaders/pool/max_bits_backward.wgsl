// The gradient of a window goes to its first maximum in row-major order, which is its first place inside the image when it has no spike
// (where PyTorch's MaxPool2d sends ties); the value of a place is the number of planes with a spike there. One invocation an element of dx: it asks each window that sees it, in row-major order, who won.
struct U { images: u32, h: u32, w: u32, c: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
const WORKGROUP = 64u;
#import index

// Place of the winner of a window, as y * w + x.
fn winner(image: u32, oy: u32, ox: u32, word: u32, bit: u32) -> u32 {
    let words = (u.c + 31u) / 32u;
    var first = 0u;
    // One more than its value, 0 for none.
    var most = 0u;
    for (var ky = 0u; ky < 3u; ky++) {
        let iy = 2u * oy + ky - 1u;
        if (iy >= u.h) { continue; }
        for (var kx = 0u; kx < 3u; kx++) {
            let ix = 2u * ox + kx - 1u;
            if (ix >= u.w) { continue; }
            let place = iy * u.w + ix;
            var value = 1u;
            for (var q = 0u; q < u.planes; q++) {
                value += (x[((q * u.images + image) * u.h * u.w + place) * words + word] >> bit) & 1u;
            }
            // Nothing is more than all planes.
            if (value > u.planes) { return place; }
            if (value > most) { most = value; first = place; }
        }
    }
    return first;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.images * u.h * u.w * u.c) { return; }
    let ho = (u.h + 1u) / 2u;
    let wo = (u.w + 1u) / 2u;
    let c = i % u.c;
    let ix = i / u.c % u.w;
    let iy = i / (u.c * u.w) % u.h;
    let image = i / (u.c * u.w * u.h);
    let here = iy * u.w + ix;
    var sum = 0.0;
    for (var oy = iy / 2u; oy <= min((iy + 1u) / 2u, ho - 1u); oy++) {
        for (var ox = ix / 2u; ox <= min((ix + 1u) / 2u, wo - 1u); ox++) {
            if (winner(image, oy, ox, c / 32u, c % 32u) == here) { sum += dy[((image * ho + oy) * wo + ox) * u.c + c]; }
        }
    }
    dx[i] = sum;
}
