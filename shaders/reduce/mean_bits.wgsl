// scale times the number of spikes over the n rows and all planes of a group. One invocation a column of a group.
struct U { groups: u32, n: u32, c: u32, planes: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.groups * u.c) { return; }
    let group = i / u.c;
    let c = i % u.c;
    let words = (u.c + 31u) / 32u;
    var count = 0u;
    for (var p = 0u; p < u.planes; p++) {
        for (var k = 0u; k < u.n; k++) {
            let row = (p * u.groups + group) * u.n + k;
            count += (x[row * words + c / 32u] >> (c % 32u)) & 1u;
        }
    }
    y[i] = u.scale * f32(count);
}
