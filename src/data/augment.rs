//! Random changes of training samples, made on events before they are encoded.
//!
//! What happens to a sample is a pure function of the run's seed, the epoch and the sample's number, whichever thread does
//! it. Everything is off by default.

use super::Dataset;
use crate::events::{Event, Sensor};
use crate::rng::Rng;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// `[data.augment]` of a recipe; applied in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of mirroring left and right. Refused where it changes the class.
    pub flip: f64,
    /// Largest rotation about the centre either way, degrees.
    pub rotate: f64,
    /// Largest shift either way along each axis, pixels; what leaves the sensor is lost.
    pub translate: u32,
    /// As `translate`, but what leaves on one side comes in on the other.
    pub roll: u32,
    /// Side of the largest square in which all events are lost, pixels; its size and place are drawn.
    pub cutout: u32,
    /// Largest share of the events that are lost, one by one.
    pub drop: f64,
}

impl Augment {
    /// Whether nothing is changed.
    pub fn is_off(&self) -> bool {
        *self == Augment::default()
    }

    /// Refuses impossible settings, and mirroring where it changes the class.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        let ranges = [("flip", self.flip, 1.0), ("rotate", self.rotate, 180.0), ("drop", self.drop, 1.0)];
        for (name, v, high) in ranges {
            if !(0.0..=high).contains(&v) {
                return Err(Error::config(format!("data.augment.{name}"), format!("{v} is not from 0 to {high}")));
            }
        }
        if self.flip > 0.0 && !dataset.mirrors() {
            let what = format!("mirroring changes the class of samples of {}; leave it out", dataset.name());
            return Err(Error::config("data.augment.flip", what));
        }
        Ok(())
    }

    /// Changes the events of one sample; `rng` is the stream of that sample in that epoch.
    pub fn apply(&self, events: &mut Vec<Event>, sensor: Sensor, rng: &Rng) {
        let (w, h) = (i64::from(sensor.width), i64::from(sensor.height));
        if w == 0 || h == 0 {
            return;
        }
        if self.flip > 0.0 && rng.stream("flip").f64() < self.flip {
            events.iter_mut().for_each(|e| e.x = (w - 1 - i64::from(e.x)).max(0) as u16);
        }
        if self.rotate > 0.0 {
            let angle = rng.stream("rotate").uniform(-self.rotate, self.rotate).to_radians();
            let (sin, cos) = angle.sin_cos();
            let (cx, cy) = ((w - 1) as f64 / 2.0, (h - 1) as f64 / 2.0);
            place(events, sensor, |x, y| {
                let (dx, dy) = (x as f64 - cx, y as f64 - cy);
                let round = |v: f64| (v + 0.5).floor() as i64;
                (round(cx + cos * dx - sin * dy), round(cy + sin * dx + cos * dy))
            });
        }
        if self.translate > 0 {
            let (dx, dy) = shift(self.translate, &mut rng.stream("translate"));
            place(events, sensor, |x, y| (x + dx, y + dy));
        }
        if self.roll > 0 {
            let (dx, dy) = shift(self.roll, &mut rng.stream("roll"));
            place(events, sensor, |x, y| ((x + dx).rem_euclid(w), (y + dy).rem_euclid(h)));
        }
        if self.cutout > 0 {
            let mut rng = rng.stream("cutout");
            let side = 1 + rng.below(self.cutout as usize) as i64;
            let (x0, y0) = (rng.below(w as usize) as i64 - side / 2, rng.below(h as usize) as i64 - side / 2);
            let within = |v: u16, from: i64| (from..from + side).contains(&i64::from(v));
            events.retain(|e| !(within(e.x, x0) && within(e.y, y0)));
        }
        if self.drop > 0.0 {
            let mut rng = rng.stream("drop");
            let share = (rng.f64() * self.drop) as f32;
            events.retain(|_| rng.f32() >= share);
        }
    }
}

/// -most..=most on each axis.
fn shift(most: u32, rng: &mut Rng) -> (i64, i64) {
    let mut one = || rng.below(2 * most as usize + 1) as i64 - i64::from(most);
    (one(), one())
}

/// Moves events; those that leave the sensor are lost.
fn place(events: &mut Vec<Event>, sensor: Sensor, to: impl Fn(i64, i64) -> (i64, i64)) {
    events.retain_mut(|e| {
        let (x, y) = to(e.x.into(), e.y.into());
        let stays = (0..i64::from(sensor.width)).contains(&x) && (0..i64::from(sensor.height)).contains(&y);
        if stays {
            (e.x, e.y) = (x as u16, y as u16);
        }
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::super::{DatasetSpec, Split, open};
    use super::*;

    fn grid() -> (Vec<Event>, Sensor) {
        let events = (0..400).map(|i| Event { t: i, x: (i % 20) as u16, y: (i / 20) as u16, p: i % 2 == 0 });
        (events.collect(), Sensor::new(20, 20))
    }

    fn applied(a: Augment, seed: u64) -> Vec<Event> {
        let (mut e, s) = grid();
        a.apply(&mut e, s, &Rng::new(seed));
        assert!(e.iter().all(|e| s.holds(e)) && e.is_sorted_by_key(|e| e.t));
        e
    }

    #[test]
    fn each_change_does_what_it_says() {
        let (all, _) = grid();
        let off = Augment::default();
        assert!(off.is_off());
        assert_eq!(applied(off, 1), all);
        let flipped = applied(Augment { flip: 1.0, ..off }, 1);
        assert!(flipped.iter().zip(&all).all(|(a, b)| a.x == 19 - b.x && a.y == b.y));
        for seed in 0..20 {
            let moved = applied(Augment { translate: 3, ..off }, seed);
            assert!(moved.len() >= 17 * 17);
            let (a, b) = (moved[0], all[moved[0].t as usize]);
            let d = (i64::from(a.x) - i64::from(b.x), i64::from(a.y) - i64::from(b.y));
            assert!(moved.iter().all(|e| {
                let b = all[e.t as usize];
                (i64::from(e.x) - i64::from(b.x), i64::from(e.y) - i64::from(b.y)) == d
            }));
            assert_eq!(applied(Augment { roll: 5, ..off }, seed).len(), 400);
            assert!(applied(Augment { rotate: 10.0, ..off }, seed).len() > 340);
            assert!((400 - 36..400).contains(&applied(Augment { cutout: 6, ..off }, seed).len()));
            assert!(applied(Augment { drop: 0.5, ..off }, seed).len() > 150);
        }
        let many = Augment { flip: 0.5, rotate: 15.0, translate: 4, roll: 2, cutout: 5, drop: 0.2 };
        assert_eq!(applied(many, 3), applied(many, 3));
        assert_ne!(applied(many, 3), applied(many, 4));
    }

    #[test]
    fn gestures_are_not_mirrored() {
        let mut spec = DatasetSpec::new("gestures");
        spec.augment.flip = 0.5;
        let said = open(&spec, Split::Train).err().unwrap().to_string();
        assert!(said.starts_with("data.augment.flip: mirroring changes the class"), "{said}");
        spec.augment = Augment { drop: 1.5, ..Augment::default() };
        assert!(open(&spec, Split::Train).is_err());
    }
}
