// dw = X^T dy of packed spikes x [planes, k, words(cin)] in tiles, each in one of two ways by how many spikes its run of k holds: few are
// walked, each adding a row of dy; many are unpacked and multiplied (product). Both add up the same products in the same order, so that no
// result depends on the way.
#import product
#import added
override WALK_BELOW: f32;
// Where the spikes of each row of the tile are among 32 of k.
var<workgroup> masks: array<atomic<u32>, 64>;

// Whether a split is to be walked.
fn few(split: u32, lane: u32) -> bool {
    let words = (u.cin + 31u) / 32u;
    let run = run_of(split);
    var own = 0u;
    for (var q = 0u; q < u.planes; q++) {
        let start = q * size().z;
        for (var e = (start + run.x) * words + lane; e < (start + run.y) * words; e += WORKGROUP) { own += countOneBits(x[e]); }
    }
    return f32(added(own, lane)) < WALK_BELOW * f32((run.y - run.x) * u.cin);
}

// Each run of 32 invocations takes 8 rows and two columns an invocation; all of it follows the same bits.
fn walk(at: vec3<u32>, lane: u32) {
    let s = size();
    let run = run_of(at.x);
    let own = lane / 32u * 8u;
    let j = vec2(at.z + lane % 32u, at.z + lane % 32u + 32u);
    // Columns beyond the last are computed as the last, and not stored.
    let read = min(j, vec2(s.y - 1u));
    var y: array<vec2<f32>, 8>;
    for (var k0 = run.x; k0 < run.y; k0 += 32u) {
        if (lane < TILE) { atomicStore(&masks[lane], 0u); }
        workgroupBarrier();
        let i = at.y + lane / 4u;
        var mask = 0u;
        for (var b = lane % 4u * 8u; b < lane % 4u * 8u + 8u; b++) {
            if (i < s.x && k0 + b < run.y) { mask |= u32(load_a(i, k0 + b) != 0.0) << b; }
        }
        if (mask != 0u) { atomicOr(&masks[lane / 4u], mask); }
        workgroupBarrier();
        for (var r = 0u; r < 8u; r++) {
            var bits = atomicLoad(&masks[own + r]);
            while (bits != 0u) {
                let k = k0 + firstTrailingBit(bits);
                bits &= bits - 1u;
                var row = vec2(load_b(k, read.x), load_b(k, read.y));
                if (u.planes > 1u) { row *= load_a(at.y + own + r, k); }
                y[r] += row;
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 8u; r++) {
        let i = at.y + own + r;
        if (i >= s.x) { continue; }
        if (j.x < s.y) { store(at.x, i, j.x, y[r].x); }
        if (j.y < s.y) { store(at.x, i, j.y, y[r].y); }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_of(group.x + group.y * groups.x);
    if (!exists(at)) { return; }
    if (few(at.x, lane)) { walk(at, lane); } else { keep(at, lane, product(at, lane)); }
}
