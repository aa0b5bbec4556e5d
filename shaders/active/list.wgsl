// Numbers the rows (step, place) that an expert's gates need, in order, and the places at which there are any. One workgroup: each
// invocation counts a run of rows, the counts are added up, and each writes its run behind those before it.
struct U { steps: u32, rows: u32, experts: u32, expert: u32, idle: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
const SKIP = 0xffffffffu;
const IDLE = 0xfffffffeu;
#import before

fn open(i: u32) -> bool {
    return (r[i * ((u.experts + 31u) / 32u) + u.expert / 32u] >> (u.expert % 32u) & 1u) != 0u;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    let all = u.steps * u.rows;
    let slots = 1u + u.rows;
    // From each place's last step back: 1 where the row is needed, 2 where it is idle, else 0. The slots hold that for now.
    for (var p = local; p < u.rows; p += 256u) {
        var later = u.idle == 1u;
        for (var t = u.steps; t > 0u; t--) {
            let i = (t - 1u) * u.rows + p;
            let now = open(i);
            later = later || now;
            plan[slots + i] = select(0u, select(2u, 1u, now || u.idle == 0u), later);
        }
    }
    storageBarrier();
    // What happens at a place at all happens from its first step on.
    let some = min(u.steps, 1u);
    var each = (u.rows + 255u) / 256u;
    var first = min(local * each, u.rows);
    var end = min(first + each, u.rows);
    var own = 0u;
    for (var p = first; p < end; p++) { own += u32(some != 0u && plan[slots + p] != 0u); }
    var n = before(local, own);
    for (var p = first; p < end; p++) {
        if (some != 0u && plan[slots + p] != 0u) {
            plan[1u + n] = p;
            n++;
        }
    }
    var total = sums[255];
    for (var p = max(first, total); p < end; p++) { plan[1u + p] = SKIP; }
    if (local == 0u) { plan[0] = total; }
    // All have looked at what is overwritten next.
    storageBarrier();

    each = (all + 255u) / 256u;
    first = min(local * each, all);
    end = min(first + each, all);
    own = 0u;
    for (var i = first; i < end; i++) { own += plan[slots + i] & 1u; }
    n = before(local, own);
    for (var i = first; i < end; i++) {
        let row = plan[slots + i];
        if (row == 1u) {
            plan[slots + i] = n;
            list[n] = i;
            n++;
        } else {
            plan[slots + i] = select(SKIP, IDLE, row == 2u);
        }
    }
    total = sums[255];
    for (var i = max(first, total); i < end; i++) { list[i] = SKIP; }
    if (local == 0u) { count[0] = total; }
}
