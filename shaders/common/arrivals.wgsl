// A 3x3 convolution of what is mostly zero, in tiles of 64 pixels x 64 channels. The workgroup first looks for what arrives at its pixels.
// Where that is little it is walked, and pixels that nothing reaches cost no sum; else the tile is multiplied (product). Both add up the
// same products in the same order, so that no result depends on the way. Besides what product asks the importing shader says units(), the
// words or values that a pixel is looked through in, filled(p, n), how many spikes or counts are in one of them, and arrive(p, tap,
// channels, sums), which adds to the sums of four channels what pixel p gives them under a tap.
#import product
override WALK_BELOW: f32;
fn unit() -> u32 { return 1u; }
// Under which taps something arrives, by pixel.
var<workgroup> taps: array<atomic<u32>, TILE>;
var<workgroup> met: atomic<u32>;
var<workgroup> middle: u32;

// Fills `taps` for `pixels` pixels from i0 on; whether to walk, by the middle pixels.
fn look(i0: u32, pixels: u32, lane: u32) -> bool {
    if (lane < TILE) { atomicStore(&taps[lane], 0u); }
    if (lane == 0u) { atomicStore(&met, 0u); }
    workgroupBarrier();
    for (var e = lane; e < pixels * 9u; e += WORKGROUP) {
        let tap = e % 9u;
        let p = neighbour(i0 + e / 9u, tap);
        if (p == OUTSIDE) { continue; }
        var all = 0u;
        for (var n = 0u; n < units(); n++) { all += filled(p, n); }
        if (all == 0u) { continue; }
        atomicOr(&taps[e / 9u], 1u << tap);
        if (tap == 4u) { atomicAdd(&met, all); }
    }
    workgroupBarrier();
    if (lane == 0u) { middle = atomicLoad(&met); }
    return f32(workgroupUniformLoad(&middle)) < WALK_BELOW * f32(pixels * u.cin);
}

// The sums of four pixels from i on, those of the tile from `first` on, and four channels from j on. Channels beyond the last are computed
// as the last.
fn walk(i: u32, first: u32, j: u32) -> array<vec4<f32>, 4> {
    var sums: array<vec4<f32>, 4>;
    if (j >= u.cout) { return sums; }
    let channels = min(j + vec4(0u, 1u, 2u, 3u), vec4(u.cout - 1u));
    for (var r = 0u; r < 4u; r++) {
        var left = atomicLoad(&taps[first + r]);
        var y = vec4<f32>();
        while (left != 0u) {
            let tap = firstTrailingBit(left);
            left &= left - 1u;
            y = arrive(neighbour(i + r, tap), tap, channels, y);
        }
        sums[r] = y;
    }
    return sums;
}

// The convolution at the `pixels` pixels of a tile, at.y on: of an invocation four, for four channels, as product has them.
fn convolve(at: vec3<u32>, pixels: u32, lane: u32) -> array<vec4<f32>, 4> {
    if (look(at.y, pixels, lane)) {
        let first = lane / 16u * 4u;
        return walk(at.y + first, first, at.z + lane % 16u * 4u);
    }
    return product(at, lane);
}
