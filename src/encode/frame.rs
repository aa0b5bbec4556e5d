//! Frames: the events of each slice counted by place and polarity.

use super::{CHANNELS, Window};
use crate::events::Event;
use std::ops::Range;

/// Counts `[T, H, W, 2]` of the events in each of T slices, as SpikingJelly's frames are.
///
/// # Panics
/// If a slice reaches beyond the events.
pub fn frames(events: &[Event], slices: &[Range<usize>], window: &Window) -> Vec<f32> {
    let [h, w] = window.size();
    let frame = h * w * CHANNELS;
    let mut out = vec![0.0; slices.len() * frame];
    for (t, slice) in slices.iter().enumerate() {
        let out = &mut out[t * frame..][..frame];
        for e in &events[slice.clone()] {
            if let Some(i) = window.element(e) {
                out[i] += 1.0;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Encoding, SplitBy, slices};
    use crate::events::Sensor;

    #[test]
    fn counts_by_place_and_polarity() {
        let e = |t, x, y, p| Event { t, x, y, p };
        let events = [e(0, 0, 0, false), e(1, 1, 0, true), e(2, 1, 0, true), e(3, 0, 1, false), e(4, 9, 9, true)];
        let sensor = Sensor::new(2, 2);
        let window = Window::new(sensor, None, None);
        let x = frames(&events, &slices(&events, 2, SplitBy::Number), &window);
        assert_eq!(x[..8], [1., 0., 0., 1., 0., 0., 0., 0.]);
        assert_eq!(x[8..], [0., 0., 0., 1., 1., 0., 0., 0.]);
        let encoding = Encoding { frames: 1, size: Some([1, 1]), ..Encoding::default() };
        assert_eq!(encoding.encode(&events, sensor), [2., 2.]);
    }
}
