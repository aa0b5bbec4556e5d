// A 3x3 convolution of what is mostly zero, in tiles of 64 pixels x 64 channels. The workgroup first counts what is at its pixels. Where that
// is little it looks for what arrives under their taps and walks it, so that pixels that nothing reaches cost no sum; else the tile is
// multiplied (product). Both add up the same products in the same order: of spikes no result depends on the way (of floats no more than
// on how a driver contracts a product and a sum). The importing shader says size(), load_b(k, j), and by an import of bits or counts what
// the pixels are: units(), the words or values that one is looked through in, filled(p, n), how many spikes or counts are in one of them,
// weighed(), of how many a share of WALK_BELOW is walked, and arrive(p, tap, channels, sums), which adds to the sums of four channels what
// pixel p gives them under a tap.
#import product
#import added
override WALK_BELOW: f32;
fn unit() -> u32 { return 1u; }
// Under which taps something arrives, by pixel.
var<workgroup> taps: array<atomic<u32>, TILE>;

// Whether to walk the pixels from i0 on.
fn few(i0: u32, pixels: u32, lane: u32) -> bool {
    var own = 0u;
    for (var e = lane; e < pixels * units(); e += WORKGROUP) { own += filled(i0 + e / units(), e % units()); }
    return f32(added(own, lane)) < WALK_BELOW * f32(pixels * weighed());
}

// Fills `taps` for the pixels from i0 on.
fn look(i0: u32, pixels: u32, lane: u32) {
    if (lane < TILE) { atomicStore(&taps[lane], 0u); }
    workgroupBarrier();
    for (var e = lane; e < pixels * 9u; e += WORKGROUP) {
        let p = neighbour(i0 + e / 9u, e % 9u);
        if (p == OUTSIDE) { continue; }
        var any = false;
        for (var n = 0u; n < units() && !any; n++) { any = filled(p, n) != 0u; }
        if (any) { atomicOr(&taps[e / 9u], 1u << (e % 9u)); }
    }
    workgroupBarrier();
}

// The sums of four pixels from i on, those of the tile from `first` on, and four channels. Channels beyond the last are computed as the
// last.
fn walk(i: u32, first: u32, j: vec4<u32>) -> array<vec4<f32>, 4> {
    var sums: array<vec4<f32>, 4>;
    if (j.x >= u.cout) { return sums; }
    let channels = min(j, vec4(u.cout - 1u));
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
    if (!few(at.y, pixels, lane)) { return product(at, lane); }
    look(at.y, pixels, lane);
    let first = lane / 16u * 4u;
    return walk(at.y + first, first, columns(at.z, lane));
}
