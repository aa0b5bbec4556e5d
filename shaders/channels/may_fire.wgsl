// For each channel of a map whether neurons at rest behind it and its norm may ever fire: even if every weight that helps had its spikes, and
// no other, the current of those that may not would stay below zero.
struct U { cin: u32, cout: u32, first: u32, c: u32, planes: u32, has_bias: u32, eps: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read> mean: array<f32>;
@group(0) @binding(6) var<storage, read> variance: array<f32>;
@group(0) @binding(7) var<storage, read_write> may: array<u32>;
const WORKGROUP = 64u;
#import index
var<workgroup> bits: array<atomic<u32>, 2>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = index(id, groups);
    if (lane < 2u) { atomicStore(&bits[lane], 0u); }
    workgroupBarrier();
    if (i < u.c) {
        let c = u.first + i;
        let gain = gamma[c] / sqrt(variance[c] + u.eps);
        // What arrives at most, and all that rounding can be a share of.
        var most = 0.0;
        var size = 0.0;
        for (var k = 0u; k < u.cin; k++) {
            let z = w[k * u.cout + c] * gain;
            most += max(z, 0.0);
            size += abs(z);
        }
        var b = 0.0;
        if (u.has_bias != 0u) { b = bias[c]; }
        let planes = f32(u.planes);
        let shift = beta[c] + (b - mean[c]) * gain;
        let all = planes * size + abs(beta[c]) + (abs(b) + abs(mean[c])) * abs(gain);
        // Whatever is not a number may fire.
        if (!(planes * most + shift + 1e-3 * all < 0.0)) { atomicOr(&bits[lane / 32u], 1u << (lane % 32u)); }
    }
    workgroupBarrier();
    if (i % 32u == 0u && i < u.c) { may[i / 32u] = atomicLoad(&bits[lane / 32u]); }
}
