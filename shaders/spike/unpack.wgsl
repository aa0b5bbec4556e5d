// The sum of the planes as floats
struct U { rows: u32, c: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let c = i % u.c;
    let words = (u.c + 31u) / 32u;
    let at = (i / u.c) * words + c / 32u;
    var sum = 0u;
    for (var p = 0u; p < u.planes; p++) { sum += (x[p * u.rows * words + at] >> (c % 32u)) & 1u; }
    y[i] = f32(sum);
}
