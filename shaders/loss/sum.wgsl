// scale times the sum of all: each workgroup sums a run, and then the groups are added up.
struct U { n: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<f32>;
var<workgroup> lanes: array<f32, 256>;

fn parts() -> u32 { return clamp((u.n + 4095u) / 4096u, 1u, 256u); }

fn add_lanes(local: u32, own: f32) {
    lanes[local] = own;
    for (var s = 128u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s) { lanes[local] += lanes[local + s]; }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    let each = (u.n + parts() - 1u) / parts();
    let end = min((id.x + 1u) * each, u.n);
    for (var i = id.x * each + local; i < end; i += 256u) { sum += x[i]; }
    add_lanes(local, sum);
    if (local == 0u) { scratch[id.x] = lanes[0]; }
}

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    if (local < parts()) { sum = scratch[local]; }
    add_lanes(local, sum);
    if (local == 0u) { y[0] = u.scale * lanes[0]; }
}
