// y = for each expert the rows where the router chose it, else nothing, one plane behind the other
struct U { rows: u32, c: u32, experts: u32, first: u32, n: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read> a0: array<u32>;
@group(0) @binding(3) var<storage, read> a1: array<u32>;
@group(0) @binding(4) var<storage, read> a2: array<u32>;
@group(0) @binding(5) var<storage, read> a3: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let plane = u.rows * words;
    if (i >= u.n * plane) { return; }
    let at = i % plane;
    let expert = u.first + i / plane;
    let route = r[(at / words) * ((u.experts + 31u) / 32u) + expert / 32u];
    var spikes = 0u;
    if (((route >> (expert % 32u)) & 1u) != 0u) {
        switch i / plane {
            case 0u: { spikes = a0[at]; }
            case 1u: { spikes = a1[at]; }
            case 2u: { spikes = a2[at]; }
            default: { spikes = a3[at]; }
        }
    }
    y[i] = spikes;
}
