// y = K^T V for the groups whose tokens are listed, all of them or none: how many tokens a key and a value channel share. One invocation
// a result.
struct U { groups: u32, tokens: u32, dk: u32, dv: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read> count: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = index(id, groups);
    let size = u.dk * u.dv;
    let first = e / size * u.tokens;
    if (first >= count[0]) { return; }
    let row = list[first];
    let i = e / u.dv % u.dk;
    let j = e % u.dv;
    let k_words = (u.dk + 31u) / 32u;
    let v_words = (u.dv + 31u) / 32u;
    var k_at = row * k_words + i / 32u;
    var v_at = row * v_words + j / 32u;
    var shared_ = 0u;
    for (var n = 0u; n < u.tokens; n++) {
        shared_ += k[k_at] >> (i % 32u) & v[v_at] >> (j % 32u) & 1u;
        k_at += k_words;
        v_at += v_words;
    }
    y[row / u.tokens * size + e % size] = f32(shared_);
}
