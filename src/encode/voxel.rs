//! Voxel grids: each event shared between the two bins nearest in time.
//!
//! Zhu et al., "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion", CVPR 2019: with B bins over a recording,
//! t* = (B - 1) (t - t_first) / (t_last - t_first), and bin b takes max(0, 1 - |b - t*|) of the event. There one channel sums polarities of
//! +1 and -1; here each polarity has its channel, and that sum is channel 1 minus channel 0.

use super::{CHANNELS, Window};
use crate::events::Event;

/// Where bins stand in time: bin b at `b of / per` microseconds after the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bins {
    per: i128,
    of: i128,
}

impl Bins {
    /// `n` bins, the first at the first event and the last at the last one.
    pub fn over(events: &[Event], n: usize) -> Self {
        let span = match events {
            [first, .., last] => i128::from(last.t) - i128::from(first.t),
            _ => 0,
        };
        Bins { per: n.saturating_sub(1) as i128, of: span.max(1) }
    }
    /// A bin every `us` microseconds, as many as there need to be.
    pub fn every(us: i64) -> Self {
        Bins { per: 1, of: us.max(1).into() }
    }
    /// The last bin at or before an event `since` microseconds after the first, and the share that the bin behind it takes.
    #[inline]
    pub fn place(&self, since: i128) -> (usize, f32) {
        let at = since.max(0) * self.per;
        (usize::try_from(at / self.of).unwrap_or(usize::MAX), ((at % self.of) as f64 / self.of as f64) as f32)
    }
}

/// Sums of shares `[T, H, W, 2]`, T = `n` bins; shares of bins beyond are left out.
pub fn voxel(events: &[Event], bins: Bins, n: usize, window: &Window) -> Vec<f32> {
    let [h, w] = window.size();
    let frame = h * w * CHANNELS;
    let mut out = vec![0.0; n * frame];
    let first = events.first().map_or(0, |e| i128::from(e.t));
    for e in events {
        let Some(i) = window.element(e) else { continue };
        let (bin, next) = bins.place(i128::from(e.t) - first);
        if bin < n {
            out[bin * frame + i] += 1.0 - next;
        }
        if next > 0.0 && bin.saturating_add(1) < n {
            out[(bin + 1) * frame + i] += next;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Sensor;

    #[test]
    fn shares_by_hand() {
        let e = |t, p| Event { t, p, ..Event::default() };
        let window = Window::new(Sensor::new(1, 1), None, None);
        let events = [e(100, true), e(110, false), e(120, true), e(140, true)];
        // Three bins 20 us apart.
        assert_eq!(voxel(&events, Bins::over(&events, 3), 3, &window), [0.5, 1.0, 0.5, 1.0, 0.0, 1.0]);
        // Bins 16 us apart: 0, 16, 32 and 48.
        assert_eq!(voxel(&events, Bins::every(16), 4, &window), [0.375, 1.0, 0.625, 0.75, 0.0, 0.75, 0.0, 0.5]);
        assert_eq!(voxel(&events, Bins::every(16), 2, &window), [0.375, 1.0, 0.625, 0.75]);
        // All at once, and one bin.
        let at_once = [e(5, true), e(5, true)];
        assert_eq!(voxel(&at_once, Bins::over(&at_once, 2), 2, &window), [0.0, 2.0, 0.0, 0.0]);
        assert_eq!(voxel(&events, Bins::over(&events, 1), 1, &window), [1.0, 3.0]);
        assert_eq!(voxel(&[], Bins::over(&[], 2), 2, &window), [0.0; 4]);
    }
}
