// Each row of a group gets scale times the group's gradient
struct U { groups: u32, n: u32, c: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.groups * u.n * u.c) { return; }
    dx[i] = u.scale * dy[i / (u.n * u.c) * u.c + i % u.c];
}
