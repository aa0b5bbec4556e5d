// [rows, c] in 32 columns by parts of the rows: a workgroup of 8 x 32 takes one, 8 rows at a time. Parts are long enough to be worth a
// group and many enough to fill a large card; the second stage adds them up.
fn parts() -> u32 { return clamp((u.rows + 511u) / 512u, 1u, 1024u); }
fn part_rows() -> u32 { return (u.rows + parts() - 1u) / parts(); }
// The rows of a part: first, and behind the last.
fn part(i: u32) -> vec2<u32> { return min(vec2(i, i + 1u) * part_rows(), vec2(u.rows)); }
