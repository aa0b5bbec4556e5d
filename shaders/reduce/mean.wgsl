// scale times the sum over the n rows of a group. One invocation a column of a group.
struct U { groups: u32, n: u32, c: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.groups * u.c) { return; }
    var sum = 0.0;
    for (var k = 0u; k < u.n; k++) { sum += x[((i / u.c) * u.n + k) * u.c + i % u.c]; }
    y[i] = u.scale * sum;
}
