//! Time surfaces: how long ago each place last had an event, at the end of each step.
//!
//! The exponential kernel of Lagorce et al., "HOTS: A Hierarchy of Event-Based Time-Surfaces", PAMI 2017, S = exp(-(t - t_last) / tau), for
//! each polarity by itself, taken of the whole sensor when a step ends instead of around each event when it comes.

use super::{CHANNELS, Step, Window};
use crate::events::Event;

/// The time of the last event by element of `[H, W, 2]`.
#[derive(Clone, Debug)]
pub struct Surface {
    last: Vec<Option<i64>>,
    tau_us: f64,
}

impl Surface {
    /// Nothing seen yet. `tau_us` is the time in which the surface falls to 1/e, microseconds.
    pub fn new(window: &Window, tau_us: i64) -> Self {
        let [h, w] = window.size();
        Surface { last: vec![None; h * w * CHANNELS], tau_us: tau_us.max(1) as f64 }
    }
    /// An event at element `i` and time `t`.
    #[inline]
    pub fn see(&mut self, i: usize, t: i64) {
        self.last[i] = Some(self.last[i].map_or(t, |last| last.max(t)));
    }
    /// Forgets all.
    pub fn clear(&mut self) {
        self.last.fill(None);
    }
    /// The surface as it is at time `t`, which is not before the last event: above 0 and up to 1, or 0 where no event ever came.
    pub fn at(&self, t: i128, out: &mut [f32]) {
        for (out, last) in out.iter_mut().zip(&self.last) {
            *out = last.map_or(0.0, |last| (-((t - i128::from(last)).max(0) as f64) / self.tau_us).exp() as f32);
        }
    }
}

/// Surfaces `[T, H, W, 2]` at the ends of T steps; what came in earlier steps stays and fades.
///
/// # Panics
/// If a step reaches beyond the events.
pub fn surface(events: &[Event], steps: &[Step], tau_us: i64, window: &Window) -> Vec<f32> {
    let mut surface = Surface::new(window, tau_us);
    let frame = surface.last.len();
    let mut out = vec![0.0; steps.len() * frame];
    for (t, step) in steps.iter().enumerate() {
        for e in &events[step.events.clone()] {
            if let Some(i) = window.element(e) {
                surface.see(i, e.t);
            }
        }
        surface.at(step.end, &mut out[t * frame..][..frame]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Encoding, Kind};
    use crate::events::Sensor;

    #[test]
    fn surfaces_fade_by_tau() {
        let e = |t, p| Event { t, p, ..Event::default() };
        let encoding = Encoding { kind: Kind::Surface, duration_us: Some(10), tau_us: Some(20), ..Encoding::default() };
        let x = encoding.encode(&[e(0, true), e(5, false), e(28, true)], Sensor::new(1, 1));
        let f = |ago: f64| (-ago / 20.0).exp() as f32;
        assert_eq!(x, [f(5.0), f(10.0), f(15.0), f(20.0), f(25.0), f(2.0)]);
    }
}
