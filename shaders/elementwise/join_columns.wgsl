// The columns of a, then those of b
struct U { rows: u32, c: u32, first: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let row = i / u.c;
    let c = i % u.c;
    if (c < u.first) { x[i] = a[row * u.first + c]; } else { x[i] = b[row * (u.c - u.first) + c - u.first]; }
}
