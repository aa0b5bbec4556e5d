//! Events to arrays: pure functions, no I/O and no randomness.
//!
//! [`slices`] cuts a recording in time, an encoding turns the events of each slice into an array `[H, W, C]`, and
//! [`Encoding`] is the choice of all that as a recipe names it. Events must be in order of time
//! ([`EventStream::sort`](crate::events::EventStream::sort)).
//!
//! # How to add an encoding
//! Write `src/encode/<name>.rs` with a function like [`frame::frames`], name it in [`Kind`], and let
//! [`Encoding::channels`] and [`Encoding::encode`] know it.

pub mod frame;
pub mod render;
mod stream;
mod window;

pub use stream::{MOST_EMPTY, StepEncoder};
pub use window::Window;

use crate::events::{Event, Filter, Sensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How a recording is cut into slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Equally many events to a slice.
    #[default]
    Number,
    /// Equally long slices.
    Time,
}

/// What an array holds of the events of a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Events counted by polarity.
    #[default]
    Frame,
}

/// Cuts a recording into `n` slices as SpikingJelly does: by number, floor(N / n) events each and the rest in the last; by
/// time, floor(duration / n) microseconds each and the rest in the last. The slices follow each other and cover all.
///
/// ```
/// use spikemix::{encode::{slices, SplitBy}, events::Event};
/// let events: Vec<_> = [0, 1, 2, 30, 40].map(|t| Event { t, ..Event::default() }).into();
/// assert_eq!(slices(&events, 2, SplitBy::Number), [0..2, 2..5]);
/// assert_eq!(slices(&events, 2, SplitBy::Time), [0..3, 3..5]);
/// ```
pub fn slices(events: &[Event], n: usize, by: SplitBy) -> Vec<Range<usize>> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return vec![0..0; n];
    };
    // Where slice i begins; where the last ends is the end of all.
    let begin = |i: usize| match by {
        _ if i == 0 => 0,
        SplitBy::Number => events.len() / n * i,
        SplitBy::Time => {
            let step = (i128::from(last.t) - i128::from(first.t)) / n as i128;
            let from = i128::from(first.t) + step * i as i128;
            events.partition_point(|e| i128::from(e.t) < from)
        }
    };
    let end = |i: usize| {
        if i + 1 == n { events.len() } else { begin(i + 1) }
    };
    (0..n).map(|i| begin(i)..end(i)).collect()
}

/// An encoding as a recipe chooses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encoding {
    /// What the arrays hold.
    pub kind: Kind,
    /// T: how many slices (SpikingJelly's `frames_number`).
    pub frames: usize,
    /// How they are cut.
    pub split_by: SplitBy,
    /// A centred part of the sensor, `[height, width]`; where it exceeds the sensor it is padded. All by default.
    pub crop: Option<[usize; 2]>,
    /// What the (cropped) sensor is scaled down to, `[height, width]`; events that fall on one place add up.
    pub size: Option<[usize; 2]>,
    /// What is taken out of a recording before; [`Encoding::encode`] expects it done.
    pub filter: Filter,
}

impl Default for Encoding {
    fn default() -> Self {
        Encoding { kind: Kind::Frame, frames: 16, split_by: SplitBy::Number, crop: None, size: None, filter: Filter::default() }
    }
}

impl Encoding {
    /// C: channels of the arrays.
    pub fn channels(&self) -> usize {
        match self.kind {
            Kind::Frame => frame::CHANNELS,
        }
    }
    /// The arrays' shape `[T, H, W, C]` for recordings of `sensor`.
    pub fn shape(&self, sensor: Sensor) -> [usize; 4] {
        let [h, w] = self.window(sensor).size();
        [self.frames, h, w, self.channels()]
    }
    /// Which pixel goes where.
    pub fn window(&self, sensor: Sensor) -> Window {
        Window::new(sensor, self.crop, self.size)
    }
    /// Refuses what no recording could be encoded with.
    ///
    /// # Errors
    /// No frames, an empty array, or one of more than 2^31 elements.
    pub fn check(&self, sensor: Sensor) -> Result<()> {
        let shape = self.shape(sensor);
        let elements = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if shape.contains(&0) || elements.is_none_or(|n| n > 1 << 31) {
            return Err(Error::config("data", format!("arrays [T, H, W, C] of {shape:?} are empty or too large")));
        }
        Ok(())
    }
    /// The array `[T, H, W, C]` of a recording in order of time. Events outside the sensor or the crop are left out.
    pub fn encode(&self, events: &[Event], sensor: Sensor) -> Vec<f32> {
        match self.kind {
            Kind::Frame => {
                let slices = slices(events, self.frames, self.split_by);
                frame::frames(events, &slices, &self.window(sensor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(times: &[i64]) -> Vec<Event> {
        times.iter().map(|&t| Event { t, ..Event::default() }).collect()
    }

    #[test]
    fn remainders_go_to_the_last() {
        let e = at(&[0, 1, 2, 3, 4, 5, 6, 100, 100, 103]);
        assert_eq!(slices(&e, 4, SplitBy::Number), [0..2, 2..4, 4..6, 6..10]);
        // 103 / 4 = 25 microseconds a slice; the last reaches from 75 to the end.
        assert_eq!(slices(&e, 4, SplitBy::Time), [0..7, 7..7, 7..7, 7..10]);
        assert_eq!(slices(&e, 20, SplitBy::Number)[19], 0..10);
        assert_eq!(slices(&at(&[5, 6]), 4, SplitBy::Time), [0..0, 0..0, 0..0, 0..2]);
        assert_eq!(slices(&[], 3, SplitBy::Time), [0..0, 0..0, 0..0]);
        assert_eq!(slices(&at(&[i64::MIN, i64::MAX]), 2, SplitBy::Time), [0..1, 1..2]);
    }

    proptest! {
        #[test]
        fn slices_cover_all_in_order(mut t in prop::collection::vec(0i64..10_000, 0..300), n in 1usize..40, time in any::<bool>()) {
            t.sort();
            let s = slices(&at(&t), n, if time { SplitBy::Time } else { SplitBy::Number });
            prop_assert_eq!(s.len(), n);
            prop_assert_eq!((s[0].start, s[n - 1].end), (0, t.len()));
            prop_assert!(s.windows(2).all(|w| w[0].end == w[1].start));
        }
    }

    #[test]
    fn shapes_and_impossible_settings() {
        let e = Encoding { crop: Some([32, 30]), size: Some([16, 15]), ..Encoding::default() };
        assert_eq!(e.shape(Sensor::new(34, 34)), [16, 16, 15, 2]);
        assert_eq!(Encoding::default().shape(Sensor::new(5, 7)), [16, 7, 5, 2]);
        for bad in [
            Encoding { frames: 0, ..Encoding::default() },
            Encoding { size: Some([0, 4]), ..Encoding::default() },
            Encoding { frames: usize::MAX, ..Encoding::default() },
        ] {
            assert!(bad.check(Sensor::new(4, 4)).is_err());
        }
        assert!(Encoding::default().check(Sensor::default()).is_err());
    }
}
