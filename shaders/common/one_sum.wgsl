// The sum of each column: workgroups of 8 x 32 leave those of their part of the rows in `scratch` [parts, width()], and this second stage adds
// the parts up. The importing shader says parts(), width(), and put(column, sum).
var<workgroup> lanes: array<f32, 256>;

// All eight lanes of a column, in the first.
fn add_lanes(local: u32, own: f32) {
    lanes[local] = own;
    for (var s = 4u; s > 0u; s /= 2u) {
        workgroupBarrier();
        if (local < s * 32u) { lanes[local] += lanes[local + s * 32u]; }
    }
}

// Of part p and column c.
fn leave(p: u32, c: u32, local: u32, own: f32) {
    add_lanes(local, own);
    if (local < 32u && c < width()) { scratch[p * width() + c] = lanes[local]; }
}

@compute @workgroup_size(256)
fn finish(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = (id.x + id.y * groups.x) * 32u + local % 32u;
    var sum = 0.0;
    if (c < width()) {
        for (var p = local / 32u; p < parts(); p += 8u) { sum += scratch[p * width() + c]; }
    }
    add_lanes(local, sum);
    if (local < 32u && c < width()) { put(c, lanes[local]); }
}
