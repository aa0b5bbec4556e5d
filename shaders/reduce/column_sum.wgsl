// Sum of each column. An invocation sums blocks of its rows and then the blocks, so that many rows cost few digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
// [parts, c]
@group(0) @binding(3) var<storage, read_write> scratch: array<f32>;
#import columns
const BLOCK = 64u;
fn width() -> u32 { return u.c; }
fn put(c: u32, sum: f32) { y[c] = sum; }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let c = (group / parts()) * 32u + local % 32u;
    let rows = part(p);
    var sum = 0.0;
    if (c < u.c) {
        var row = rows.x + local / 32u;
        while (row < rows.y) {
            var block = 0.0;
            for (var k = 0u; k < BLOCK && row < rows.y; k++) {
                block += x[row * u.c + c];
                row += 8u;
            }
            sum += block;
        }
    }
    leave(p, c, local, sum);
}

#import one_sum
