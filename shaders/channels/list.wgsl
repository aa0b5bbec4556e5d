// Numbers the channels at which any row has a spike, in order. The rows are ORed by parts, and then one workgroup ORs the parts and counts.
struct U { rows: u32, c: u32, least: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> r: array<u32>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
// [parts, words]
@group(0) @binding(5) var<storage, read_write> scratch: array<u32>;
#import columns
#import before
var<workgroup> lanes: array<u32, 256>;

fn words() -> u32 { return (u.c + 31u) / 32u; }

// All eight lanes of a word, in the first.
fn or_lanes(local: u32, own: u32) {
    lanes[local] = own;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) { lanes[local] |= lanes[local + s * 32u]; }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.x + id.y * groups.x;
    let p = group % parts();
    let w = group / parts() * 32u + local % 32u;
    let rows = part(p);
    var any = 0u;
    if (w < words()) {
        for (var row = rows.x + local / 32u; row < rows.y; row += 8u) { any |= r[row * words() + w]; }
    }
    or_lanes(local, any);
    if (local < 32u && w < words()) { scratch[p * words() + w] = lanes[local]; }
}

fn open(i: u32) -> bool { return (scratch[i / 32u] >> (i % 32u) & 1u) != 0u; }

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) local: u32) {
    // The parts, in the place of the first.
    for (var w0 = 0u; w0 < words(); w0 += 32u) {
        let w = w0 + local % 32u;
        var any = 0u;
        if (w < words()) {
            for (var p = local / 32u; p < parts(); p += 8u) { any |= scratch[p * words() + w]; }
        }
        or_lanes(local, any);
        if (local < 32u && w < words()) { scratch[w] = lanes[local]; }
        workgroupBarrier();
    }
    storageBarrier();
    // Each invocation counts a run of channels, and the counts are added up.
    let each = (u.c + 255u) / 256u;
    let first = min(local * each, u.c);
    let end = min(first + each, u.c);
    var own = 0u;
    for (var i = first; i < end; i++) { own += u32(open(i)); }
    var earlier = before(local, own);
    let opened = sums[255];
    // Closed ones that are listed all the same: the first.
    let closed = u.c - opened;
    let extra = select(0u, min(u.least - min(opened, u.least), closed), opened > 0u);
    for (var i = first; i < end; i++) {
        let more = min(i - earlier, extra);
        if (open(i) || i - earlier < extra) {
            slots[i] = earlier + more;
            list[earlier + more] = i;
        } else {
            slots[i] = 0xffffffffu;
        }
        earlier += u32(open(i));
    }
    for (var i = max(first, opened + extra); i < end; i++) { list[i] = 0xffffffffu; }
    if (local == 0u) { count[0] = opened + extra; }
}
