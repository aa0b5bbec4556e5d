// y[row] = k[row] x[row], zeros where k is zero
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let scale = k[i / u.c];
    var value = 0.0;
    if (scale != 0.0) { value = scale * x[i]; }
    y[i] = value;
}
