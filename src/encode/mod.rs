//! Events to arrays: pure functions, no I/O and no randomness.
//!
//! [`slices`] cuts a recording in time, an encoding turns the events of each slice into an array `[H, W, C]`, and
//! [`Encoding`] is the choice of all that as a recipe names it. Events must be in order of time
//! ([`EventStream::sort`](crate::events::EventStream::sort)).
//!
//! # How to add an encoding
//! Write `src/encode/<name>.rs` with a function like [`frame::frames`], name it in [`Kind`], and let [`Encoding::encode`] and
//! [`StepEncoder`] know it. The tests here compare it with a slow reference, and whole recordings with streams.

pub mod frame;
mod letters;
pub mod raster;
pub mod render;
mod stream;
pub mod surface;
pub mod voxel;
mod window;

pub use stream::{MOST_EMPTY, StepEncoder};
pub use window::{Crop, Rectangle, Window};

use crate::events::{Event, Filter, Sensor};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use voxel::Bins;

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

/// Channels of every encoding: 0 is of off events, 1 of on events, as in SpikingJelly.
pub const CHANNELS: usize = 2;

/// The most steps of a fixed duration that a recording becomes, where a recipe does not say.
pub const MAX_STEPS: usize = 1000;

/// The time constant of time surfaces, microseconds, where a recipe does not say.
pub const TAU_US: i64 = 50_000;

/// What an array holds of the events of a step, for each polarity by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How many there are ([`frame`]).
    #[default]
    #[serde(alias = "frame")]
    Frames,
    /// Sums of their shares, linear in time between the bins ([`voxel`]).
    Voxel,
    /// How long ago the last one was, as exp(-age / tau) ([`surface`]).
    Surface,
    /// Whether there is one: spikes ([`raster`]).
    Raster,
}

/// What becomes of the values of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// They stay.
    #[default]
    None,
    /// Square roots: the noise of a count then is the same for few events as for many.
    Sqrt,
    /// ln(1 + v).
    Log,
}

impl Compress {
    /// Whether values stay as they are.
    pub fn is_off(&self) -> bool {
        *self == Compress::None
    }
    /// Changes all values; each keeps its sign.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Compress::None => {}
            Compress::Sqrt => values.iter_mut().for_each(|v| *v = v.abs().sqrt().copysign(*v)),
            Compress::Log => values.iter_mut().for_each(|v| *v = v.abs().ln_1p().copysign(*v)),
        }
    }
}

/// One step of an encoded recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its events.
    pub events: Range<usize>,
    /// When it ends, microseconds.
    pub end: i128,
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
    /// T: how many slices (SpikingJelly's `frames_number`). Without a part where `duration_us` is given.
    pub frames: usize,
    /// How they are cut. Voxel grids are always cut by time.
    pub split_by: SplitBy,
    /// The duration of a step, microseconds: T then depends on the recording.
    pub duration_us: Option<i64>,
    /// The most steps of a fixed duration; what is recorded later is left out. [`MAX_STEPS`] if none.
    pub max_steps: Option<usize>,
    /// The time in which a time surface falls to 1/e, microseconds; [`TAU_US`] if none.
    pub tau_us: Option<i64>,
    /// The part of the sensor that is looked at; all by default.
    pub crop: Option<Crop>,
    /// What the (cropped) sensor is scaled down to, `[height, width]`. What falls on one place adds up; in a time surface the
    /// latest event counts, in a raster any.
    pub size: Option<[usize; 2]>,
    /// What becomes of the values; nothing by default.
    #[serde(skip_serializing_if = "Compress::is_off")]
    pub compress: Compress,
    /// What is taken out of a recording before; [`Encoding::encode`] expects it done.
    pub filter: Filter,
}

impl Default for Encoding {
    fn default() -> Self {
        Encoding {
            kind: Kind::Frames,
            frames: 16,
            split_by: SplitBy::Number,
            duration_us: None,
            max_steps: None,
            tau_us: None,
            crop: None,
            size: None,
            compress: Compress::None,
            filter: Filter::default(),
        }
    }
}

impl Encoding {
    /// Whether arrays hold zeros and ones, which a network takes as spikes.
    pub fn is_binary(&self) -> bool {
        self.kind == Kind::Raster
    }
    /// The arrays' shape `[T, H, W, C]` for recordings of `sensor`; where steps have a fixed duration, T is the most there can be.
    pub fn shape(&self, sensor: Sensor) -> [usize; 4] {
        let [h, w] = self.window(sensor).size();
        [if self.duration_us.is_some() { self.most() } else { self.frames }, h, w, CHANNELS]
    }
    /// Which pixel goes where.
    pub fn window(&self, sensor: Sensor) -> Window {
        Window::new(sensor, self.crop, self.size)
    }
    fn most(&self) -> usize {
        self.max_steps.unwrap_or(MAX_STEPS)
    }
    /// The time constant of a time surface, microseconds.
    pub fn tau_us(&self) -> i64 {
        self.tau_us.unwrap_or(TAU_US)
    }
    /// Refuses what no recording could be encoded with.
    ///
    /// # Errors
    /// A setting that is impossible or belongs to another encoding, a rectangle beyond the sensor, or an array that is empty or of more
    /// than 2^31 elements; with the key in `[data]`.
    pub fn check(&self, sensor: Sensor) -> Result<()> {
        let bad = |key: &str, what: String| Err(Error::config(format!("data.{key}"), what));
        for (key, v) in [("duration_us", self.duration_us), ("tau_us", self.tau_us)] {
            if let Some(v) = v.filter(|v| *v < 1) {
                return bad(key, format!("{v} is not a duration in microseconds: at least 1"));
            }
        }
        if self.tau_us.is_some() && self.kind != Kind::Surface {
            return bad("tau_us", "only encoding = \"surface\" has it".into());
        }
        if self.compress != Compress::None && self.is_binary() {
            return bad("compress", "a raster holds spikes, which stay 0 and 1".into());
        }
        match (self.max_steps, self.duration_us) {
            (Some(0), _) => return bad("max_steps", "0 must be at least 1".into()),
            (Some(_), None) => {
                return bad("max_steps", "only recordings cut by duration_us have it; frames says T otherwise".into());
            }
            _ => {}
        }
        if let Some(Crop::Centre([0, _] | [_, 0]) | Crop::Rectangle(Rectangle { width: 0, .. } | Rectangle { height: 0, .. })) =
            self.crop
        {
            return bad("crop", "a part of the sensor without pixels holds no events".into());
        }
        if let Some(Crop::Rectangle(r)) = self.crop {
            let beyond = |from: usize, n: usize, side: u32| from.checked_add(n).is_none_or(|end| end > side as usize);
            if beyond(r.x, r.width, sensor.width) || beyond(r.y, r.height, sensor.height) {
                let Rectangle { x, y, width, height } = r;
                return bad("crop", format!("{width}x{height} pixels from ({x}, {y}) on reach beyond the sensor of {sensor}"));
            }
        }
        let shape = self.shape(sensor);
        let elements = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if shape.contains(&0) || elements.is_none_or(|n| n > 1 << 31) {
            return Err(Error::config("data", format!("arrays [T, H, W, C] of {shape:?} are empty or too large")));
        }
        Ok(())
    }
    /// How many steps a recording in order of time has, those beyond `max_steps` included; at least one.
    pub fn length(&self, events: &[Event]) -> usize {
        let (Some(us), Some(first), Some(last)) = (self.duration_us, events.first(), events.last()) else {
            return if self.duration_us.is_some() { 1 } else { self.frames };
        };
        let (span, us) = (i128::from(last.t) - i128::from(first.t), i128::from(us.max(1)));
        // Between two bins of a voxel grid, the second one has a share.
        let steps = span / us + 1 + i128::from(self.kind == Kind::Voxel && span % us > 0);
        usize::try_from(steps).unwrap_or(usize::MAX)
    }
    /// The steps of a recording in order of time, at most `max_steps` where they have a fixed duration: step i then holds the events
    /// from `i duration_us` until before `(i + 1) duration_us` after the first.
    pub fn steps(&self, events: &[Event]) -> Vec<Step> {
        let (first, last) = match (events.first(), events.last()) {
            (Some(first), Some(last)) => (i128::from(first.t), i128::from(last.t)),
            _ => (0, 0),
        };
        if let Some(us) = self.duration_us {
            let n = self.length(events).min(self.most());
            let end = |i: usize| first + (i as i128 + 1) * i128::from(us);
            let behind = |i: usize| events.partition_point(|e| i128::from(e.t) < end(i));
            let mut from = 0;
            let step = |i| {
                let to = behind(i);
                Step { events: std::mem::replace(&mut from, to)..to, end: end(i) }
            };
            return (0..n).map(step).collect();
        }
        let (n, mut now) = (self.frames, first);
        let step = |(i, range): (usize, Range<usize>)| {
            now = match self.split_by {
                SplitBy::Number => events[range.clone()].last().map_or(now, |e| e.t.into()),
                SplitBy::Time if i + 1 == n => last,
                SplitBy::Time => first + (last - first) / n as i128 * (i as i128 + 1),
            };
            Step { events: range, end: now }
        };
        slices(events, n, self.split_by).into_iter().enumerate().map(step).collect()
    }
    /// The array `[T, H, W, C]` of a recording in order of time. Events outside the sensor or the crop are left out.
    pub fn encode(&self, events: &[Event], sensor: Sensor) -> Vec<f32> {
        let (steps, window) = (self.steps(events), self.window(sensor));
        let ranges = || steps.iter().map(|s| s.events.clone()).collect::<Vec<_>>();
        let mut x = match self.kind {
            Kind::Frames => frame::frames(events, &ranges(), &window),
            Kind::Raster => raster::raster(events, &ranges(), &window),
            Kind::Surface => surface::surface(events, &steps, self.tau_us(), &window),
            Kind::Voxel => {
                let bins = self.duration_us.map_or_else(|| Bins::over(events, steps.len()), Bins::every);
                voxel::voxel(events, bins, steps.len(), &window)
            }
        };
        self.compress.apply(&mut x);
        x
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
        let e = Encoding { crop: Some(Crop::Centre([32, 30])), size: Some([16, 15]), ..Encoding::default() };
        assert_eq!(e.shape(Sensor::new(34, 34)), [16, 16, 15, 2]);
        assert_eq!(Encoding::default().shape(Sensor::new(5, 7)), [16, 7, 5, 2]);
        let rectangle = |x, width| Some(Crop::Rectangle(Rectangle { x, y: 0, width, height: 2 }));
        for (bad, words) in [
            (Encoding { frames: 0, ..Encoding::default() }, "data: arrays"),
            (Encoding { size: Some([0, 4]), ..Encoding::default() }, "data: arrays"),
            (Encoding { frames: usize::MAX, ..Encoding::default() }, "data: arrays"),
            (Encoding { crop: Some(Crop::Centre([usize::MAX; 2])), ..Encoding::default() }, "data: arrays"),
            (Encoding { duration_us: Some(0), ..Encoding::default() }, "data.duration_us: 0 is not a duration"),
            (Encoding { duration_us: Some(9), max_steps: Some(0), ..Encoding::default() }, "data.max_steps: 0 must"),
            (Encoding { max_steps: Some(9), ..Encoding::default() }, "data.max_steps: only recordings cut by duration_us"),
            (Encoding { tau_us: Some(9), ..Encoding::default() }, "data.tau_us: only encoding = \"surface\""),
            (Encoding { kind: Kind::Raster, compress: Compress::Log, ..Encoding::default() }, "data.compress: a raster"),
            (Encoding { tau_us: Some(-1), kind: Kind::Surface, ..Encoding::default() }, "data.tau_us: -1 is not"),
            (Encoding { crop: rectangle(1, 4), ..Encoding::default() }, "data.crop: 4x2 pixels from (1, 0) on reach beyond"),
            (Encoding { crop: rectangle(usize::MAX, 2), ..Encoding::default() }, "data.crop: "),
        ] {
            let said = bad.check(Sensor::new(4, 4)).unwrap_err().to_string();
            assert!(said.starts_with(words), "{said}");
        }
        let part = Encoding { crop: rectangle(1, 3), size: Some([1, 1]), ..Encoding::default() };
        part.check(Sensor::new(4, 4)).unwrap();
        assert!(Encoding::default().check(Sensor::default()).is_err());
    }

    /// An encoding drawn at random, for sensors of 6 by 4.
    pub(super) fn any_encoding() -> impl Strategy<Value = Encoding> {
        let kind = prop_oneof![Just(Kind::Frames), Just(Kind::Voxel), Just(Kind::Surface), Just(Kind::Raster)];
        let crop = prop_oneof![
            Just(None),
            Just(Some(Crop::Centre([2, 3]))),
            Just(Some(Crop::Centre([6, 5]))),
            Just(Some(Crop::Rectangle(Rectangle { x: 1, y: 1, width: 4, height: 3 }))),
        ];
        let cut = (1usize..12, any::<bool>(), prop::option::of(1i64..900), prop::option::of(1usize..20));
        let filter = prop_oneof![
            Just(Filter::default()),
            Just(Filter { start_us: 500, duration_us: Some(3000), ..Filter::default() }),
            Just(Filter { denoise_us: 900, refractory_us: 300, ..Filter::default() }),
        ];
        let compress = prop_oneof![Just(Compress::None), Just(Compress::Sqrt), Just(Compress::Log)];
        (kind, crop, cut, any::<bool>(), compress, filter).prop_map(
            |(kind, crop, (frames, time, duration_us, max_steps), small, compress, filter)| Encoding {
                kind,
                frames,
                split_by: if time { SplitBy::Time } else { SplitBy::Number },
                duration_us,
                max_steps: max_steps.filter(|_| duration_us.is_some()),
                tau_us: (kind == Kind::Surface).then_some(700),
                crop,
                size: small.then_some([2, 3]),
                compress: if kind == Kind::Raster { Compress::None } else { compress },
                filter,
            },
        )
    }

    /// Recordings in order of time; some events lie outside a sensor of 6 by 4.
    pub(super) fn any_events() -> impl Strategy<Value = Vec<Event>> {
        let event = (0i64..5000, 0u16..7, 0u16..5, any::<bool>());
        (prop::collection::vec(event, 0..200), -3_000_000_000i64..3_000_000_000).prop_map(|(mut events, start)| {
            events.sort();
            events.into_iter().map(|(t, x, y, p)| Event { t: start + t, x, y, p }).collect()
        })
    }

    /// The definition of each encoding, one element and step at a time.
    fn slow(e: &Encoding, events: &[Event], sensor: Sensor) -> Vec<f32> {
        let (steps, window) = (e.steps(events), e.window(sensor));
        let (t0, tn) = (events.first().map_or(0, |e| e.t), events.last().map_or(0, |e| e.t));
        let mut out = Vec::new();
        for (k, step) in steps.iter().enumerate() {
            for i in 0..window.size().iter().product::<usize>() * 2 {
                let here = |ev: &&Event| window.place(ev).map(|p| 2 * p + usize::from(ev.p)) == Some(i);
                let count = events[step.events.clone()].iter().filter(here).count();
                out.push(match e.kind {
                    Kind::Frames => count as f32,
                    Kind::Raster => f32::from(u8::from(count > 0)),
                    Kind::Surface => {
                        let last = events[..step.events.end].iter().rfind(here);
                        last.map_or(0.0, |l| (-((step.end - i128::from(l.t)) as f64) / 700.0).exp() as f32)
                    }
                    Kind::Voxel => {
                        let (bins, span) = ((steps.len() - 1) as f64, (tn - t0).max(1) as f64);
                        let star = |t: i64| e.duration_us.map_or(bins * (t - t0) as f64 / span, |us| (t - t0) as f64 / us as f64);
                        events.iter().filter(here).map(|ev| (1.0 - (k as f64 - star(ev.t)).abs()).max(0.0)).sum::<f64>() as f32
                    }
                });
            }
        }
        out
    }

    proptest! {
        #[test]
        fn encodings_are_what_they_are_defined_as(e in any_encoding(), events in any_events()) {
            let sensor = Sensor::new(6, 4);
            e.check(sensor).unwrap();
            let compressed = e.encode(&events, sensor);
            let (compress, e) = (e.compress, Encoding { compress: Compress::None, ..e });
            let (got, want) = (e.encode(&events, sensor), slow(&e, &events, sensor));
            prop_assert_eq!(got.len(), want.len());
            let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            prop_assert!(if e.kind == Kind::Voxel { worst < 1e-4 } else { worst == 0.0 }, "{:?}: {worst}", e);
            let mut squeezed = got.clone();
            compress.apply(&mut squeezed);
            prop_assert_eq!(squeezed, compressed);

            let [_, h, w, c] = e.shape(sensor);
            prop_assert_eq!(got.len(), e.steps(&events).len() * h * w * c);
            // What is within crop and steps, by polarity.
            let (window, n) = (e.window(sensor), e.steps(&events).last().unwrap().events.end);
            let inside: Vec<&Event> = events.iter().filter(|e| window.place(e).is_some()).collect();
            let all = e.length(&events) == e.steps(&events).len();
            for p in [false, true] {
                let sum: f64 = got.iter().skip(usize::from(p)).step_by(2).map(|&v| f64::from(v)).sum();
                let total = inside.iter().filter(|e| e.p == p).count() as f64;
                let kept = events[..n].iter().filter(|e| e.p == p && window.place(e).is_some()).count() as f64;
                match e.kind {
                    Kind::Frames => prop_assert_eq!(sum, kept),
                    Kind::Voxel if all => prop_assert!((sum - total).abs() < 1e-3, "{} shares of {} events", sum, total),
                    Kind::Voxel => prop_assert!(sum < total + 1e-3),
                    Kind::Raster => prop_assert!(sum <= kept && (sum > 0.0) == (kept > 0.0)),
                    Kind::Surface => prop_assert!(got.iter().all(|v| (0.0..=1.0).contains(v)) && (sum > 0.0) == (kept > 0.0)),
                }
            }
        }
    }

    #[test]
    fn values_are_compressed_and_keep_their_sign() {
        let by = |c: Compress| {
            let mut v = [0.0, 4.0, -9.0];
            c.apply(&mut v);
            v
        };
        assert_eq!(by(Compress::None), [0.0, 4.0, -9.0]);
        assert_eq!(by(Compress::Sqrt), [0.0, 2.0, -3.0]);
        assert_eq!(by(Compress::Log), [0.0, 5f32.ln(), -(10f32.ln())]);
    }

    #[test]
    fn steps_of_a_fixed_duration() {
        let e = Encoding { duration_us: Some(10), ..Encoding::default() };
        let steps = |e: &Encoding, t: &[i64]| e.steps(&at(t)).into_iter().map(|s| (s.events, s.end)).collect::<Vec<_>>();
        assert_eq!(steps(&e, &[5, 14, 15, 37]), [(0..2, 15), (2..3, 25), (3..3, 35), (3..4, 45)]);
        let cut = Encoding { max_steps: Some(2), ..e.clone() };
        assert_eq!((steps(&cut, &[5, 14, 15, 37]).len(), cut.length(&at(&[5, 14, 15, 37]))), (2, 4));
        assert_eq!(
            (steps(&e, &[]), e.length(&at(&[i64::MIN, i64::MAX]))),
            (vec![(0..0, 10)], usize::try_from(u64::MAX / 10 + 1).unwrap())
        );
        let voxel = Encoding { kind: Kind::Voxel, ..e };
        assert_eq!([&[5, 25][..], &[5, 26], &[5]].map(|t| voxel.length(&at(t))), [3, 4, 1]);
    }
}
