// s1 = sum of dz, s2 = sum of dz (x - mean) for each channel. A workgroup takes 32 channels, 8 rows at a time; an invocation sums
// blocks of its rows and then the blocks, so that many rows cost few digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dz: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> s1: array<f32>;
@group(0) @binding(5) var<storage, read_write> s2: array<f32>;
const BLOCK = 64u;
var<workgroup> sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (group.x + group.y * groups.x) * 32u + local % 32u;
    var sum = vec2(0.0);
    if (c < u.c) {
        let m = mean[c];
        var row = local / 32u;
        while (row < u.rows) {
            var block = vec2(0.0);
            for (var k = 0u; k < BLOCK && row < u.rows; k++) {
                let g = dz[row * u.c + c];
                block += vec2(g, g * (x[row * u.c + c] - m));
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
    if (local < 32u && c < u.c) {
        s1[c] = sums[local].x;
        s2[c] = sums[local].y;
    }
}
