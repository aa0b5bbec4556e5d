// x with column i replaced by d
struct U { rows: u32, m: u32, i: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> d: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = index(id, groups);
    if (k >= u.rows * u.m) { return; }
    if (k % u.m == u.i) { y[k] = d[k / u.m]; } else { y[k] = x[k]; }
}
