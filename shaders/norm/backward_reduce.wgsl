// Sums of dz and of dz (x - mean) for each channel. An invocation sums blocks of its rows and then the blocks, so that many rows
// cost few digits.
struct U { rows: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dz: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
// [2, c]
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;
// [parts, 2, c]
@group(0) @binding(5) var<storage, read_write> scratch: array<f32>;
#import columns
const BLOCK = 64u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let c = (group / parts()) * 32u + local % 32u;
    let rows = part(p);
    var sum = vec2(0.0);
    if (c < u.c) {
        var row = rows.x + local / 32u;
        while (row < rows.y) {
            var block = vec2(0.0);
            for (var k = 0u; k < BLOCK && row < rows.y; k++) {
                let g = dz[row * u.c + c];
                block += vec2(g, g * (x[row * u.c + c] - mean[c]));
                row += 8u;
            }
            sum += block;
        }
    }
    add_lanes(local, sum);
    if (local < 32u && c < u.c) {
        scratch[2u * p * u.c + c] = lanes[local].x;
        scratch[(2u * p + 1u) * u.c + c] = lanes[local].y;
    }
}

#import two_sums
