// Running statistics move towards those of the batch
struct U { c: u32, momentum: f32, unbias: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> running_mean: array<f32>;
@group(0) @binding(2) var<storage, read> running_var: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> new_mean: array<f32>;
@group(0) @binding(6) var<storage, read_write> new_var: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = index(id, groups);
    if (c >= u.c) { return; }
    new_mean[c] = (1.0 - u.momentum) * running_mean[c] + u.momentum * mean[c];
    new_var[c] = (1.0 - u.momentum) * running_var[c] + u.momentum * variance[c] * u.unbias;
}
