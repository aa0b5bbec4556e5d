// The input pixel under tap (0..9) of output pixel i, or OUTSIDE.
const OUTSIDE = 0xffffffffu;
fn neighbour(i: u32, tap: u32) -> u32 {
    let xx = i % u.w + tap % 3u;
    let yy = i / u.w % u.h + tap / 3u;
    if (xx == 0u || yy == 0u || xx > u.w || yy > u.h) { return OUTSIDE; }
    return (i / (u.w * u.h) * u.h + yy - 1u) * u.w + xx - 1u;
}
