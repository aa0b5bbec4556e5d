// y = the row of x where the router chose the expert, else zeros
struct U { rows: u32, c: u32, experts: u32, expert: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let route = r[(i / u.c) * ((u.experts + 31u) / 32u) + u.expert / 32u];
    y[i] = select(0.0, x[i], ((route >> (u.expert % 32u)) & 1u) != 0u);
}
