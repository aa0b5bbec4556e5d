// Sums over a workgroup of 256. All invocations call this together.
var<workgroup> sums: array<u32, 256>;

// What the invocations before this one have; what all have is then sums[255].
fn before(local: u32, own: u32) -> u32 {
    // Nobody looks at the sums of an earlier call any more.
    workgroupBarrier();
    sums[local] = own;
    // Sums of the runs up to each, over ever longer distances.
    for (var s = 1u; s < 256u; s *= 2u) {
        workgroupBarrier();
        var added = 0u;
        if (local >= s) { added = sums[local - s]; }
        workgroupBarrier();
        sums[local] += added;
    }
    workgroupBarrier();
    return sums[local] - own;
}
