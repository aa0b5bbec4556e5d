// y = the row of a where the router chose the expert, else nothing
struct U { rows: u32, c: u32, experts: u32, expert: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read> a: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    if (i >= u.rows * words) { return; }
    let route = r[(i / words) * ((u.experts + 31u) / 32u) + u.expert / 32u];
    let open = ((route >> (u.expert % 32u)) & 1u) != 0u;
    y[i] = select(0u, a[i], open);
}
