// A number of each invocation of a workgroup, added up.
var<workgroup> added_up: atomic<u32>;
var<workgroup> sum_of_all: u32;

fn added(own: u32, lane: u32) -> u32 {
    if (lane == 0u) { atomicStore(&added_up, 0u); }
    workgroupBarrier();
    if (own != 0u) { atomicAdd(&added_up, own); }
    workgroupBarrier();
    if (lane == 0u) { sum_of_all = atomicLoad(&added_up); }
    return workgroupUniformLoad(&sum_of_all);
}
