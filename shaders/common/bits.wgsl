// Packed spikes [planes, images, h, w, words(cin)] as the images of a convolution by arrivals.
#import spike
fn load_a(i: u32, k: u32) -> f32 {
    let p = neighbour(i, k / u.cin);
    if (p == OUTSIDE) { return 0.0; }
    return spike(p, k % u.cin);
}
fn pixels() -> u32 { return u.images * u.h * u.w; }
fn units() -> u32 { return (u.cin + 31u) / 32u; }
fn weighed() -> u32 { return u.cin; }
fn filled(p: u32, n: u32) -> u32 {
    var all = 0u;
    for (var q = 0u; q < u.planes; q++) { all += countOneBits(x[(q * pixels() + p) * units() + n]); }
    return all;
}
fn arrive(p: u32, tap: u32, c: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    var y = sums;
    for (var n = 0u; n < units(); n++) {
        var bits = x[p * units() + n];
        for (var q = 1u; q < u.planes; q++) { bits |= x[(q * pixels() + p) * units() + n]; }
        while (bits != 0u) {
            let ci = n * 32u + firstTrailingBit(bits);
            bits &= bits - 1u;
            let at = (tap * u.cin + ci) * u.cout;
            var row = vec4(w[at + c.x], w[at + c.y], w[at + c.z], w[at + c.w]);
            if (u.planes > 1u) { row *= spike(p, ci); }
            y += row;
        }
    }
    return y;
}
