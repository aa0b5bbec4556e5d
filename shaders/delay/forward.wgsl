// y[t, row, k c + i] = the input `k stride` steps before, where the past lies before x.
struct U { steps: u32, rows: u32, c: u32, taps: u32, stride: u32, past: u32, first: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> past: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.steps * u.rows * u.c * u.taps) { return; }
    let channel = i % u.c;
    let k = i / u.c % u.taps;
    let row = i / (u.c * u.taps);
    let t = u.first + row / u.rows - k * u.stride;
    let place = row % u.rows * u.c + channel;
    let n = u.rows * u.c;
    if (t < u.past) { y[i] = past[t * n + place]; } else { y[i] = x[(t - u.past) * n + place]; }
}
