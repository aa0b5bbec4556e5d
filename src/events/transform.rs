//! Changes of recordings: functions of events, a sensor, parameters and random numbers.
//!
//! Events come in order of time and leave so, and on the sensor; those that would leave it are lost. With the neutral parameter (0, or
//! the [`Affine::IDENTITY`]) nothing changes. Meanings follow the transforms of Tonic (Lenz et al., 2021), whose users know them, where
//! there are such; what is stated otherwise here is deliberate.

use super::{Event, Sensor};
use crate::rng::Rng;

/// A linear map of the plane about the centre of the pixel array, and a shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// `x' = m[0] x + m[1] y`, `y' = m[2] x + m[3] y`, from the centre, in pixels, y downwards.
    m: [f64; 4],
    shift: [f64; 2],
}

impl Affine {
    /// Nothing moves.
    pub const IDENTITY: Affine = Affine::linear([1.0, 0.0, 0.0, 1.0]);
    /// Left and right are exchanged.
    pub const MIRROR: Affine = Affine::linear([-1.0, 0.0, 0.0, 1.0]);

    const fn linear(m: [f64; 4]) -> Affine {
        Affine { m, shift: [0.0; 2] }
    }
    /// Larger by `factor`.
    pub const fn scale(factor: f64) -> Affine {
        Affine::linear([factor, 0.0, 0.0, factor])
    }
    /// Rows move along x by `factor` times their distance from the middle row.
    pub const fn shear_x(factor: f64) -> Affine {
        Affine::linear([1.0, factor, 0.0, 1.0])
    }
    /// Turned clockwise, as y points down.
    pub fn rotate(degrees: f64) -> Affine {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Affine::linear([cos, -sin, sin, cos])
    }
    /// Moved, in pixels.
    pub const fn translate(x: f64, y: f64) -> Affine {
        Affine { shift: [x, y], ..Affine::IDENTITY }
    }
    /// This map, then `next`.
    pub fn then(self, next: Affine) -> Affine {
        let ([a, b, c, d], [e, f, g, h]) = (self.m, next.m);
        let [x, y] = next.of(self.shift);
        Affine { m: [e * a + f * c, e * b + f * d, g * a + h * c, g * b + h * d], shift: [x, y] }
    }
    /// The map back; none where everything falls on a line.
    pub fn inverse(self) -> Option<Affine> {
        let [a, b, c, d] = self.m;
        let det = a * d - b * c;
        let back = Affine::linear([d / det, -b / det, -c / det, a / det]);
        let [x, y] = back.of(self.shift);
        (det.is_normal()).then_some(Affine { shift: [-x, -y], ..back })
    }
    fn of(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [a, b, c, d] = self.m;
        [a * x + b * y + self.shift[0], c * x + d * y + self.shift[1]]
    }
    /// Where pixel (x, y) of an array `[height, width]` comes to lie: the nearest pixel, which may be outside.
    pub fn pixel(&self, [h, w]: [usize; 2], x: usize, y: usize) -> (i64, i64) {
        let centre = [(w as f64 - 1.0) / 2.0, (h as f64 - 1.0) / 2.0];
        let [x, y] = self.of([x as f64 - centre[0], y as f64 - centre[1]]);
        let round = |v: f64| (v + 0.5).floor() as i64;
        (round(x + centre[0]), round(y + centre[1]))
    }
}

/// A square of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Square {
    /// Its left column.
    pub x: usize,
    /// Its upper row.
    pub y: usize,
    /// Its side; 0 holds nothing.
    pub side: usize,
}

impl Square {
    /// A square of about `share` of the area of an array `[height, width]`, somewhere within it.
    pub fn random([h, w]: [usize; 2], share: f64, rng: &mut Rng) -> Square {
        let side = ((share * (h as f64) * (w as f64)).sqrt().round() as usize).min(h).min(w);
        Square { x: rng.below(w - side + 1), y: rng.below(h - side + 1), side }
    }
    /// Whether the pixel lies in it.
    pub fn holds(&self, x: usize, y: usize) -> bool {
        (self.x..self.x + self.side).contains(&x) && (self.y..self.y + self.side).contains(&y)
    }
}

/// Moves events; those that leave the sensor are lost.
fn place(events: &mut Vec<Event>, sensor: Sensor, mut to: impl FnMut(&Event) -> (i64, i64)) {
    events.retain_mut(|e| {
        let (x, y) = to(e);
        let stays = (0..i64::from(sensor.width)).contains(&x) && (0..i64::from(sensor.height)).contains(&y);
        if stays {
            (e.x, e.y) = (x as u16, y as u16);
        }
        stays
    });
}

/// Moves events by `map`.
pub fn affine(events: &mut Vec<Event>, sensor: Sensor, map: &Affine) {
    let size = [sensor.height as usize, sensor.width as usize];
    place(events, sensor, |e| map.pixel(size, e.x.into(), e.y.into()));
}

/// Moves events by (dx, dy) pixels; what leaves on one side comes in on the other.
pub fn roll(events: &mut Vec<Event>, sensor: Sensor, (dx, dy): (i64, i64)) {
    let (w, h) = (i64::from(sensor.width).max(1), i64::from(sensor.height).max(1));
    place(events, sensor, |e| ((i64::from(e.x) + dx).rem_euclid(w), (i64::from(e.y) + dy).rem_euclid(h)));
}

/// Loses all events in a square (`DropEventByArea`, whose box has the sensor's proportions).
pub fn drop_by_area(events: &mut Vec<Event>, area: Square) {
    events.retain(|e| !area.holds(e.x.into(), e.y.into()));
}

/// A stretch of the recording's time that is `share` of it, in microseconds: its begin and its end. Where it begins is drawn.
fn stretch(events: &[Event], share: f64, rng: &mut Rng) -> (f64, f64) {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return (0.0, 0.0) };
    let duration = last.t as f64 - first.t as f64;
    let from = first.t as f64 + rng.uniform(0.0, duration * (1.0 - share));
    (from, from + duration * share)
}

/// Loses all events of a random stretch that is `share` (0 to 1) of the recording's time (`DropEventByTime`).
pub fn drop_by_time(events: &mut Vec<Event>, share: f64, rng: &mut Rng) {
    let (from, to) = stretch(events, share, rng);
    if share > 0.0 {
        events.retain(|e| !(from..=to).contains(&(e.t as f64)));
    }
}

/// Keeps a random stretch that leaves out `share` (0 to 1) of the recording's time.
pub fn crop_time(events: &mut Vec<Event>, share: f64, rng: &mut Rng) {
    let (from, to) = stretch(events, 1.0 - share, rng);
    if share > 0.0 {
        events.retain(|e| (from..=to).contains(&(e.t as f64)));
    }
}

/// Loses each event with probability `p` (`DropEvent`, which loses that share to the event).
pub fn drop_events(events: &mut Vec<Event>, p: f64, rng: &mut Rng) {
    events.retain(|_| rng.f64() >= p);
}

/// Flips the polarity of each event with probability `p` (`RandomFlipPolarity`).
pub fn flip_polarity(events: &mut [Event], p: f64, rng: &mut Rng) {
    events.iter_mut().for_each(|e| e.p ^= rng.f64() < p);
}

/// Moves events in time by normal deviates of `std` microseconds, within the recording's time, and sorts them (`TimeJitter`, which loses
/// what comes before 0).
pub fn time_jitter(events: &mut [Event], std: f64, rng: &mut Rng) {
    let (Some(&first), Some(&last)) = (events.first(), events.last()) else { return };
    events.iter_mut().for_each(|e| e.t = e.t.saturating_add((std * rng.normal()).round() as i64).clamp(first.t, last.t));
    events.sort_by_key(|e| e.t);
}

/// Moves events by normal deviates of `std` pixels along each axis, rounded (`SpatialJitter` with `clip_outliers`).
pub fn spatial_jitter(events: &mut Vec<Event>, sensor: Sensor, std: f64, rng: &mut Rng) {
    let mut moved = |v: u16| i64::from(v) + (std * rng.normal()).round() as i64;
    place(events, sensor, |e| (moved(e.x), moved(e.y)));
}

/// Adds `n` events of uniformly random place, polarity and time within the recording's (`UniformNoise`).
pub fn uniform_noise(events: &mut Vec<Event>, sensor: Sensor, n: usize, rng: &mut Rng) {
    let (Some(&first), Some(&last)) = (events.first(), events.last()) else { return };
    let duration = usize::try_from(last.t.saturating_sub(first.t)).unwrap_or(0);
    let draw = |_| Event {
        t: first.t.saturating_add(rng.below(duration.saturating_add(1)) as i64),
        x: rng.below(sensor.width as usize) as u16,
        y: rng.below(sensor.height as usize) as u16,
        p: rng.below(2) == 1,
    };
    events.extend((0..n).map(draw));
    events.sort_by_key(|e| e.t);
}

#[cfg(test)]
mod tests {
    use super::super::testing::streams;
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    const SENSOR: Sensor = Sensor::new(20, 14);
    const SIZE: [usize; 2] = [14, 20];

    type Change = fn(&mut Vec<Event>, f64, &mut Rng);
    /// Each change with a parameter of 0 (neutral) to 1.
    const CHANGES: [(&str, Change); 12] = [
        ("scale", |e, v, _| affine(e, SENSOR, &Affine::scale(1.0 + v))),
        ("shear", |e, v, _| affine(e, SENSOR, &Affine::shear_x(v))),
        ("rotate", |e, v, _| affine(e, SENSOR, &Affine::rotate(90.0 * v))),
        ("translate", |e, v, _| affine(e, SENSOR, &Affine::translate(9.0 * v, -4.0 * v))),
        ("roll", |e, v, _| roll(e, SENSOR, ((50.0 * v) as i64, (-9.0 * v) as i64))),
        ("drop_by_area", |e, v, r| drop_by_area(e, Square::random(SIZE, v, r))),
        ("drop_by_time", drop_by_time),
        ("crop_time", crop_time),
        ("drop_events", drop_events),
        ("time_jitter", |e, v, r| time_jitter(e, 500.0 * v, r)),
        ("spatial_jitter", |e, v, r| spatial_jitter(e, SENSOR, 3.0 * v, r)),
        ("noise", |e, v, r| uniform_noise(e, SENSOR, (30.0 * v) as usize, r)),
    ];

    proptest! {
        #[test]
        fn order_sensor_seeds_and_neutral_parameters(mut s in streams(20, 14, 10_000), v in 0.0f64..=1.0, seed in any::<u64>()) {
            s.sort();
            for (name, change) in CHANGES {
                let applied = |v: f64| {
                    let mut e = s.events.clone();
                    change(&mut e, v, &mut Rng::new(seed));
                    e
                };
                let e = applied(v);
                prop_assert!(e.is_sorted_by_key(|e| e.t), "{}", name);
                prop_assert!(e.iter().all(|e| SENSOR.holds(e)), "{}", name);
                prop_assert!(name == "noise" || e.len() <= s.events.len(), "{}", name);
                prop_assert_eq!(&e, &applied(v), "{}", name);
                prop_assert_eq!(&applied(0.0), &s.events, "{}", name);
                let mut none = Vec::new();
                change(&mut none, v, &mut Rng::new(seed));
                prop_assert!(none.is_empty());
            }
        }

        #[test]
        fn maps_are_undone_by_their_inverses(
            angle in -180.0f64..180.0, shear in -1.0f64..1.0, factor in 0.5f64..2.0, x in 0usize..20, y in 0usize..14,
        ) {
            let map = Affine::MIRROR.then(Affine::scale(factor)).then(Affine::shear_x(shear)).then(Affine::rotate(angle))
                .then(Affine::translate(3.0, -2.0));
            let there_and_back = map.then(map.inverse().unwrap());
            prop_assert_eq!(there_and_back.pixel(SIZE, x, y), (x as i64, y as i64));
        }
    }

    fn grid() -> Vec<Event> {
        (0..280).map(|i| Event { t: 10 * i, x: (i % 20) as u16, y: (i / 20) as u16, p: i % 3 == 0 }).collect()
    }
    fn changed(f: impl FnOnce(&mut Vec<Event>, &mut Rng)) -> Vec<Event> {
        let mut e = grid();
        f(&mut e, &mut Rng::new(4));
        e
    }

    #[test]
    fn maps_move_pixels_where_they_should() {
        assert_eq!(Affine::MIRROR.pixel(SIZE, 0, 3), (19, 3));
        assert_eq!(Affine::translate(3.0, -2.0).pixel(SIZE, 5, 5), (8, 3));
        assert_eq!(Affine::rotate(90.0).pixel([5, 5], 2, 0), (4, 2));
        assert_eq!(Affine::scale(2.0).pixel([5, 5], 3, 2), (4, 2));
        let shear = Affine::shear_x(0.5);
        assert_eq!((shear.pixel([5, 5], 2, 0), shear.pixel([5, 5], 2, 2), shear.pixel([5, 5], 2, 4)), ((1, 0), (2, 2), (3, 4)));
        assert_eq!(Affine::MIRROR.then(Affine::translate(1.0, 0.0)).pixel([1, 4], 0, 0), (4, 0));
        assert_eq!(Affine::scale(0.0).inverse(), None);
        let rolled = changed(|e, _| roll(e, SENSOR, (-1, 15)));
        assert_eq!((rolled.len(), rolled[0].x, rolled[0].y), (280, 19, 1));
    }

    #[test]
    fn as_much_is_lost_as_was_asked_for() {
        let half = changed(|e, r| drop_by_time(e, 0.5, r));
        let kept = changed(|e, r| crop_time(e, 0.5, r));
        assert!((138..=142).contains(&half.len()) && (138..=142).contains(&kept.len()), "{} {}", half.len(), kept.len());
        assert!(kept.windows(2).all(|w| w[1].t - w[0].t == 10), "one stretch");
        assert!(changed(|e, r| drop_by_time(e, 1.0, r)).is_empty());
        let area = changed(|e, r| drop_by_area(e, Square::random(SIZE, 0.09, r)));
        assert_eq!(area.len(), 280 - 25);
        assert!((110..170).contains(&changed(|e, r| drop_events(e, 0.5, r)).len()));
        assert!(changed(|e, r| drop_events(e, 1.0, r)).is_empty());
        let flipped = changed(|e, r| flip_polarity(e, 1.0, r));
        assert!(flipped.iter().zip(grid()).all(|(a, b)| a.p != b.p));
        let some = changed(|e, r| flip_polarity(e, 0.3, r)).iter().zip(grid()).filter(|(a, b)| a.p != b.p).count();
        assert!((50..120).contains(&some), "{some}");
        assert_eq!(changed(|e, r| uniform_noise(e, SENSOR, 100, r)).len(), 380);
    }

    #[test]
    fn jitters_have_their_width() {
        let still = vec![Event { t: 5000, x: 10, y: 7, p: true }; 2000];
        let (mut e, mut rng) = (still.clone(), Rng::new(1));
        spatial_jitter(&mut e, SENSOR, 1.5, &mut rng);
        let spread = |v: Vec<f64>| (v.iter().map(|v| v * v).sum::<f64>() / v.len() as f64).sqrt();
        let x = spread(e.iter().map(|e| f64::from(e.x) - 10.0).collect());
        // A rounded normal deviate has a variance larger by 1/12.
        assert!((x - (1.5f64 * 1.5 + 1.0 / 12.0).sqrt()).abs() < 0.1, "{x}");
        let mut e = still;
        (e[0].t, e[1999].t) = (0, 10_000);
        time_jitter(&mut e, 100.0, &mut rng);
        let t = spread(e[1..1999].iter().map(|e| e.t as f64 - 5000.0).collect());
        assert!((t - 100.0).abs() < 10.0, "{t}");
    }
}
