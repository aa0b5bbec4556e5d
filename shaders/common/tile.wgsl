// A product in tiles of 64 x 64 by 256 invocations, 4 x 4 results each. The importing shader says what is multiplied:
// size() = (m, n, k, splits), load_a(i, k), load_b(k, j), store(split, i, j, value). Each split sums its own run of k,
// in whole multiples of unit().
const WORKGROUP = 256u;
const TILE = 64u;
const DEPTH = 16u;
var<workgroup> tile_a: array<f32, 1024>;
var<workgroup> tile_b: array<f32, 1024>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let s = size();
    let tiles_i = (s.x + TILE - 1u) / TILE;
    let tiles_j = (s.y + TILE - 1u) / TILE;
    let g = group.x + group.y * groups.x;
    // A folded grid has groups beyond the last split, and a product of rows that were counted on the device may be smaller than the grid.
    if (g >= tiles_i * tiles_j * s.w) { return; }
    let split = g / (tiles_i * tiles_j);
    let i0 = g / tiles_j % tiles_i * TILE;
    let j0 = g % tiles_j * TILE;
    let whole = max(unit(), 1u);
    let chunk = (s.z / whole + s.w - 1u) / s.w * whole;
    let first = min(split * chunk, s.z);
    let end = min(first + chunk, s.z);
    let ti = lane / 16u * 4u;
    let tj = lane % 16u * 4u;
    var acc: array<vec4<f32>, 4>;
    for (var k0 = first; k0 < first + chunk; k0 += DEPTH) {
        for (var q = 0u; q < 4u; q++) {
            let e = lane + q * WORKGROUP;
            let ai = i0 + e / DEPTH;
            let ak = k0 + e % DEPTH;
            var av = 0.0;
            if (ai < s.x && ak < end) { av = load_a(ai, ak); }
            tile_a[e % DEPTH * TILE + e / DEPTH] = av;
            let bj = j0 + e % TILE;
            let bk = k0 + e / TILE;
            var bv = 0.0;
            if (bj < s.y && bk < end) { bv = load_b(bk, bj); }
            tile_b[e] = bv;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let b = vec4<f32>(tile_b[k * TILE + tj], tile_b[k * TILE + tj + 1u], tile_b[k * TILE + tj + 2u], tile_b[k * TILE + tj + 3u]);
            for (var r = 0u; r < 4u; r++) { acc[r] += tile_a[k * TILE + ti + r] * b; }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        let i = i0 + ti + r;
        if (i >= s.x) { continue; }
        for (var q = 0u; q < 4u; q++) {
            let j = j0 + tj + q;
            if (j < s.y) { store(split, i, j, acc[r][q]); }
        }
    }
}
