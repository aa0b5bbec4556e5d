// da = dy where g has a spike, dg = sum of dy over the rows of the group where a has one. One invocation a column of a group.
struct U { groups: u32, n: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> g: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;
@group(0) @binding(5) var<storage, read_write> dg: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.groups * u.c) { return; }
    let group = i / u.c;
    let c = i % u.c;
    let words = (u.c + 31u) / 32u;
    let open = ((g[group * words + c / 32u] >> (c % 32u)) & 1u) != 0u;
    var sum = 0.0;
    for (var k = 0u; k < u.n; k++) {
        let row = group * u.n + k;
        let d = dy[row * u.c + c];
        da[row * u.c + c] = select(0.0, d, open);
        sum += select(0.0, d, ((a[row * words + c / 32u] >> (c % 32u)) & 1u) != 0u);
    }
    dg[i] = sum;
}
