// 3x3 maximum of spikes, stride 2, padding 1: an OR. One invocation a word of the output.
struct U { images: u32, h: u32, w: u32, c: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let ho = (u.h + 1u) / 2u;
    let wo = (u.w + 1u) / 2u;
    if (i >= u.images * ho * wo * words) { return; }
    let word = i % words;
    let ox = i / words % wo;
    let oy = i / (words * wo) % ho;
    let image = i / (words * wo * ho);
    var any = 0u;
    // Unsigned subtraction: the row and column before the first wrap round and count as outside.
    for (var dy = 0u; dy < 3u; dy++) {
        let iy = 2u * oy + dy - 1u;
        if (iy >= u.h) { continue; }
        for (var dx = 0u; dx < 3u; dx++) {
            let ix = 2u * ox + dx - 1u;
            if (ix < u.w) { any |= x[((image * u.h + iy) * u.w + ix) * words + word]; }
        }
    }
    y[i] = any;
}
