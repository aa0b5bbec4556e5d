// Two sums of each column, in `sums` [2, c]: workgroups of 8 x 32 leave those of their part of the rows in `scratch` [parts, 2, c], and
// this second stage adds the parts up. The importing shader says parts().
var<workgroup> lanes: array<vec2<f32>, 256>;

// All eight lanes of a column, in the first.
fn add_lanes(local: u32, own: vec2<f32>) {
    lanes[local] = own;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) { lanes[local] += lanes[local + s * 32u]; }
    }
}

@compute @workgroup_size(256)
fn finish(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (id.x + id.y * groups.x) * 32u + local % 32u;
    var sum = vec2(0.0);
    if (c < u.c) {
        for (var p = local / 32u; p < parts(); p += 8u) { sum += vec2(scratch[2u * p * u.c + c], scratch[(2u * p + 1u) * u.c + c]); }
    }
    add_lanes(local, sum);
    if (local < 32u && c < u.c) {
        sums[c] = lanes[local].x;
        sums[u.c + c] = lanes[local].y;
    }
}
