// Charge, fire and reset over all steps at the listed places, where the rows of x are compact. One invocation a neuron; 32 neighbours of a
// row make one word of spikes. At an idle step nothing arrives, at a skipped one nothing happens. What is not written is zero.
struct U {
    steps: u32, rows: u32, c: u32, affine: u32, has_v0: u32, store_v: u32, store_v_seq: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32, detach_reset: u32, alpha: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> plan: array<u32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> w: array<f32>;
@group(0) @binding(6) var<storage, read> v0: array<f32>;
@group(0) @binding(7) var<storage, read_write> s: array<u32>;
@group(0) @binding(8) var<storage, read_write> v: array<f32>;
const WORKGROUP = 64u;
const SKIP = 0xffffffffu;
const IDLE = 0xfffffffeu;
#import index
#import model
var<workgroup> spikes: array<atomic<u32>, 2>;
var<workgroup> latest: atomic<u32>;
var<workgroup> steps: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let word = i / 32u;
    let c = (word % words) * 32u + i % 32u;
    let listed = word / words < plan[0];
    var row = 0u;
    if (listed) { row = plan[1u + word / words]; }
    // No early return: every invocation meets the barriers.
    let real = listed && c < u.c;
    let slots = 1u + u.rows + row;
    let place = row * u.c + c;
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-w[0])); }
    var gain = 1.0;
    var shift = 0.0;
    if (real && u.affine != 0u) { gain = a[c]; shift = b[c]; }
    var m = u.rest;
    if (real && u.has_v0 != 0u) { m = v0[place]; }
    // Behind the last step at which anything happens, here and in the workgroup, which ends with it.
    var end = 0u;
    if (real) {
        end = u.steps;
        while (end > 0u && plan[slots + (end - 1u) * u.rows] == SKIP) { end--; }
    }
    if (lane == 0u) { atomicStore(&latest, 0u); }
    workgroupBarrier();
    if (end > 0u) { atomicMax(&latest, end); }
    workgroupBarrier();
    if (lane == 0u) { steps = atomicLoad(&latest); }
    let lived = workgroupUniformLoad(&steps);
    for (var t = 0u; t < lived; t++) {
        if (i % 32u == 0u) { atomicStore(&spikes[lane / 32u], 0u); }
        workgroupBarrier();
        var slot = SKIP;
        if (real) { slot = plan[slots + t * u.rows]; }
        if (slot != SKIP) {
            var z = 0.0;
            if (slot != IDLE) { z = x[slot * u.c + c]; }
            if (u.affine != 0u) { z = gain * z + shift; }
            let h = charge(m, z, k);
            m = h;
            if (h >= u.v_threshold) {
                atomicOr(&spikes[lane / 32u], 1u << (i % 32u));
                m = select(u.rest, h - u.v_threshold, u.soft != 0u);
            }
        }
        workgroupBarrier();
        if (i % 32u == 0u && listed) { s[(t * u.rows + row) * words + word % words] = atomicLoad(&spikes[lane / 32u]); }
    }
    if (real && u.store_v != 0u) { v[place] = m; }
}
