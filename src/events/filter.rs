//! Filters that make no random choice and look back only, so that they serve files and live streams alike: a part of the recording's
//! time, background activity, refractory pixels.

use super::{Event, Sensor};
use serde::{Deserialize, Serialize};

/// `[data.filter]` of a recipe: what is taken out of every recording, of all splits and at inference, before anything else happens to
/// it. Applied in the order of the fields; all are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Microseconds left out at the recording's begin, from its first event on.
    pub start_us: u32,
    /// Microseconds kept from there on; to the end if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u32>,
    /// Background activity (Delbruck, 2008; Tonic's `Denoise`): an event is kept if one of the four pixels beside its own had an event less
    /// than so many microseconds before, kept or not. 0: off.
    pub denoise_us: u32,
    /// Refractory pixels (Tonic's `RefractoryPeriod`): an event is kept if its pixel had none in so many microseconds before; lost ones
    /// count too. 0: off.
    pub refractory_us: u32,
}

impl Filter {
    /// Whether everything is kept.
    pub fn is_off(&self) -> bool {
        *self == Filter::default()
    }
    /// Whether at time `now` no more of a recording is kept whose first event came at `first`.
    pub fn is_over(&self, first: i64, now: i64) -> bool {
        self.duration_us.is_some_and(|d| now.saturating_sub(first) >= i64::from(self.start_us) + i64::from(d))
    }
    /// The filter at the begin of a recording of `sensor`.
    pub fn begin(&self, sensor: Sensor) -> Filtering {
        Filtering {
            filter: *self,
            sensor,
            first: None,
            seen: self.memory(self.denoise_us, sensor),
            fired: self.memory(self.refractory_us, sensor),
        }
    }
    fn memory(&self, period: u32, sensor: Sensor) -> Vec<u64> {
        let pixels = sensor.width as usize * sensor.height as usize;
        vec![0; if period > 0 { pixels } else { 0 }]
    }
}

/// A [`Filter`] within a recording.
#[derive(Clone, Debug)]
pub struct Filtering {
    filter: Filter,
    sensor: Sensor,
    first: Option<i64>,
    /// For each pixel 1 + the time since the first event of its last one before the filter; 0 where there was none.
    seen: Vec<u64>,
    /// The same of those that came past [`Filter::denoise_us`].
    fired: Vec<u64>,
}

impl Filtering {
    /// Begins another recording of the same sensor.
    pub fn restart(&mut self) {
        *self = self.filter.begin(self.sensor);
    }
    /// Whether the next event is kept. Those outside the sensor are, and are no business of this filter; one that is older than the first
    /// counts as simultaneous with it.
    pub fn keep(&mut self, e: &Event) -> bool {
        let f = self.filter;
        let first = *self.first.get_or_insert(e.t);
        let t = e.t.saturating_sub(first).max(0) as u64;
        let end = f.duration_us.map_or(u64::MAX, |d| u64::from(f.start_us) + u64::from(d));
        if !(u64::from(f.start_us)..end).contains(&t) {
            return false;
        }
        if !self.sensor.holds(e) {
            return true;
        }
        let (now, w, h) = (t + 1, self.sensor.width as usize, self.sensor.height as usize);
        let (x, y) = (usize::from(e.x), usize::from(e.y));
        if f.denoise_us > 0 {
            self.seen[y * w + x] = now;
            let recent = |x: usize, y: usize| {
                let then = self.seen[y * w + x];
                then > 0 && now.saturating_sub(then) < u64::from(f.denoise_us)
            };
            let beside = x > 0 && recent(x - 1, y) || x + 1 < w && recent(x + 1, y);
            if !(beside || y > 0 && recent(x, y - 1) || y + 1 < h && recent(x, y + 1)) {
                return false;
            }
        }
        if f.refractory_us > 0 {
            let then = std::mem::replace(&mut self.fired[y * w + x], now);
            return then == 0 || now.saturating_sub(then) > u64::from(f.refractory_us);
        }
        true
    }
    /// Takes the next events, and leaves those that are kept.
    pub fn retain(&mut self, events: &mut Vec<Event>) {
        if !self.filter.is_off() {
            events.retain(|e| self.keep(e));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::streams;
    use super::*;
    use proptest::prelude::*;

    const SENSOR: Sensor = Sensor::new(6, 5);

    #[test]
    fn a_part_of_the_time_is_over_when_none_of_it_is_left() {
        let f = Filter { start_us: 10, duration_us: Some(5), ..Filter::default() };
        assert_eq!([14, 15, i64::MAX].map(|now| f.is_over(0, now)), [false, true, true]);
        assert!(!f.is_over(100, 114) && f.is_over(i64::MIN, i64::MAX) && !f.is_over(i64::MAX, i64::MIN));
        assert!(!Filter { duration_us: None, ..f }.is_over(0, i64::MAX));
        let e = |t| Event { t, ..Event::default() };
        assert_eq!(filtered(f, &[0, 9, 10, 14, 15].map(e)), [10, 14].map(e));
    }

    fn filtered(f: Filter, events: &[Event]) -> Vec<Event> {
        let mut out = events.to_vec();
        f.begin(SENSOR).retain(&mut out);
        out
    }

    proptest! {
        /// Each against the sentence that defines it, looked up among all earlier events.
        #[test]
        fn filters_are_what_they_say(mut s in streams(6, 5, 3000), us in 1u32..800, start in 0u32..2000, cut in 0usize..200) {
            s.sort();
            let e = &s.events;
            let keep = |some: &dyn Fn(usize) -> bool| (0..e.len()).filter(|&i| some(i)).map(|i| e[i]).collect::<Vec<_>>();
            let before = |i: usize, period: i64| e[..i].iter().filter(move |b| e[i].t - b.t <= period);
            let beside = |a: &Event, b: &Event| a.x.abs_diff(b.x) + a.y.abs_diff(b.y) == 1;
            let us_ = i64::from(us);
            prop_assert_eq!(
                filtered(Filter { refractory_us: us, ..Filter::default() }, e),
                keep(&|i| !before(i, us_).any(|b| (b.x, b.y) == (e[i].x, e[i].y)))
            );
            prop_assert_eq!(
                filtered(Filter { denoise_us: us, ..Filter::default() }, e),
                keep(&|i| before(i, us_ - 1).any(|b| beside(b, &e[i])))
            );
            let t0 = e.first().map_or(0, |e| e.t);
            prop_assert_eq!(
                filtered(Filter { start_us: start, duration_us: Some(us), ..Filter::default() }, e),
                keep(&|i| (i64::from(start)..i64::from(start + us)).contains(&(e[i].t - t0)))
            );
            prop_assert_eq!(&filtered(Filter::default(), e), e);
            // In order, and in pieces as in one.
            let all = Filter { start_us: 100, duration_us: Some(2000), denoise_us: us, refractory_us: us };
            let one_by_one = [
                Filter { start_us: 100, duration_us: Some(2000), ..Filter::default() },
                Filter { denoise_us: us, ..Filter::default() },
                Filter { refractory_us: us, ..Filter::default() },
            ];
            let whole = filtered(all, e);
            prop_assert_eq!(&one_by_one.iter().fold(e.clone(), |e, f| filtered(*f, &e)), &whole);
            let (mut a, mut b) = (e[..cut.min(e.len())].to_vec(), e[cut.min(e.len())..].to_vec());
            let mut running = all.begin(SENSOR);
            running.retain(&mut a);
            running.retain(&mut b);
            prop_assert_eq!([a, b].concat(), whole);
        }
    }

    #[test]
    fn times_and_places_without_sense_are_survived() {
        let f = Filter { denoise_us: 10, refractory_us: 10, ..Filter::default() };
        let e = |t, x| Event { t, x, y: 0, p: true };
        let mut events = vec![e(i64::MAX, 0), e(i64::MIN, 1), e(i64::MAX, 60_000), e(i64::MIN, 0), e(i64::MAX, 1)];
        f.begin(Sensor::new(2, 1)).retain(&mut events);
        // All at one time: the first has no neighbour yet, the last has just fired.
        assert_eq!(events, [e(i64::MIN, 1), e(i64::MAX, 60_000), e(i64::MIN, 0)]);
    }
}
