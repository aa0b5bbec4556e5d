// y = x / keep where a random word of the place is below the limit, else 0; the places repeat every `period` elements.
struct U { n: u32, period: u32, key0: u32, key1: u32, limit: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index
#import threefry

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.n) { return; }
    let word = threefry(vec2<u32>(u.key0, u.key1), vec2<u32>(i % u.period, 0u)).x;
    y[i] = select(0.0, u.scale * x[i], word < u.limit);
}
