// The number of this invocation in a grid folded to two dimensions (at most 65,535 groups a side).
fn index(id: vec3<u32>, groups: vec3<u32>) -> u32 {
    return id.x + id.y * groups.x * WORKGROUP;
}
