// y[group] = x[index[group]], zeros where the index is the largest there is
struct U { groups: u32, n: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.groups * u.n) { return; }
    let source = indices[i / u.n];
    var word = 0u;
    if (source != 0xffffffffu) { word = x[source * u.n + i % u.n]; }
    y[i] = word;
}
