//! Binary raster: where anything happened in a slice, by polarity. A network takes it as spikes.

use super::{Window, frame};
use crate::events::Event;
use std::ops::Range;

/// `[T, H, W, 2]`: 1 where at least one event of that polarity fell in the slice, else 0.
///
/// # Panics
/// If a slice reaches beyond the events.
pub fn raster(events: &[Event], slices: &[Range<usize>], window: &Window) -> Vec<f32> {
    let mut out = frame::frames(events, slices, window);
    out.iter_mut().for_each(|v| *v = v.min(1.0));
    out
}
