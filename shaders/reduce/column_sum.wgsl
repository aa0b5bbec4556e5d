// Sum of each column. A workgroup takes 32 columns, 8 rows at a time; an invocation sums blocks of its rows and then the blocks, so that
// many rows cost few digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const BLOCK = 64u;
var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (group.x + group.y * groups.x) * 32u + local % 32u;
    var sum = 0.0;
    if (c < u.c) {
        var row = local / 32u;
        while (row < u.rows) {
            var block = 0.0;
            for (var k = 0u; k < BLOCK && row < u.rows; k++) {
                block += x[row * u.c + c];
                row += 8u;
            }
            sum += block;
        }
    }
    sums[local] = sum;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) { sums[local] += sums[local + s * 32u]; }
    }
    if (local < 32u && c < u.c) { y[c] = sums[local]; }
}
