// Gradient of the current over all steps. One invocation a neuron: H goes into dz on the way forward in time and is replaced by the
// gradient on the way back, so that no per-invocation array bounds T.
struct U {
    steps: u32, rows: u32, c: u32, affine: u32, has_v0: u32, store_v: u32, store_v_seq: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32, detach_reset: u32, alpha: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> w: array<f32>;
@group(0) @binding(5) var<storage, read> ds: array<f32>;
@group(0) @binding(6) var<storage, read> dv_seq: array<f32>;
@group(0) @binding(7) var<storage, read_write> dz: array<f32>;
@group(0) @binding(8) var<storage, read_write> dw: array<f32>;
const WORKGROUP = 64u;
#import index
#import model
#import surrogate
#import back

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let n = u.rows * u.c;
    if (i >= n) { return; }
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-w[0])); }
    var gain = 1.0;
    var shift = 0.0;
    if (u.affine != 0u) { gain = a[i % u.c]; shift = b[i % u.c]; }
    var m = u.rest;
    for (var t = 0u; t < u.steps; t++) {
        var z = x[t * n + i];
        if (u.affine != 0u) { z = gain * z + shift; }
        let h = charge(m, z, k);
        dz[t * n + i] = h;
        m = reset(h);
    }
    var carry = 0.0;
    var slope = 0.0;
    for (var back = 0u; back < u.steps; back++) {
        let t = u.steps - 1u - back;
        let h = dz[t * n + i];
        var gv = carry;
        if (u.store_v_seq != 0u) { gv += dv_seq[t * n + i]; }
        let gh = dl_dh(h, ds[t * n + i], gv);
        if (u.learned != 0u) {
            var before = u.rest;
            if (t > 0u) { before = reset(dz[(t - 1u) * n + i]); }
            var z = x[t * n + i];
            if (u.affine != 0u) { z = gain * z + shift; }
            slope += gh * dh_dk(before, z);
        }
        carry = gh * dh_dv(k);
        dz[t * n + i] = gh * dh_dx(k);
    }
    if (u.learned != 0u) { dw[i] = slope * k * (1.0 - k); }
}
