// dx = r dy, dr = sum of dy x. 32 lanes take a row and then add halves onto halves: the CPU twin keeps the same 32 sums in the same order.
struct U { rows: u32, c: u32, experts: u32, expert: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> dr: array<f32>;
const WORKGROUP = 64u;
#import index
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = index(id, groups) / 32u;
    let lane = local % 32u;
    let real = row < u.rows;
    var sum = 0.0;
    if (real) {
        let route = r[row * ((u.experts + 31u) / 32u) + u.expert / 32u];
        let open = ((route >> (u.expert % 32u)) & 1u) != 0u;
        for (var c = lane; c < u.c; c += 32u) {
            let i = row * u.c + c;
            dx[i] = select(0.0, dy[i], open);
            sum += x[i] * dy[i];
        }
    }
    sums[local] = sum;
    for (var s = 16u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (lane < s) { sums[local] += sums[local + s]; }
    }
    if (real && lane == 0u) { dr[row] = sums[local]; }
}
