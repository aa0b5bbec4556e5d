#import product
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = tile_of(group.x + group.y * groups.x);
    if (exists(at)) { keep(at, lane, product(at, lane)); }
}
