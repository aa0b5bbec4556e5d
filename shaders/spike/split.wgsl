// a = the first channels of x, b = the others, shifted down to start at a word. One invocation a word of either.
struct U { rows: u32, c: u32, first: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> a: array<u32>;
@group(0) @binding(3) var<storage, read_write> b: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let words = (u.c + 31u) / 32u;
    let wa = (u.first + 31u) / 32u;
    let wb = (u.c - u.first + 31u) / 32u;
    if (i >= u.rows * (wa + wb)) { return; }
    let row = i / (wa + wb);
    let w = i % (wa + wb);
    if (w < wa) {
        // Padding bits of the last word are channels of b.
        let left = u.first - w * 32u;
        let mask = select((1u << (left % 32u)) - 1u, 0xffffffffu, left >= 32u);
        a[row * wa + w] = x[row * words + w] & mask;
    } else {
        let bit = u.first + (w - wa) * 32u;
        let at = bit / 32u;
        let shift = bit % 32u;
        var v = x[row * words + at] >> shift;
        if (shift != 0u && at + 1u < words) { v |= x[row * words + at + 1u] << (32u - shift); }
        b[row * wb + w - wa] = v;
    }
}
