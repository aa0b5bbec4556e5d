// Mean and biased variance of each output channel, from the moments of the patches.
struct U { rows: u32, k: u32, c: u32, eps: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> moments: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> variance: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = index(id, groups);
    if (c >= u.c) { return; }
    let n = 1.0 / f32(max(u.rows, 1u));
    var m = 0.0;
    var square = 0.0;
    for (var i = 0u; i < u.k; i++) {
        let about = moments[i] * n;
        // Of the covariance of the taps, so that a large mean costs no digits here.
        var row = 0.0;
        for (var j = 0u; j < u.k; j++) { row += (moments[(1u + i) * u.k + j] * n - about * (moments[j] * n)) * w[j * u.c + c]; }
        m += about * w[i * u.c + c];
        square += row * w[i * u.c + c];
    }
    mean[c] = m;
    variance[c] = max(square, 0.0);
}
