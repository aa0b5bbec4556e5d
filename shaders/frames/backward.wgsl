// Gradient of the current over all steps, and its sum, of neurons behind a convolution of event frames: the currents are made again. An
// invocation takes one channel of every eighth row of a part; H goes into dz on the way forward in time and is replaced by the gradient on
// the way back.
struct U {
    images: u32, h: u32, w: u32, cin: u32, cout: u32, steps: u32,
    k: f32, rest: f32, v_threshold: f32, soft: u32, decay_input: u32, detach_reset: u32, alpha: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> ds: array<f32>;
@group(0) @binding(6) var<storage, read_write> dz: array<f32>;
@group(0) @binding(7) var<storage, read_write> sum: array<f32>;
// [parts, c]
@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;
#import neighbour
#import model
#import surrogate
#import back

fn rows() -> u32 { return u.images / max(u.steps, 1u) * u.h * u.w; }
// Parts of the rows: a workgroup of 8 x 32 takes one for 32 channels, 8 rows at a time.
fn parts() -> u32 { return clamp((rows() + 63u) / 64u, 1u, 1024u); }

// The current of channel c at pixel i of all images.
fn current(i: u32, c: u32) -> f32 {
    var y = 0.0;
    for (var tap = 0u; tap < 9u; tap++) {
        let p = neighbour(i, tap);
        if (p == OUTSIDE) { continue; }
        for (var ci = 0u; ci < u.cin; ci++) {
            let value = x[p * u.cin + ci];
            if (value != 0.0) { y += value * w[(tap * u.cin + ci) * u.cout + c]; }
        }
    }
    return y;
}

// One neuron; returns its share of the sum.
fn neuron(row: u32, c: u32) -> f32 {
    var m = u.rest;
    for (var t = 0u; t < u.steps; t++) {
        let i = t * rows() + row;
        let h = charge(m, a[c] * current(i, c) + b[c], u.k);
        dz[i * u.cout + c] = h;
        m = reset(h);
    }
    var carry = 0.0;
    var own = 0.0;
    for (var back = 0u; back < u.steps; back++) {
        let i = ((u.steps - 1u - back) * rows() + row) * u.cout + c;
        let h = dz[i];
        let gh = dl_dh(h, ds[i], carry);
        carry = gh * dh_dv(u.k);
        let g = gh * dh_dx(u.k);
        dz[i] = g;
        own += g;
    }
    return own;
}

fn width() -> u32 { return u.cout; }
fn put(c: u32, all: f32) { sum[c] = all; }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let c = (group / parts()) * 32u + local % 32u;
    let size = (rows() + parts() - 1u) / parts();
    var own = 0.0;
    if (c < u.cout) {
        for (var row = p * size + local / 32u; row < min((p + 1u) * size, rows()); row += 8u) { own += neuron(row, c); }
    }
    leave(p, c, local, own);
}

#import one_sum
