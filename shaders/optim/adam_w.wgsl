// AdamW with decoupled decay, as torch.optim.AdamW
struct U {
    n: u32, lr: f32, beta1: f32, beta2: f32, eps: f32, weight_decay: f32, bias1: f32, bias2: f32,
}
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> m: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> p2: array<f32>;
@group(0) @binding(6) var<storage, read_write> m2: array<f32>;
@group(0) @binding(7) var<storage, read_write> v2: array<f32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = index(id, groups);
    if (i >= u.n) { return; }
    let m_new = u.beta1 * m[i] + (1.0 - u.beta1) * g[i];
    let v_new = u.beta2 * v[i] + (1.0 - u.beta2) * g[i] * g[i];
    m2[i] = m_new;
    v2[i] = v_new;
    p2[i] = p[i] - u.lr * u.weight_decay * p[i] - u.lr * (m_new / u.bias1) / (sqrt(v_new / u.bias2) + u.eps);
}
