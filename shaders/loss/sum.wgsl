// scale times the sum of all. One workgroup: an invocation sums blocks of what it meets and then the blocks.
struct U { n: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const BLOCK = 64u;
var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    var i = local;
    while (i < u.n) {
        var block = 0.0;
        for (var k = 0u; k < BLOCK && i < u.n; k++) {
            block += x[i];
            i += 256u;
        }
        sum += block;
    }
    sums[local] = sum;
    for (var s = 128u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s) { sums[local] += sums[local + s]; }
    }
    if (local == 0u) { y[0] = u.scale * sums[0]; }
}
