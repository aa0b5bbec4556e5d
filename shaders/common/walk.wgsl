// A product of packed spikes x [planes, pixels, words(cin)] in tiles, each in one of two ways by how many spikes its rows hold: few are
// walked, each adding a row of the dense matrix; many are unpacked and multiplied (tile). Both add up the same products in the same
// order, so that no result depends on the way. Besides what tile asks the importing shader says taps(), the number of pixels that a row
// is made of, source(i, tap), which pixel that is or OUTSIDE, and pixels().
override WALK_BELOW: f32;
var<workgroup> met: atomic<u32>;
var<workgroup> spikes: u32;

fn word(q: u32, p: u32, n: u32) -> u32 { return x[(q * pixels() + p) * ((u.cin + 31u) / 32u) + n]; }

// Whether the rows from i0 on are to be walked, by the middle pixel of each.
fn few(i0: u32, lane: u32) -> bool {
    let words = (u.cin + 31u) / 32u;
    let rows = min(TILE, size().x - i0);
    if (lane == 0u) { atomicStore(&met, 0u); }
    workgroupBarrier();
    var own = 0u;
    for (var e = lane; e < rows * words; e += WORKGROUP) {
        let p = source(i0 + e / words, taps() / 2u);
        for (var q = 0u; q < u.planes; q++) { own += countOneBits(word(q, p, e % words)); }
    }
    if (own != 0u) { atomicAdd(&met, own); }
    workgroupBarrier();
    if (lane == 0u) { spikes = atomicLoad(&met); }
    let all = workgroupUniformLoad(&spikes);
    return f32(all) < WALK_BELOW * f32(rows * u.cin);
}

// Two columns an invocation, and as many invocations a row as that takes: at 33 columns and more, a row is 32 invocations, which all
// follow the same bits.
fn walk(i0: u32, j0: u32, lane: u32) {
    let s = size();
    let words = (u.cin + 31u) / 32u;
    let columns = min(s.y - j0, TILE);
    var across = 32u;
    while (across > 4u && across >= columns) { across /= 2u; }
    // Columns beyond the last are computed as the last, and not stored.
    let j = vec2(j0 + lane % across, j0 + lane % across + across);
    let read = min(j, vec2(s.y - 1u));
    for (var i = i0 + lane / across; i < min(i0 + TILE, s.x); i += WORKGROUP / across) {
        var y = vec2<f32>();
        for (var tap = 0u; tap < taps(); tap++) {
            let p = source(i, tap);
            if (p == OUTSIDE) { continue; }
            for (var n = 0u; n < words; n++) {
                var bits = word(0u, p, n);
                for (var q = 1u; q < u.planes; q++) { bits |= word(q, p, n); }
                while (bits != 0u) {
                    let c = firstTrailingBit(bits);
                    bits &= bits - 1u;
                    let k = tap * u.cin + n * 32u + c;
                    var row = vec2(load_b(k, read.x), load_b(k, read.y));
                    if (u.planes > 1u) {
                        var times = 0u;
                        for (var q = 0u; q < u.planes; q++) { times += word(q, p, n) >> c & 1u; }
                        row *= f32(times);
                    }
                    y += row;
                }
            }
        }
        if (j.x < s.y) { store(0u, i, j.x, y.x); }
        if (j.y < s.y) { store(0u, i, j.y, y.y); }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_of(group.x + group.y * groups.x);
    if (!exists(at)) { return; }
    if (few(at.y, lane)) { walk(at.y, at.z, lane); } else { tile(at, lane); }
}
