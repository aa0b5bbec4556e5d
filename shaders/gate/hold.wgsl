// Gates of the first step of a window hold for all of it. One invocation a word, over all steps.
struct U { steps: u32, size: u32, window: u32, before: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read> earlier: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(0) @binding(4) var<storage, read_write> open: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.size) { return; }
    var held = 0u;
    if (u.before > 0u) { held = earlier[i]; }
    for (var t = 0u; t < u.steps; t++) {
        if ((t + u.before) % u.window == 0u) { held = r[t * u.size + i]; }
        y[t * u.size + i] = held;
    }
    for (var t = 0u; t < (u.before + u.steps) % u.window; t++) { open[t * u.size + i] = held; }
}
