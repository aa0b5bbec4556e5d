// Products of one head of one sample and step: y = scale A B, both given by strides in elements. An operand of packed spikes is addressed
// as if each of its words were 32 elements.
struct U {
    groups: u32, heads: u32, m: u32, n: u32, k: u32, a_bits: u32, b_bits: u32,
    a_group: u32, a_head: u32, a_row: u32, a_col: u32,
    b_group: u32, b_head: u32, b_row: u32, b_col: u32,
    y_group: u32, y_head: u32, y_row: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> a_spikes: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> b_spikes: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = index(id, groups);
    let j = e % u.n;
    let i = e / u.n % u.m;
    let head = e / (u.n * u.m) % u.heads;
    let group = e / (u.n * u.m * u.heads);
    if (group >= u.groups) { return; }
    let a0 = group * u.a_group + head * u.a_head + i * u.a_row;
    let b0 = group * u.b_group + head * u.b_head + j * u.b_col;
    var sum = 0.0;
    for (var k = 0u; k < u.k; k++) {
        let ai = a0 + k * u.a_col;
        let bi = b0 + k * u.b_row;
        var av: f32;
        if (u.a_bits != 0u) { av = f32(a_spikes[ai / 32u] >> (ai % 32u) & 1u); } else { av = a[ai]; }
        var bv: f32;
        if (u.b_bits != 0u) { bv = f32(b_spikes[bi / 32u] >> (bi % 32u) & 1u); } else { bv = b[bi]; }
        sum += av * bv;
    }
    y[group * u.y_group + head * u.y_head + i * u.y_row + j] = u.scale * sum;
}
