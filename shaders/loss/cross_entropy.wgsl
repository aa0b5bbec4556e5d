// Cross-entropy with probabilities as targets, its gradient, and whether the largest logit (the first of equals) has the largest
// target. A row whose targets are all zero has no loss and no gradient. Rows go through the targets in turn. One invocation a row: there are few classes.
struct U { rows: u32, classes: u32, targets: u32, scale: f32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> wanted: array<f32>;
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
    let goal = row % u.targets * u.classes;
    var best = 0u;
    var right = 0u;
    for (var k = 1u; k < u.classes; k++) {
        if (logits[at + k] > logits[at + best]) { best = k; }
        if (wanted[goal + k] > wanted[goal + right]) { right = k; }
    }
    // Relative to the largest, nothing overflows.
    let top = logits[at + best];
    var total = 0.0;
    var share = 0.0;
    for (var k = 0u; k < u.classes; k++) {
        total += exp(logits[at + k] - top);
        share += wanted[goal + k];
    }
    let log_total = log(total);
    var sum = 0.0;
    for (var k = 0u; k < u.classes; k++) {
        let d = logits[at + k] - top;
        let w = wanted[goal + k];
        sum += w * (log_total - d);
        grad[at + k] = u.scale * (exp(d) / total * share - w);
    }
    loss[row] = sum;
    correct[row] = select(0u, 1u, share > 0.0 && best == right);
}
