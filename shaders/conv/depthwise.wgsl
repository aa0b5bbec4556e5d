// Depth-wise 3x3 convolution of packed spikes: each channel by its own nine weights [9, c].
struct U { images: u32, h: u32, w: u32, c: u32, splits: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index
#import neighbour

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.images * u.h * u.w * u.c) { return; }
    let c = i % u.c;
    let words = (u.c + 31u) / 32u;
    var sum = 0.0;
    for (var tap = 0u; tap < 9u; tap++) {
        let p = neighbour(i / u.c, tap);
        if (p == OUTSIDE) { continue; }
        if ((x[p * words + c / 32u] >> (c % 32u) & 1u) != 0u) { sum += w[tap * u.c + c]; }
    }
    y[i] = sum;
}
