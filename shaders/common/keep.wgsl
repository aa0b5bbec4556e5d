// What a workgroup has of a tile, stored. The importing shader says store(split, i, j, value).
fn keep(at: vec3<u32>, lane: u32, results: array<vec4<f32>, 4>) {
    let s = size();
    let j = columns(at.z, lane);
    var acc = results;
    for (var r = 0u; r < 4u; r++) {
        let i = at.y + lane / 16u * 4u + r;
        if (i >= s.x) { continue; }
        for (var q = 0u; q < 4u; q++) {
            if (j[q] < s.y) { store(at.x, i, j[q], acc[r][q]); }
        }
    }
}
