// Weights of the convolution that carries gradients back: taps turned round, channels exchanged.
struct U { images: u32, h: u32, w: u32, cin: u32, cout: u32, planes: u32, splits: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    let n = u.cin * u.cout;
    if (i >= 9u * n) { return; }
    let tap = i / n;
    let co = i % n / u.cin;
    let ci = i % u.cin;
    y[i] = w[(8u - tap) * n + ci * u.cout + co];
}
