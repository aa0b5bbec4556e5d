// At the first step of a window the sum of dy over the window, else zero
struct U { steps: u32, size: u32, window: u32, before: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dr: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.steps * u.size) { return; }
    let t = i / u.size;
    var sum = 0.0;
    if ((t + u.before) % u.window == 0u) {
        for (var s = t; s < min(t + u.window, u.steps); s++) { sum += dy[s * u.size + i % u.size]; }
    }
    dr[i] = sum;
}
