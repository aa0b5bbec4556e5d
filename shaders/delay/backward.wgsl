// dx[t, row, i] = sum over k of dy[t + k stride, row, k c + i], as far as there are steps.
struct U { steps: u32, rows: u32, c: u32, taps: u32, stride: u32, past: u32, first: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.steps * u.rows * u.c) { return; }
    let channel = i % u.c;
    let row = i / u.c % u.rows;
    let t = i / (u.c * u.rows);
    var sum = 0.0;
    for (var k = 0u; k < u.taps && t + k * u.stride < u.steps; k++) {
        sum += dy[((t + k * u.stride) * u.rows + row) * u.c * u.taps + k * u.c + channel];
    }
    dx[i] = sum;
}
