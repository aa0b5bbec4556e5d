// What a workgroup has of a tile, stored. Besides what product asks the importing shader says store(split, i, j, value).
fn keep(at: vec3<u32>, lane: u32, results: array<vec4<f32>, 4>) {
    let s = size();
    var acc = results;
    for (var r = 0u; r < 4u; r++) {
        let i = at.y + lane / 16u * 4u + r;
        if (i >= s.x) { continue; }
        for (var q = 0u; q < 4u; q++) {
            let j = at.z + lane % 16u * 4u + q;
            if (j < s.y) { store(at.x, i, j, acc[r][q]); }
        }
    }
}
