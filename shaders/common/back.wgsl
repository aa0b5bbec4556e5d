// A neuron at one step, backward in time. The importing shader imports the surrogate.
// The membrane after the step that reached h.
fn reset(h: f32) -> f32 {
    if (h < u.v_threshold) { return h; }
    return select(u.rest, h - u.v_threshold, u.soft != 0u);
}

// dL/dH, from H, dL/dS, and dL/dV from the step after.
fn dl_dh(h: f32, ds: f32, dv: f32) -> f32 {
    let over = h - u.v_threshold;
    let sg = surrogate(over, u.alpha);
    let through = select(sg, 0.0, u.detach_reset != 0u);
    let hard = select(1.0, 0.0, over >= 0.0) + through * (u.rest - h);
    return ds * sg + dv * select(hard, 1.0 - through * u.v_threshold, u.soft != 0u);
}
