// A product in tiles of 64 x 64 by 256 invocations, 4 x 4 results each. The importing shader says what is multiplied:
// size() = (m, n, k, splits), load_a(i, k), load_b(k, j). Each split sums its own run of k, in whole multiples of unit().
const WORKGROUP = 256u;
const TILE = 64u;
const DEPTH = 16u;
var<workgroup> tile_a: array<f32, 1024>;
var<workgroup> tile_b: array<f32, 1024>;

// The tile of a workgroup: split, first row, first column.
fn tile_of(g: u32) -> vec3<u32> {
    let tiles = (size().xy + TILE - 1u) / TILE;
    let across = max(tiles.y, 1u);
    let all = max(tiles.x, 1u) * across;
    return vec3(g / all, g % all / across * TILE, g % across * TILE);
}
// A folded grid has groups beyond the last split, and a product of rows that were counted on the device may be smaller than the grid.
fn exists(at: vec3<u32>) -> bool { return all(at < vec3(size().w, size().xy)); }

// The run of k of a split: first, and behind the last.
fn run_of(split: u32) -> vec2<u32> {
    let s = size();
    let whole = max(unit(), 1u);
    let chunk = (s.z / whole + s.w - 1u) / s.w * whole;
    let first = min(split * chunk, s.z);
    return vec2(first, min(first + chunk, s.z));
}

// The four columns of an invocation in a tile from j0 on: neighbours for neighbours, so that they load and store together.
fn columns(j0: u32, lane: u32) -> vec4<u32> { return j0 + lane % 16u + vec4(0u, 16u, 32u, 48u); }

// The results of an invocation, by row from at.y + lane / 16 * 4 on, at its four columns.
fn product(at: vec3<u32>, lane: u32) -> array<vec4<f32>, 4> {
    let s = size();
    let i0 = at.y;
    let j0 = at.z;
    let run = run_of(at.x);
    let ti = lane / 16u * 4u;
    let tj = columns(0u, lane);
    var acc: array<vec4<f32>, 4>;
    for (var k0 = run.x; k0 < run.y; k0 += DEPTH) {
        for (var q = 0u; q < 4u; q++) {
            let e = lane + q * WORKGROUP;
            let ai = i0 + e / DEPTH;
            let ak = k0 + e % DEPTH;
            var av = 0.0;
            if (ai < s.x && ak < run.y) { av = load_a(ai, ak); }
            tile_a[e % DEPTH * TILE + e / DEPTH] = av;
            let bj = j0 + e % TILE;
            let bk = k0 + e / TILE;
            var bv = 0.0;
            if (bj < s.y && bk < run.y) { bv = load_b(bk, bj); }
            tile_b[e] = bv;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let b = vec4(tile_b[k * TILE + tj.x], tile_b[k * TILE + tj.y], tile_b[k * TILE + tj.z], tile_b[k * TILE + tj.w]);
            for (var r = 0u; r < 4u; r++) { acc[r] += tile_a[k * TILE + ti + r] * b; }
        }
        workgroupBarrier();
    }
    return acc;
}
