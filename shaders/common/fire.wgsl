// Neurons behind a 3x3 convolution, all steps. One invocation a neuron, whose membrane stays in a register; 32 neighbours make one word
// of spikes. The importing shader says what arrives: arrive(p, tap, c, y) adds pixel p's part of channel c, under that tap, to y.
const WORKGROUP = 64u;
var<workgroup> spikes: array<atomic<u32>, 2>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    let words = (u.cout + 31u) / 32u;
    let rows = u.images / max(u.steps, 1u) * u.h * u.w;
    let word = i / 32u;
    let row = word / words;
    let c = (word % words) * 32u + i % 32u;
    // No early return: every invocation meets the barriers.
    let real = row < rows && c < u.cout;
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-tau[0])); }
    var gain = 0.0;
    var shift = 0.0;
    if (real) { gain = a[c]; shift = b[c]; }
    var m = u.rest;
    if (real && u.has_v0 != 0u) { m = v0[row * u.cout + c]; }
    for (var t = 0u; t < u.steps; t++) {
        if (i % 32u == 0u) { atomicStore(&spikes[lane / 32u], 0u); }
        workgroupBarrier();
        if (real) {
            var y = 0.0;
            for (var tap = 0u; tap < 9u; tap++) {
                let p = neighbour(t * rows + row, tap);
                if (p != OUTSIDE) { y = arrive(p, tap, c, y); }
            }
            let h = charge(m, gain * y + shift, k);
            m = h;
            if (h >= u.v_threshold) {
                atomicOr(&spikes[lane / 32u], 1u << (i % 32u));
                m = select(u.rest, h - u.v_threshold, u.soft != 0u);
            }
        }
        workgroupBarrier();
        if (i % 32u == 0u && row < rows) { s[t * rows * words + word] = atomicLoad(&spikes[lane / 32u]); }
    }
    if (real && u.store_v != 0u) { v[row * u.cout + c] = m; }
}
