// Weight gradient of a depth-wise 3x3 convolution of packed spikes, over the split's run of pixels: dw[split, tap, c].
struct U { images: u32, h: u32, w: u32, c: u32, splits: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;
const WORKGROUP = 64u;
#import index
#import neighbour

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.splits * 9u * u.c) { return; }
    let c = i % u.c;
    let tap = i / u.c % 9u;
    let split = i / (9u * u.c);
    let words = (u.c + 31u) / 32u;
    let pixels = u.images * u.h * u.w;
    let chunk = (pixels + u.splits - 1u) / u.splits;
    let first = min(split * chunk, pixels);
    let end = min(first + chunk, pixels);
    var sum = 0.0;
    for (var q = first; q < end; q++) {
        let p = neighbour(q, tap);
        if (p == OUTSIDE) { continue; }
        if ((x[p * words + c / 32u] >> (c % 32u) & 1u) != 0u) { sum += dy[q * u.c + c]; }
    }
    dw[i] = sum;
}
