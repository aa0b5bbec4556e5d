// Products of one head of one sample and step: y = scale A B, both given by strides in elements. An operand of packed spikes is addressed
// as if each of its words were 32 elements.
struct U {
    groups: u32, heads: u32, m: u32, n: u32, k: u32, a_bits: u32, b_bits: u32,
    a_group: u32, a_head: u32, a_row: u32, a_col: u32,
    b_group: u32, b_head: u32, b_row: u32, b_col: u32,
    y_group: u32, y_head: u32, y_row: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> a_spikes: array<u32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> b_spikes: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
const TILE = 32u;
const DEPTH = 32u;
var<workgroup> tile_a: array<f32, 1024>;
var<workgroup> tile_b: array<f32, 1024>;

fn load_a(at: u32) -> f32 {
    if (u.a_bits == 0u) { return a[at]; }
    return f32(a_spikes[at / 32u] >> (at % 32u) & 1u);
}
fn load_b(at: u32) -> f32 {
    if (u.b_bits == 0u) { return b[at]; }
    return f32(b_spikes[at / 32u] >> (at % 32u) & 1u);
}
// Element e of a tile, as (place along k, row or column): neighbours in memory for neighbours of a workgroup.
fn place(e: u32, along_k: bool) -> vec2<u32> {
    return select(vec2(e / TILE, e % TILE), vec2(e % DEPTH, e / DEPTH), along_k);
}

// A workgroup makes 32 x 32 results of one head, an invocation 4 x 4 of them.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let across = max((u.n + TILE - 1u) / TILE, 1u);
    let tiles = max((u.m + TILE - 1u) / TILE, 1u) * across;
    let g = id.x + id.y * groups.x;
    let group = g / tiles / u.heads;
    let head = g / tiles % u.heads;
    if (group >= u.groups) { return; }
    let i0 = g % tiles / across * TILE;
    let j0 = g % across * TILE;
    let a0 = group * u.a_group + head * u.a_head;
    let b0 = group * u.b_group + head * u.b_head;
    let ti = lane / 8u * 4u;
    let tj = lane % 8u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var k0 = 0u; k0 < u.k; k0 += DEPTH) {
        for (var e = lane; e < TILE * DEPTH; e += WORKGROUP) {
            let p = place(e, u.a_col == 1u);
            let q = place(e, u.b_row == 1u);
            let i = i0 + p.y;
            let j = j0 + q.y;
            var av = 0.0;
            var bv = 0.0;
            if (i < u.m && k0 + p.x < u.k) { av = load_a(a0 + i * u.a_row + (k0 + p.x) * u.a_col); }
            if (j < u.n && k0 + q.x < u.k) { bv = load_b(b0 + (k0 + q.x) * u.b_row + j * u.b_col); }
            tile_a[p.x * TILE + p.y] = av;
            tile_b[q.x * TILE + q.y] = bv;
        }
        workgroupBarrier();
        for (var k = 0u; k < min(DEPTH, u.k - k0); k++) {
            let x = vec4(tile_a[k * TILE + ti], tile_a[k * TILE + ti + 1u], tile_a[k * TILE + ti + 2u], tile_a[k * TILE + ti + 3u]);
            // Of spikes most rows hold none: nothing is added.
            if (all(x == vec4<f32>())) { continue; }
            let at = k * TILE + tj;
            let z = vec4(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
            sums[0] += x.x * z;
            sums[1] += x.y * z;
            sums[2] += x.z * z;
            sums[3] += x.w * z;
        }
        workgroupBarrier();
    }
    let y0 = group * u.y_group + head * u.y_head;
    for (var r = 0u; r < 4u; r++) {
        let i = i0 + ti + r;
        for (var q = 0u; q < 4u; q++) {
            let j = j0 + tj + q;
            if (i < u.m && j < u.n) { y[y0 + i * u.y_row + j] = u.scale * sums[r][q]; }
        }
    }
}
