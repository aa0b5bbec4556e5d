// The sum of all. One workgroup.
struct U { n: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0u;
    for (var i = local; i < u.n; i += 256u) { sum += x[i]; }
    sums[local] = sum;
    for (var s = 128u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s) { sums[local] += sums[local + s]; }
    }
    if (local == 0u) { y[0] = sums[0]; }
}
