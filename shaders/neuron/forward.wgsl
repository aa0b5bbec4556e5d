// Charge, fire and reset over all steps. One invocation a neuron; 32 neighbours of a row make one word of spikes.
struct U {
    steps: u32, rows: u32, c: u32, affine: u32, has_v0: u32, store_v: u32, store_v_seq: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32, detach_reset: u32, alpha: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read> v0: array<f32>;
@group(0) @binding(6) var<storage, read_write> s: array<u32>;
@group(0) @binding(7) var<storage, read_write> v: array<f32>;
@group(0) @binding(8) var<storage, read_write> v_seq: array<f32>;
const WORKGROUP = 64u;
#import index
#import model
// Spikes of 32 steps of each neuron, the first lowest.
var<workgroup> fired: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let word = i / 32u;
    let row = word / words;
    let c = (word % words) * 32u + i % 32u;
    // No early return: every invocation meets the barriers.
    let real = row < u.rows && c < u.c;
    let n = u.rows * u.c;
    let place = row * u.c + c;
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-w[0])); }
    var gain = 1.0;
    var shift = 0.0;
    if (real && u.affine != 0u) { gain = a[c]; shift = b[c]; }
    var m = u.rest;
    if (real && u.has_v0 != 0u) { m = v0[place]; }
    // By 32 steps, so that neighbours meet twice for all of them: each then makes the word of one.
    for (var first = 0u; first < u.steps; first += 32u) {
        let steps = min(32u, u.steps - first);
        var bits = 0u;
        if (real) {
            for (var j = 0u; j < steps; j++) {
                let at = (first + j) * n + place;
                var z = x[at];
                if (u.affine != 0u) { z = gain * z + shift; }
                let h = charge(m, z, k);
                m = h;
                if (h >= u.v_threshold) {
                    bits |= 1u << j;
                    m = select(u.rest, h - u.v_threshold, u.soft != 0u);
                }
                if (u.store_v_seq != 0u) { v_seq[at] = m; }
            }
        }
        fired[lane] = bits;
        workgroupBarrier();
        let mine = i % 32u;
        if (mine < steps && row < u.rows) {
            var all = 0u;
            for (var j = 0u; j < 32u; j++) { all |= ((fired[lane - mine + j] >> mine) & 1u) << j; }
            s[(first + mine) * u.rows * words + word] = all;
        }
        workgroupBarrier();
    }
    if (real && u.store_v != 0u) { v[place] = m; }
}
