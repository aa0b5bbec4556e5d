// dx = gamma / sigma (dz - s1 / rows - (x - mean) / sigma^2 s2 / rows); sums [2, c]: s1, s2
struct U { rows: u32, c: u32, eps: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dz: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read> variance: array<f32>;
@group(0) @binding(6) var<storage, read> sums: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let c = i % u.c;
    let inv = 1.0 / sqrt(variance[c] + u.eps);
    let n = 1.0 / f32(u.rows);
    dx[i] = gamma[c] * inv * (dz[i] - sums[c] * n - (x[i] - mean[c]) * (inv * inv * sums[u.c + c] * n));
}
