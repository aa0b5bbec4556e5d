// Sums of dz and of dz (y - mean) of each output channel, y the currents that w makes of the patches.
struct U { rows: u32, k: u32, c: u32, eps: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> dw_z: array<f32>;
@group(0) @binding(2) var<storage, read> sum: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
// [2, c]
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = index(id, groups);
    if (c >= u.c) { return; }
    var products = 0.0;
    for (var k = 0u; k < u.k; k++) { products += dw_z[k * u.c + c] * w[k * u.c + c]; }
    sums[c] = sum[c];
    sums[u.c + c] = products - mean[c] * sum[c];
}
