// Numbers the rows (step, place) that hold a spike, and with them the first that holds none, which stands for all such; and the places
// that hold one at any step, with the first that never does. The rows are looked through side by side, and then one workgroup counts.
struct U { steps: u32, rows: u32, planes: u32, c: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
// Starts as zeros, and holds whether anything arrives at a place until the places are numbered.
@group(0) @binding(5) var<storage, read_write> home: array<atomic<u32>>;
// Of each row whether it holds a spike.
@group(0) @binding(6) var<storage, read_write> scratch: array<u32>;
const WORKGROUP = 256u;
const SKIP = 0xffffffffu;
#import index
#import before
// The first row, or place, that holds none.
var<workgroup> silent: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let all = u.steps * u.rows;
    if (i >= all) { return; }
    let words = (u.c + 31u) / 32u;
    var any = 0u;
    for (var q = 0u; q < u.planes; q++) {
        for (var w = 0u; w < words; w++) { any |= x[(q * all + i) * words + w]; }
    }
    scratch[i] = u32(any != 0u);
    if (any != 0u) { atomicStore(&home[i % u.rows], 1u); }
}

@compute @workgroup_size(WORKGROUP)
fn finish(@builtin(local_invocation_index) local: u32) {
    let all = u.steps * u.rows;
    let slots = 1u + u.rows;
    // Each invocation counts a run of rows, and the counts are added up. One without spikes is the first of them where all before it hold some,
    // and its number in the list is then its own.
    var each = (all + WORKGROUP - 1u) / WORKGROUP;
    var first = min(local * each, all);
    var end = min(first + each, all);
    var own = 0u;
    for (var i = first; i < end; i++) { own += scratch[i]; }
    var n = before(local, own);
    var total = sums[255];
    if (local == 0u) { count[0] = total + u32(total < all); }
    if (n == first && (own < end - first || local == WORKGROUP - 1u)) {
        var i = first;
        while (i < end && scratch[i] != 0u) { i++; }
        silent = i;
    }
    var shared_ = workgroupUniformLoad(&silent);
    n += u32(shared_ < first);
    for (var i = first; i < end; i++) {
        if (scratch[i] != 0u || i == shared_) {
            plan[slots + i] = n;
            list[n] = i;
            n++;
        } else {
            plan[slots + i] = shared_;
        }
    }
    for (var i = max(first, total + u32(total < all)); i < end; i++) { list[i] = SKIP; }

    // The same for places.
    each = (u.rows + WORKGROUP - 1u) / WORKGROUP;
    first = min(local * each, u.rows);
    end = min(first + each, u.rows);
    own = 0u;
    for (var p = first; p < end; p++) { own += atomicLoad(&home[p]); }
    n = before(local, own);
    total = sums[255];
    if (local == 0u) { plan[0] = total + u32(total < u.rows); }
    if (n == first && (own < end - first || local == WORKGROUP - 1u)) {
        var p = first;
        while (p < end && atomicLoad(&home[p]) != 0u) { p++; }
        silent = p;
    }
    shared_ = workgroupUniformLoad(&silent);
    n += u32(shared_ < first);
    for (var p = first; p < end; p++) {
        let arrives = atomicLoad(&home[p]) != 0u;
        if (arrives || p == shared_) {
            plan[1u + n] = p;
            n++;
        }
        atomicStore(&home[p], select(shared_, p, arrives));
    }
    for (var p = max(first, total + u32(total < u.rows)); p < end; p++) { plan[1u + p] = SKIP; }
}
