// Neurons behind a 3x3 convolution, all steps. A workgroup has a tile of 64 places x 64 channels (arrivals), an invocation 4 x 4 of their
// neurons, whose membranes stay in registers.
#import arrivals
var<workgroup> fired: array<atomic<u32>, 128>;

fn charge_four(m: vec4<f32>, z: vec4<f32>, k: f32) -> vec4<f32> {
    return vec4(charge(m.x, z.x, k), charge(m.y, z.y, k), charge(m.z, z.z, k), charge(m.w, z.w, k));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = u.images / max(u.steps, 1u) * u.h * u.w;
    let across = max((u.cout + TILE - 1u) / TILE, 1u);
    let g = group.x + group.y * groups.x;
    let i0 = g / across * TILE;
    let j0 = g % across * TILE;
    if (i0 >= rows) { return; }
    let places = min(rows - i0, TILE);
    let words = (u.cout + 31u) / 32u;
    let first = lane / 16u * 4u;
    // Four channels. Those beyond the last are computed as the last, and not stored.
    let j = columns(j0, lane);
    let real = j < vec4(u.cout);
    let c = min(j, vec4(u.cout - 1u));
    let gain = vec4(a[c.x], a[c.y], a[c.z], a[c.w]);
    let shift = vec4(b[c.x], b[c.y], b[c.z], b[c.w]);
    // Two words of spikes a place.
    let bit = vec4(1u) << (lane % 16u + vec4(0u, 16u, 0u, 16u));
    var m: array<vec4<f32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        m[r] = vec4(u.rest);
        if (u.has_v0 == 0u || first + r >= places) { continue; }
        let at = (i0 + first + r) * u.cout + c;
        m[r] = vec4(v0[at.x], v0[at.y], v0[at.z], v0[at.w]);
    }
    var k = u.k;
    if (u.learned != 0u) { k = 1.0 / (1.0 + exp(-tau[0])); }
    for (var t = 0u; t < u.steps; t++) {
        let at = t * rows + i0;
        if (lane < 128u) { atomicStore(&fired[lane], 0u); }
        var y = convolve(vec3(0u, at, j0), places, lane);
        workgroupBarrier();
        for (var r = 0u; r < 4u; r++) {
            let h = charge_four(m[r], gain * y[r] + shift, k);
            let fires = h >= vec4(u.v_threshold);
            m[r] = select(h, select(vec4(u.rest), h - u.v_threshold, u.soft != 0u), fires);
            let bits = select(vec4(0u), bit, fires & real);
            let two = bits.xz | bits.yw;
            if (two.x != 0u) { atomicOr(&fired[(first + r) * 2u], two.x); }
            if (two.y != 0u) { atomicOr(&fired[(first + r) * 2u + 1u], two.y); }
        }
        workgroupBarrier();
        let word = j0 / 32u + lane % 2u;
        if (lane < 2u * places && word < words) { s[(at + lane / 2u) * words + word] = atomicLoad(&fired[lane]); }
    }
    if (u.store_v == 0u) { return; }
    for (var r = 0u; r < 4u; r++) {
        for (var q = 0u; q < 4u; q++) {
            if (first + r < places && real[q]) { v[(i0 + first + r) * u.cout + j[q]] = m[r][q]; }
        }
    }
}
