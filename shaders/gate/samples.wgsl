// For every place of a sample whether any gate of the sample is open: one workgroup a sample.
struct U { samples: u32, places: u32, experts: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
var<workgroup> open: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = group.x + group.y * groups.x;
    if (sample >= u.samples) { return; }
    let words = u.places * ((u.experts + 31u) / 32u);
    if (lane == 0u) { atomicStore(&open, 0u); }
    workgroupBarrier();
    var own = 0u;
    for (var i = lane; i < words; i += WORKGROUP) { own |= r[sample * words + i]; }
    if (own != 0u) { atomicStore(&open, 1u); }
    workgroupBarrier();
    let any = atomicLoad(&open);
    for (var i = lane; i < u.places; i += WORKGROUP) { y[sample * u.places + i] = any; }
}
