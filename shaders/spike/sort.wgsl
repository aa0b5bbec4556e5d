// The planes of each word sorted: y holds as many spikes at each place as x, in its first planes.
struct U { n: u32, planes: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.n) { return; }
    for (var q = 0u; q < u.planes; q++) {
        // Sorted so far: what the first of these planes has already goes on to the next.
        var more = x[q * u.n + i];
        for (var p = 0u; p < q; p++) {
            let have = y[p * u.n + i];
            y[p * u.n + i] = have | more;
            more &= have;
        }
        y[q * u.n + i] = more;
    }
}
