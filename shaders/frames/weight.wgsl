// Gradient of the weights of a convolution through the batch norm behind it, from the moments of the patches.
struct U { rows: u32, k: u32, c: u32, eps: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> moments: array<f32>;
@group(0) @binding(2) var<storage, read> dw_z: array<f32>;
// [2, c]
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read> gamma: array<f32>;
@group(0) @binding(6) var<storage, read> mean: array<f32>;
@group(0) @binding(7) var<storage, read> variance: array<f32>;
@group(0) @binding(8) var<storage, read_write> dw: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = index(id, groups);
    if (e >= u.k * u.c) { return; }
    let c = e % u.c;
    let tap = e / u.c;
    let n = 1.0 / f32(max(u.rows, 1u));
    var y = 0.0;
    for (var j = 0u; j < u.k; j++) { y += moments[(1u + tap) * u.k + j] * w[j * u.c + c]; }
    let inv = 1.0 / sqrt(variance[c] + u.eps);
    let by_variance = inv * inv * sums[u.c + c] * n * (y - mean[c] * moments[tap]);
    dw[e] = gamma[c] * inv * (dw_z[e] - sums[c] * n * moments[tap] - by_variance);
}
