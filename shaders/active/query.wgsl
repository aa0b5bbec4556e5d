// y = scale q kv for the listed rows of q: each spike of a query adds a row of its group's kv. One invocation a column.
struct U { rows: u32, tokens: u32, dk: u32, dv: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> list: array<u32>;
@group(0) @binding(3) var<storage, read> count: array<u32>;
@group(0) @binding(4) var<storage, read> kv: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= count[0] * u.dv) { return; }
    let row = list[i / u.dv];
    let words = (u.dk + 31u) / 32u;
    let at = row / u.tokens * u.dk * u.dv + i % u.dv;
    var sum = 0.0;
    for (var k = 0u; k < words; k++) {
        var word = q[row * words + k];
        while (word != 0u) {
            sum += kv[at + (k * 32u + firstTrailingBit(word)) * u.dv];
            word &= word - 1u;
        }
    }
    y[i] = u.scale * sum;
}
