// Gradient of the current over all steps, and its sums with the input about the mean for the batch norm before the neuron. An invocation
// takes one channel of every eighth row of a part; H goes into dz on the way forward in time and is replaced by the gradient on the way back.
struct U {
    steps: u32, rows: u32, c: u32, affine: u32, has_v0: u32, store_v: u32, store_v_seq: u32, learned: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32, detach_reset: u32, alpha: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read> ds: array<f32>;
@group(0) @binding(6) var<storage, read_write> dz: array<f32>;
// [2, c]
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;
// [parts, 2, c]
@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;
#import model
#import surrogate
#import back

// Parts of the rows: a workgroup of 8 x 32 takes one for 32 channels, 8 rows at a time.
fn parts() -> u32 { return clamp((u.rows + 63u) / 64u, 1u, 1024u); }

// One neuron; returns its share of the sums.
fn neuron(row: u32, c: u32) -> vec2<f32> {
    let i = row * u.c + c;
    let n = u.rows * u.c;
    var m = u.rest;
    for (var t = 0u; t < u.steps; t++) {
        let h = charge(m, a[c] * x[t * n + i] + b[c], u.k);
        dz[t * n + i] = h;
        m = reset(h);
    }
    var carry = 0.0;
    var sum = vec2(0.0);
    for (var back = 0u; back < u.steps; back++) {
        let t = u.steps - 1u - back;
        let h = dz[t * n + i];
        let gh = dl_dh(h, ds[t * n + i], carry);
        carry = gh * dh_dv(u.k);
        let g = gh * dh_dx(u.k);
        dz[t * n + i] = g;
        sum += vec2(g, g * (x[t * n + i] - mean[c]));
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let c = (group / parts()) * 32u + local % 32u;
    let size = (u.rows + parts() - 1u) / parts();
    var sum = vec2(0.0);
    if (c < u.c) {
        for (var row = p * size + local / 32u; row < min((p + 1u) * size, u.rows); row += 8u) { sum += neuron(row, c); }
    }
    add_lanes(local, sum);
    if (local < 32u && c < u.c) {
        scratch[2u * p * u.c + c] = lanes[local].x;
        scratch[(2u * p + 1u) * u.c + c] = lanes[local].y;
    }
}

#import two_sums
