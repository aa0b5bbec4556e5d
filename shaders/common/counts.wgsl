// Event counts [images, h, w, cin], or other floats, as the images of a convolution by arrivals; zeros are passed over.
fn load_a(i: u32, k: u32) -> f32 {
    let p = neighbour(i, k / u.cin);
    if (p == OUTSIDE) { return 0.0; }
    return x[p * u.cin + k % u.cin];
}
fn units() -> u32 { return u.cin; }
// A pixel that is walked is looked through to its end: with many channels most must be empty for that to pay.
fn weighed() -> u32 { return min(u.cin, 2u); }
fn filled(p: u32, n: u32) -> u32 { return u32(x[p * u.cin + n] != 0.0); }
fn arrive(p: u32, tap: u32, c: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    var y = sums;
    for (var ci = 0u; ci < u.cin; ci++) {
        let value = x[p * u.cin + ci];
        let at = (tap * u.cin + ci) * u.cout;
        if (value != 0.0) { y += value * vec4(w[at + c.x], w[at + c.y], w[at + c.z], w[at + c.w]); }
    }
    return y;
}
