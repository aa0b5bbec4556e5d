// Sums of what lies under the taps of a 3x3 convolution, and of the products of two taps: [K + 1, K], K = 9 cin <= 36. A workgroup takes a
// part of the pixels, 64 patches at a time; `finish` adds the parts up.
struct U { images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, splits: u32, exact: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> moments: array<f32>;
// [parts, K + 1, K]
@group(0) @binding(3) var<storage, read_write> scratch: array<f32>;
const WORKGROUP = 256u;
// (36 + 1) 36 / 256, rounded up.
const SHARE = 6u;
#import index
#import neighbour
#import added
var<workgroup> patches: array<f32, 2304>;

fn rows() -> u32 { return u.images * u.h * u.w; }
fn parts() -> u32 { return clamp((rows() + 1023u) / 1024u, 1u, 256u); }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let part = id.x + id.y * groups.x;
    if (part >= parts()) { return; }
    let k = 9u * u.cin;
    let size = (rows() + parts() - 1u) / parts();
    let end = min((part + 1u) * size, rows());
    var sums: array<f32, SHARE>;
    for (var first = part * size; first < end; first += 64u) {
        let n = min(end - first, 64u);
        var any = 0u;
        for (var e = lane; e < n * k; e += WORKGROUP) {
            let p = neighbour(first + e / k, e % k / u.cin);
            var value = 0.0;
            if (p != OUTSIDE) { value = x[p * u.cin + e % u.cin]; }
            patches[e] = value;
            if (value != 0.0) { any = 1u; }
        }
        // Waits for all patches, too.
        if (added(any, lane) == 0u) { continue; }
        for (var q = 0u; q < SHARE; q++) {
            let e = q * WORKGROUP + lane;
            if (e >= (k + 1u) * k) { break; }
            var sum = 0.0;
            for (var i = 0u; i < n; i++) {
                var other = 1.0;
                if (e >= k) { other = patches[i * k + e / k - 1u]; }
                sum += patches[i * k + e % k] * other;
            }
            sums[q] += sum;
        }
        workgroupBarrier();
    }
    for (var q = 0u; q < SHARE; q++) {
        let e = q * WORKGROUP + lane;
        if (e < (k + 1u) * k) { scratch[part * (k + 1u) * k + e] = sums[q]; }
    }
}

@compute @workgroup_size(WORKGROUP)
fn finish(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let e = index(id, groups);
    let all = (9u * u.cin + 1u) * 9u * u.cin;
    if (e >= all) { return; }
    var sum = 0.0;
    for (var p = 0u; p < parts(); p++) { sum += scratch[p * all + e]; }
    moments[e] = sum;
}
