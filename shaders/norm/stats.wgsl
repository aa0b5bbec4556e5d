// Mean and biased variance of each channel. A workgroup takes 32 channels, 8 rows at a time; an invocation goes down its rows in blocks,
// sums each block relative to the mean so far, and merges it (Chan), so that neither a large mean nor many rows cost digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
const BLOCK = 64u;
var<workgroup> counts: array<f32, 256>;
var<workgroup> means: array<f32, 256>;
var<workgroup> squares: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (group.x + group.y * groups.x) * 32u + local % 32u;
    var n = 0.0;
    var m = 0.0;
    var q = 0.0;
    if (c < u.c) {
        if (local / 32u < u.rows) { m = x[(local / 32u) * u.c + c]; }
        var row = local / 32u;
        while (row < u.rows) {
            var count = 0.0;
            var s1 = 0.0;
            var s2 = 0.0;
            for (var k = 0u; k < BLOCK && row < u.rows; k++) {
                let d = x[row * u.c + c] - m;
                s1 += d;
                s2 += d * d;
                count += 1.0;
                row += 8u;
            }
            let delta = s1 / count;
            let total = n + count;
            q += s2 - s1 * delta + delta * delta * n * (count / total);
            m += delta * (count / total);
            n = total;
        }
    }
    counts[local] = n;
    means[local] = m;
    squares[local] = q;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) {
            let other = local + s * 32u;
            let a = counts[local];
            let b = counts[other];
            if (b > 0.0) {
                let delta = means[other] - means[local];
                counts[local] = a + b;
                means[local] += delta * (b / (a + b));
                squares[local] += squares[other] + delta * delta * a * (b / (a + b));
            }
        }
    }
    if (local < 32u && c < u.c) {
        mean[c] = select(means[local], 0.0, u.rows == 0u);
        variance[c] = select(squares[local] / f32(max(u.rows, 1u)), 0.0, u.rows == 0u);
    }
}
