// The gradient of a window goes to its first maximum in row-major order. One invocation an element of dx: it asks each window that sees
// it, in row-major order, who won.
struct U { images: u32, h: u32, w: u32, c: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
const WORKGROUP = 64u;
#import index

// Place of the winner of a window, as y * w + x.
fn winner(image: u32, oy: u32, ox: u32, c: u32) -> u32 {
    var first = 0xffffffffu;
    var best = 0.0;
    for (var ky = 0u; ky < 3u; ky++) {
        let iy = 2u * oy + ky - 1u;
        if (iy >= u.h) { continue; }
        for (var kx = 0u; kx < 3u; kx++) {
            let ix = 2u * ox + kx - 1u;
            if (ix >= u.w) { continue; }
            let place = iy * u.w + ix;
            let v = x[(image * u.h * u.w + place) * u.c + c];
            if (first == 0xffffffffu || v > best) {
                first = place;
                best = v;
            }
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
            if (winner(image, oy, ox, c) == here) { sum += dy[((image * ho + oy) * wo + ox) * u.c + c]; }
        }
    }
    dx[i] = sum;
}
