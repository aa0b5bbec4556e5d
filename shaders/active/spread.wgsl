// y[t, p] = x[t, from[first + p]]: rows of n words. One invocation a word.
struct U { steps: u32, rows: u32, n: u32, first: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> from_: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.steps * u.rows * u.n) { return; }
    let row = i / u.n;
    y[i] = x[(row / u.rows * u.rows + from_[u.first + row % u.rows]) * u.n + i % u.n];
}
