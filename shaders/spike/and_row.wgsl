// y[group, n] = a[group, n] & g[group]
struct U { groups: u32, n: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> g: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    if (i >= u.groups * u.n * words) { return; }
    let group = i / (u.n * words);
    y[i] = a[i] & g[group * words + i % words];
}
