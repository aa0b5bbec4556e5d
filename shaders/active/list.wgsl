// Numbers the rows (step, place) that an expert's gates need, in order. One workgroup: each invocation counts a run of rows, the counts
// are added up, and each writes its run behind those before it.
struct U { steps: u32, rows: u32, experts: u32, expert: u32, idle: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
var<workgroup> sums: array<u32, 256>;

fn open(i: u32) -> bool {
    return (r[i * ((u.experts + 31u) / 32u) + u.expert / 32u] >> (u.expert % 32u) & 1u) != 0u;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    let all = u.steps * u.rows;
    // From each place's last step back: 1 where the row is needed, 2 where it is idle, else 0. `slots` holds that for now.
    for (var p = local; p < u.rows; p += 256u) {
        var later = u.idle == 1u;
        for (var t = u.steps; t > 0u; t--) {
            let i = (t - 1u) * u.rows + p;
            let now = open(i);
            later = later || now;
            slots[i] = select(0u, select(2u, 1u, now || u.idle == 0u), later);
        }
    }
    storageBarrier();
    let each = (all + 255u) / 256u;
    let first = min(local * each, all);
    let end = min(first + each, all);
    var own = 0u;
    for (var i = first; i < end; i++) { own += slots[i] & 1u; }
    sums[local] = own;
    // Sums of the runs up to each, over ever longer distances.
    for (var s = 1u; s < 256u; s *= 2u) {
        workgroupBarrier();
        var before = 0u;
        if (local >= s) { before = sums[local - s]; }
        workgroupBarrier();
        sums[local] += before;
    }
    workgroupBarrier();
    var n = sums[local] - own;
    for (var i = first; i < end; i++) {
        let row = slots[i];
        if (row == 1u) {
            slots[i] = n;
            list[n] = i;
            n++;
        } else {
            slots[i] = select(0xffffffffu, 0xfffffffeu, row == 2u);
        }
    }
    let total = sums[255];
    for (var i = max(first, total); i < end; i++) { list[i] = 0xffffffffu; }
    if (local == 0u) { count[0] = total; }
}
