// Threefry-2x32 with 20 rounds, as in src/rng.rs.
fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    var rotations = array<u32, 8>(13u, 15u, 26u, 6u, 17u, 29u, 16u, 24u);
    var keys = array<u32, 3>(key.x, key.y, 0x1BD11BDAu ^ key.x ^ key.y);
    var x = counter.x + keys[0];
    var y = counter.y + keys[1];
    for (var round = 0u; round < 20u; round++) {
        let r = rotations[round % 8u];
        x += y;
        y = ((y << r) | (y >> (32u - r))) ^ x;
        if (round % 4u == 3u) {
            let i = round / 4u + 1u;
            x += keys[i % 3u];
            y += keys[(i + 1u) % 3u] + i;
        }
    }
    return vec2<u32>(x, y);
}
