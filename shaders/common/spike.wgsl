// The value of channel c at pixel p: the sum of its planes.
fn spike(p: u32, c: u32) -> f32 {
    let words = (u.cin + 31u) / 32u;
    let pixels = u.images * u.h * u.w;
    var sum = 0u;
    for (var q = 0u; q < u.planes; q++) { sum += x[(q * pixels + p) * words + c / 32u] >> (c % 32u) & 1u; }
    return f32(sum);
}
