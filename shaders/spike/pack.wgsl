// One bit a number, set where it is not zero. 32 neighbours of a row make one word.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index
var<workgroup> spikes: array<atomic<u32>, 2>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let word = i / 32u;
    let row = word / words;
    let c = (word % words) * 32u + i % 32u;
    if (i % 32u == 0u) { atomicStore(&spikes[local / 32u], 0u); }
    workgroupBarrier();
    if (row < u.rows && c < u.c) {
        if (x[row * u.c + c] != 0.0) { atomicOr(&spikes[local / 32u], 1u << (i % 32u)); }
    }
    workgroupBarrier();
    if (i % 32u == 0u && row < u.rows) { y[word] = atomicLoad(&spikes[local / 32u]); }
}
