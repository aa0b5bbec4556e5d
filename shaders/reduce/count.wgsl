// Spikes by class of border: each workgroup counts a run of words, and then the groups are added up.
struct U { rows: u32, c: u32, planes: u32, h: u32, w: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
// [groups, 9]
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
var<workgroup> counts: array<atomic<u32>, 9>;

fn words() -> u32 { return (u.c + 31u) / 32u; }
fn total() -> u32 { return u.planes * u.rows * words(); }
fn parts() -> u32 { return clamp((total() + 4095u) / 4096u, 1u, 1024u); }

// 0 at the first place, 2 at the last, 1 between.
fn side(i: u32, n: u32) -> u32 {
    if (i == 0u) { return 0u; }
    return select(1u, 2u, i == n - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let p = id.x + id.y * groups.x;
    if (local < 9u) { atomicStore(&counts[local], 0u); }
    workgroupBarrier();
    let each = (total() + parts() - 1u) / parts();
    let end = min((p + 1u) * each, total());
    // A run of one class is added up before it goes to the shared count.
    var run = 0u;
    var class_of_run = 0u;
    for (var i = p * each + local; i < end; i += 256u) {
        let place = i / words() % u.rows;
        let class_here = 3u * side(place / u.w % u.h, u.h) + side(place % u.w, u.w);
        if (class_here != class_of_run) {
            if (run != 0u) { atomicAdd(&counts[class_of_run], run); }
            run = 0u;
            class_of_run = class_here;
        }
        run += countOneBits(x[i]);
    }
    if (run != 0u) { atomicAdd(&counts[class_of_run], run); }
    workgroupBarrier();
    if (local < 9u && p < parts()) { scratch[p * 9u + local] = atomicLoad(&counts[local]); }
}

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) local: u32) {
    if (local >= 9u) { return; }
    var sum = 0u;
    for (var p = 0u; p < parts(); p++) { sum += scratch[p * 9u + local]; }
    y[local] = sum;
}
