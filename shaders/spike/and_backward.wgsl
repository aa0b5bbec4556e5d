// da = dy where b has a spike, db = dy where a has one
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;
@group(0) @binding(5) var<storage, read_write> db: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.rows * u.c) { return; }
    let c = i % u.c;
    let word = (i / u.c) * ((u.c + 31u) / 32u) + c / 32u;
    let g = dy[i];
    da[i] = select(0.0, g, ((b[word] >> (c % 32u)) & 1u) != 0u);
    db[i] = select(0.0, g, ((a[word] >> (c % 32u)) & 1u) != 0u);
}
