// Spikes by class of border. One workgroup walks over all words, for the output cannot be zeroed before others add to it.
struct U { rows: u32, c: u32, planes: u32, h: u32, w: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
var<workgroup> counts: array<atomic<u32>, 9>;

// 0 at the first place, 2 at the last, 1 between.
fn side(i: u32, n: u32) -> u32 {
    if (i == 0u) { return 0u; }
    return select(1u, 2u, i == n - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    if (local < 9u) { atomicStore(&counts[local], 0u); }
    workgroupBarrier();
    let words = (u.c + 31u) / 32u;
    let total = u.planes * u.rows * words;
    // A run of one class is added up before it goes to the shared count.
    var run = 0u;
    var class_of_run = 0u;
    for (var i = local; i < total; i += 256u) {
        let place = i / words % u.rows;
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
    if (local < 9u) { y[local] = atomicLoad(&counts[local]); }
}
