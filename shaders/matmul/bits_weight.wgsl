// dw[split] = X^T dy over the split's run of rows, X the sum of planes of packed spikes.
struct U { rows: u32, planes: u32, cin: u32, cout: u32, has_bias: u32, splits: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dw: array<f32>;

fn size() -> vec4<u32> { return vec4<u32>(u.cin, u.cout, u.rows, u.splits); }
fn unit() -> u32 { return 1u; }
fn load_a(i: u32, k: u32) -> f32 {
    let words = (u.cin + 31u) / 32u;
    var sum = 0u;
    for (var p = 0u; p < u.planes; p++) { sum += x[(p * u.rows + k) * words + i / 32u] >> (i % 32u) & 1u; }
    return f32(sum);
}
fn load_b(k: u32, j: u32) -> f32 { return dy[k * u.cout + j]; }
fn store(split: u32, i: u32, j: u32, v: f32) { dw[(split * u.cin + i) * u.cout + j] = v; }
#import keep
#import walk_weight
