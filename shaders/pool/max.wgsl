// 3x3 maximum, stride 2, padding 1. One invocation an element of the output.
struct U { images: u32, h: u32, w: u32, c: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let ho = (u.h + 1u) / 2u;
    let wo = (u.w + 1u) / 2u;
    if (i >= u.images * ho * wo * u.c) { return; }
    let c = i % u.c;
    let ox = i / u.c % wo;
    let oy = i / (u.c * wo) % ho;
    let image = i / (u.c * wo * ho);
    // The centre is always inside.
    var best = x[((image * u.h + 2u * oy) * u.w + 2u * ox) * u.c + c];
    for (var dy = 0u; dy < 3u; dy++) {
        let iy = 2u * oy + dy - 1u;
        if (iy >= u.h) { continue; }
        for (var dx = 0u; dx < 3u; dx++) {
            let ix = 2u * ox + dx - 1u;
            if (ix < u.w) { best = max(best, x[((image * u.h + iy) * u.w + ix) * u.c + c]); }
        }
    }
    y[i] = best;
}
