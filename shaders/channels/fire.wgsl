// Charge, fire and reset over all steps, where x has the listed channels alone. One invocation a neuron of any channel; 32 neighbours of a
// row make one word of spikes, and those of channels that are not listed are silent: what is not written is zero.
struct U {
    steps: u32, rows: u32, c: u32, first: u32, affine: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> count: array<u32>;
@group(0) @binding(4) var<storage, read> a: array<f32>;
@group(0) @binding(5) var<storage, read> b: array<f32>;
@group(0) @binding(6) var<storage, read> w: array<f32>;
@group(0) @binding(7) var<storage, read_write> s: array<u32>;
const WORKGROUP = 64u;
const SKIP = 0xffffffffu;
#import index
#import model
#import added
var<workgroup> spikes: array<atomic<u32>, 2>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let word = i / 32u;
    let row = word / words;
    let bit = i % 32u;
    let c = (word % words) * 32u + bit;
    // No early return: every invocation meets the barriers.
    var slot = SKIP;
    if (row < u.rows && c < u.c) { slot = slots[c]; }
    // Where no channel of the workgroup is listed there are no steps to go through.
    let lived = select(0u, u.steps, added(u32(slot != SKIP), lane) != 0u);
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-w[0])); }
    var gain = 1.0;
    var shift = 0.0;
    if (slot != SKIP && u.affine != 0u) { gain = a[u.first + c]; shift = b[u.first + c]; }
    var m = u.rest;
    for (var t = 0u; t < lived; t++) {
        if (bit == 0u) { atomicStore(&spikes[lane / 32u], 0u); }
        workgroupBarrier();
        if (slot != SKIP) {
            var z = x[(t * u.rows + row) * count[0] + slot];
            if (u.affine != 0u) { z = gain * z + shift; }
            let h = charge(m, z, k);
            m = h;
            if (h >= u.v_threshold) {
                atomicOr(&spikes[lane / 32u], 1u << bit);
                m = select(u.rest, h - u.v_threshold, u.soft != 0u);
            }
        }
        workgroupBarrier();
        if (bit == 0u && row < u.rows) { s[t * u.rows * words + word] = atomicLoad(&spikes[lane / 32u]); }
    }
}
