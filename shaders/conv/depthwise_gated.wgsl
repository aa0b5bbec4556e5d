// Depth-wise 3x3 convolution, neurons and their gates in one, all steps: s = gate AND fire(a conv(x) + b). One invocation a neuron, which
// lives until its gate is open for the last time; 32 neighbours make one word of spikes. What is not written is zero.
struct U {
    images: u32, h: u32, w: u32, c: u32, steps: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> gate: array<u32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read> a: array<f32>;
@group(0) @binding(5) var<storage, read> b: array<f32>;
@group(0) @binding(6) var<storage, read> tau: array<f32>;
// Read by the dispatch alone.
@group(0) @binding(7) var<storage, read> open: array<u32>;
@group(0) @binding(8) var<storage, read_write> s: array<u32>;
const WORKGROUP = 64u;
#import index
#import neighbour
#import model
var<workgroup> spikes: array<atomic<u32>, 2>;
var<workgroup> latest: atomic<u32>;
var<workgroup> steps: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let rows = u.images / max(u.steps, 1u) * u.h * u.w;
    let word = i / 32u;
    let row = word / words;
    let bit = i % 32u;
    let c = (word % words) * 32u + bit;
    // No early return: every invocation meets the barriers.
    let real = row < rows && c < u.c;
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-tau[0])); }
    var gain = 0.0;
    var shift = 0.0;
    // Behind the last step at which the gate is open.
    var end = 0u;
    if (real) {
        gain = a[c];
        shift = b[c];
        end = u.steps;
        while (end > 0u && (gate[(end - 1u) * rows * words + word] >> bit & 1u) == 0u) { end--; }
    }
    // The last of the workgroup's: nobody waits for steps that none of its neurons lives to see.
    if (lane == 0u) { atomicStore(&latest, 0u); }
    workgroupBarrier();
    if (end > 0u) { atomicMax(&latest, end); }
    workgroupBarrier();
    if (lane == 0u) { steps = atomicLoad(&latest); }
    let lived = workgroupUniformLoad(&steps);
    var m = u.rest;
    for (var t = 0u; t < lived; t++) {
        if (bit == 0u) { atomicStore(&spikes[lane / 32u], 0u); }
        workgroupBarrier();
        if (t < end) {
            var y = 0.0;
            for (var tap = 0u; tap < 9u; tap++) {
                let p = neighbour(t * rows + row, tap);
                if (p != OUTSIDE && (x[p * words + c / 32u] >> bit & 1u) != 0u) { y += w[tap * u.c + c]; }
            }
            let h = charge(m, gain * y + shift, k);
            m = h;
            if (h >= u.v_threshold) {
                atomicOr(&spikes[lane / 32u], 1u << bit);
                m = select(u.rest, h - u.v_threshold, u.soft != 0u);
            }
        }
        workgroupBarrier();
        if (bit == 0u && row < rows) {
            let at = t * rows * words + word;
            s[at] = atomicLoad(&spikes[lane / 32u]) & gate[at];
        }
    }
}
