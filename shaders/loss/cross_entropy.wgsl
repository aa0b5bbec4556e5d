// Cross-entropy with label smoothing, its gradient, and whether the largest logit (the first of equals) is the label's.
// A row whose label is no class has no loss and no gradient. One invocation a row: there are few classes.
struct U { rows: u32, classes: u32, smoothing: f32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad: array<f32>;
@group(0) @binding(5) var<storage, read_write> correct: array<u32>;
const WORKGROUP = 64u;
#import index

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = index(id, groups);
    if (row >= u.rows) { return; }
    let at = row * u.classes;
    let label = labels[row];
    if (label >= u.classes) {
        loss[row] = 0.0;
        correct[row] = 0u;
        for (var k = 0u; k < u.classes; k++) { grad[at + k] = 0.0; }
        return;
    }
    var best = 0u;
    for (var k = 1u; k < u.classes; k++) {
        if (logits[at + k] > logits[at + best]) { best = k; }
    }
    // Relative to the largest, nothing overflows.
    let top = logits[at + best];
    var total = 0.0;
    var below = 0.0;
    for (var k = 0u; k < u.classes; k++) {
        let d = logits[at + k] - top;
        total += exp(d);
        below += d;
    }
    let log_total = log(total);
    let n = f32(u.classes);
    let nll = log_total - (logits[at + label] - top);
    loss[row] = (1.0 - u.smoothing) * nll + u.smoothing * (log_total - below / n);
    for (var k = 0u; k < u.classes; k++) {
        let wanted = select(0.0, 1.0 - u.smoothing, k == label) + u.smoothing / n;
        grad[at + k] = u.scale * (exp(logits[at + k] - top) / total - wanted);
    }
    correct[row] = select(0u, 1u, best == label);
}
