// Mean and biased variance of each channel. An invocation goes down its rows in blocks, sums each block relative to the mean so far, and
// merges it (Chan), so that neither a large mean nor many rows cost digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
// [parts, 2, c]: mean, and sum of squares about it
@group(0) @binding(4) var<storage, read_write> scratch: array<f32>;
#import columns
const BLOCK = 64u;
var<workgroup> lanes: array<vec3<f32>, 256>;

// Count, mean and sum of squares of two sets together.
fn merge(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
    if (b.x == 0.0) { return a; }
    let n = a.x + b.x;
    let delta = b.y - a.y;
    let share = b.x / n;
    return vec3(n, a.y + delta * share, a.z + b.z + delta * delta * a.x * share);
}

// All eight lanes of a column, in the first.
fn merge_lanes(local: u32, own: vec3<f32>) {
    lanes[local] = own;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) { lanes[local] = merge(lanes[local], lanes[local + s * 32u]); }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let c = (group / parts()) * 32u + local % 32u;
    let rows = part(p);
    var sum = vec3(0.0);
    var row = rows.x + local / 32u;
    if (c < u.c && row < rows.y) {
        sum.y = x[row * u.c + c];
        while (row < rows.y) {
            var block = vec3(0.0);
            for (var k = 0u; k < BLOCK && row < rows.y; k++) {
                let d = x[row * u.c + c] - sum.y;
                block += vec3(1.0, d, d * d);
                row += 8u;
            }
            let m = block.y / block.x;
            sum = merge(sum, vec3(block.x, sum.y + m, block.z - block.y * m));
        }
    }
    merge_lanes(local, sum);
    if (local < 32u && c < u.c) {
        scratch[2u * p * u.c + c] = lanes[local].y;
        scratch[(2u * p + 1u) * u.c + c] = lanes[local].z;
    }
}

@compute @workgroup_size(256)
fn finish(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (id.x + id.y * groups.x) * 32u + local % 32u;
    var sum = vec3(0.0);
    if (c < u.c) {
        for (var p = local / 32u; p < parts(); p += 8u) {
            let rows = part(p);
            sum = merge(sum, vec3(f32(rows.y - rows.x), scratch[2u * p * u.c + c], scratch[(2u * p + 1u) * u.c + c]));
        }
    }
    merge_lanes(local, sum);
    if (local < 32u && c < u.c) {
        mean[c] = lanes[local].y;
        variance[c] = lanes[local].z / max(lanes[local].x, 1.0);
    }
}
