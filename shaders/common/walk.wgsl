// A product of packed spikes x [planes, rows, words(cin)] in tiles, each in one of two ways by how many spikes its rows hold: few are
// walked, each adding a row of the dense matrix; many are unpacked and multiplied (product). Both add up the same products in the same
// order, so that no result depends on the way. The importing shader says size(), load_b(k, j), what keep asks, and source(i), the row of x
// that row i of the product is made of.
#import product
#import added
override WALK_BELOW: f32;

fn unit() -> u32 { return 1u; }
fn word(q: u32, row: u32, n: u32) -> u32 { return x[(q * u.rows + row) * ((u.cin + 31u) / 32u) + n]; }
// The sum of planes at channel c.
fn times(row: u32, c: u32) -> f32 {
    var sum = 0u;
    for (var q = 0u; q < u.planes; q++) { sum += word(q, row, c / 32u) >> (c % 32u) & 1u; }
    return f32(sum);
}
fn load_a(i: u32, k: u32) -> f32 { return times(source(i), k); }

// Whether the rows from i0 on are to be walked.
fn few(i0: u32, lane: u32) -> bool {
    let words = (u.cin + 31u) / 32u;
    let rows = min(TILE, size().x - i0);
    var own = 0u;
    for (var e = lane; e < rows * words; e += WORKGROUP) {
        let row = source(i0 + e / words);
        for (var q = 0u; q < u.planes; q++) { own += countOneBits(word(q, row, e % words)); }
    }
    return f32(added(own, lane)) < WALK_BELOW * f32(rows * u.cin);
}

// Four columns an invocation, and as many invocations a row as that takes: at 33 columns and more, a row is 16 invocations, which all
// follow the same bits.
fn walk(i0: u32, j0: u32, lane: u32) {
    let s = size();
    let words = (u.cin + 31u) / 32u;
    let columns = min(s.y - j0, TILE);
    var across = 16u;
    while (across > 2u && 2u * across >= columns) { across /= 2u; }
    // Columns beyond the last are computed as the last, and not stored.
    let j = j0 + lane % across + across * vec4(0u, 1u, 2u, 3u);
    let read = min(j, vec4(s.y - 1u));
    for (var i = i0 + lane / across; i < min(i0 + TILE, s.x); i += WORKGROUP / across) {
        let row = source(i);
        var y = vec4<f32>();
        for (var n = 0u; n < words; n++) {
            var bits = word(0u, row, n);
            for (var q = 1u; q < u.planes; q++) { bits |= word(q, row, n); }
            while (bits != 0u) {
                let k = n * 32u + firstTrailingBit(bits);
                bits &= bits - 1u;
                var w = vec4(load_b(k, read.x), load_b(k, read.y), load_b(k, read.z), load_b(k, read.w));
                if (u.planes > 1u) { w *= times(row, k); }
                y += w;
            }
        }
        for (var q = 0u; q < 4u; q++) {
            if (j[q] < s.y) { store(0u, i, j[q], y[q]); }
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_of(group.x + group.y * groups.x);
    if (!exists(at)) { return; }
    if (few(at.y, lane)) { walk(at.y, at.z, lane); } else { keep(at, lane, product(at, lane)); }
}
