// y = K^T V for the groups whose tokens are listed, all of them or none: how many tokens a key and a value channel share. A workgroup
// makes 32 x 32 results: it turns 32 channels of each round, so that a word holds 32 tokens of one, and counts the bits that two share.
struct U { groups: u32, tokens: u32, dk: u32, dv: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read> count: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
const TILE = 32u;
// Tokens of 32 key channels, then of 32 value channels.
var<workgroup> turned: array<u32, 64>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let across = max((u.dv + TILE - 1u) / TILE, 1u);
    let tiles = max((u.dk + TILE - 1u) / TILE, 1u) * across;
    let g = id.x + id.y * groups.x;
    let first = g / tiles * u.tokens;
    if (first >= count[0]) { return; }
    let row = list[first];
    let i0 = g % tiles / across * TILE;
    let j0 = g % across * TILE;
    let bit = lane % TILE;
    let k_words = (u.dk + 31u) / 32u;
    let v_words = (u.dv + 31u) / 32u;
    let ti = lane / 8u * 4u;
    let tj = lane % 8u * 4u;
    var sums: array<vec4<u32>, 4>;
    for (var n0 = 0u; n0 < u.tokens; n0 += 32u) {
        var tokens = 0u;
        for (var n = 0u; n < min(u.tokens - n0, 32u); n++) {
            var word: u32;
            if (lane < TILE) { word = k[(row + n0 + n) * k_words + i0 / 32u]; } else { word = v[(row + n0 + n) * v_words + j0 / 32u]; }
            tokens |= (word >> bit & 1u) << n;
        }
        turned[lane] = tokens;
        workgroupBarrier();
        let values = vec4(turned[TILE + tj], turned[TILE + tj + 1u], turned[TILE + tj + 2u], turned[TILE + tj + 3u]);
        for (var r = 0u; r < 4u; r++) { sums[r] += countOneBits(vec4(turned[ti + r]) & values); }
        workgroupBarrier();
    }
    let at = row / u.tokens * u.dk * u.dv;
    for (var r = 0u; r < 4u; r++) {
        let i = i0 + ti + r;
        for (var q = 0u; q < 4u; q++) {
            let j = j0 + tj + q;
            if (i < u.dk && j < u.dv) { y[at + i * u.dv + j] = f32(sums[r][q]); }
        }
    }
}
