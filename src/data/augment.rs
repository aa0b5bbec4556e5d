//! Random changes of training samples: of events before they are encoded, and of arrays as far as they have places.
//!
//! What happens to a sample is a pure function of the run's seed, the epoch and the sample's number, whichever thread does it.
//! Everything is off by default. The changes themselves are in [`crate::events::transform`].
//!
//! # How to add a change
//! A field of [`Augment`], a name in [`Change`], a line in `Augment::settings`, and its place in [`Augment::events`] (or in `moves`, if it
//! moves pixels of events and arrays alike).

use super::mixup::Mixup;
use super::{Dataset, nearest};
use crate::config::Settings;
use crate::events::transform::{self, Affine, Square};
use crate::events::{Event, Sensor};
use crate::rng::Rng;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Named sets of changes, `recipe = "<name>"` in `[data.augment]`: what the table leaves out is taken from the set. `augment = "<name>"` in
/// `[data]` is short for a table with nothing else.
pub static RECIPES: &[(&str, &str)] = &[(
    // Zhou et al., 2023, for event cameras at 128 x 128; together with `train.label_smoothing = 0.1`, which is the default.
    "spikformer",
    r#"
    flip = 0.5
    pick = ["none", "shear", "translate", "rotate", "cutout"]
    shear = 0.3
    translate = 5
    rotate = 30.0
    cutout = [0.001, 0.11]
    mixup = 0.5
    mixup_epochs = 75
    chance = { mixup = 0.5 }
    "#,
)];

/// `[data.augment]` of a recipe; applied in the order of the fields.
///
/// The first seven move pixels (of the sensor; of the frame, where samples are arrays) and are done in one step, so that places are
/// rounded once. Those from `crop_time` to `noise` need events.
///
/// ```
/// let a: spikemix::data::Augment = toml::from_str(r#"
///     rotate = 15
///     drop = 0.2
///     chance = { drop = 0.5 }             # in half of the samples; each of the others in all
/// "#).unwrap();
/// assert_eq!((a.rotate, a.flip), (15.0, 0.0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Probability of mirroring left and right. Refused where it changes the class.
    pub flip: f64,
    /// Largest change of size either way: 0.1 draws a factor from 0.9 to 1.1.
    pub scale: f64,
    /// Largest shear along x either way, pixels for each row from the middle.
    pub shear: f64,
    /// Largest rotation about the centre either way, degrees.
    pub rotate: f64,
    /// Largest shift either way along each axis, pixels; what leaves is lost.
    pub translate: u32,
    /// As `translate`, but what leaves on one side comes in on the other.
    pub roll: u32,
    /// Smallest and largest share of the area that a square takes in which all is lost; its place is drawn.
    pub cutout: [f64; 2],
    /// Largest share of the recording's time that is cut off at its ends.
    pub crop_time: f64,
    /// Largest share of the recording's time in which all events are lost.
    pub drop_time: f64,
    /// Largest share of the events that are lost, one by one.
    pub drop: f64,
    /// Probability that an event changes its polarity.
    pub flip_polarity: f64,
    /// Standard deviation of a shift of each event in time, microseconds.
    pub time_jitter: f64,
    /// Standard deviation of a shift of each event along each axis, pixels.
    pub spatial_jitter: f64,
    /// Largest number of random events added, as a share of those there are.
    pub noise: f64,
    /// Mixes the samples of a batch and their labels, which must be one for each sample; the alpha of [`Mixup`].
    pub mixup: f64,
    /// Epochs with mixup, from the first on; all if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup_epochs: Option<usize>,
    /// One of these is drawn for each sample, and the others of them are left out; changes not named here are unaffected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pick: Vec<Change>,
    /// The probability of a change, for each sample (mixup: each batch); 1 for those not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub chance: BTreeMap<Change, f64>,
}

/// A change, by the name of its key in [`Augment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // they are those of the keys
pub enum Change {
    /// Nothing; for [`Augment::pick`].
    None,
    Flip,
    Scale,
    Shear,
    Rotate,
    Translate,
    Roll,
    Cutout,
    CropTime,
    DropTime,
    Drop,
    FlipPolarity,
    TimeJitter,
    SpatialJitter,
    Noise,
    Mixup,
}

/// Where the pixels of one sample go.
struct Moves {
    map: Affine,
    roll: (i64, i64),
    cutout: Square,
}

impl Augment {
    /// Puts what a named set says into `settings` where they leave it out, and takes the name out of them.
    ///
    /// # Errors
    /// A name that is none, with the nearest one.
    pub fn resolve(settings: &mut Settings) -> Result<()> {
        const KEY: &str = "data.augment.recipe";
        Self::expand(settings);
        let Some(asked) = settings.get(KEY).cloned() else { return Ok(()) };
        let asked = asked.as_str().ok_or_else(|| settings.error(KEY, format!("{asked} is not the name of a set")))?;
        let known = || RECIPES.iter().map(|r| r.0);
        let Some((_, text)) = RECIPES.iter().find(|r| r.0 == asked) else {
            let all = known().collect::<Vec<_>>().join(", ");
            let hint = nearest(asked, known()).map(|n| format!("did you mean {n}? ")).unwrap_or_default();
            return Err(settings.error(KEY, format!("there is no set `{asked}`; {hint}(known: {all})")));
        };
        let table: toml::Table = toml::from_str(text).map_err(|e| settings.error(KEY, e.message()))?;
        for (key, value) in table {
            settings.default(&format!("data.augment.{key}"), value);
        }
        settings.remove(KEY);
        Ok(())
    }
    /// Makes the table that a mere name is short for, so that keys can be set below it.
    pub fn expand(settings: &mut Settings) {
        const KEY: &str = "data.augment";
        if let Some(toml::Value::String(name)) = settings.get(KEY).cloned() {
            settings.remove(KEY);
            settings.default(&format!("{KEY}.recipe"), name);
        }
    }
    /// Each change: its name, the key, its amount (0: off) and the largest allowed.
    fn settings(&self) -> [(Change, &'static str, f64, f64); 15] {
        let far = f64::from(u16::MAX);
        [
            (Change::Flip, "flip", self.flip, 1.0),
            (Change::Scale, "scale", self.scale, 0.9),
            (Change::Shear, "shear", self.shear, 10.0),
            (Change::Rotate, "rotate", self.rotate, 180.0),
            (Change::Translate, "translate", self.translate.into(), far),
            (Change::Roll, "roll", self.roll.into(), far),
            (Change::Cutout, "cutout", self.cutout[1], 1.0),
            (Change::CropTime, "crop_time", self.crop_time, 1.0),
            (Change::DropTime, "drop_time", self.drop_time, 1.0),
            (Change::Drop, "drop", self.drop, 1.0),
            (Change::FlipPolarity, "flip_polarity", self.flip_polarity, 1.0),
            (Change::TimeJitter, "time_jitter", self.time_jitter, 1e9),
            (Change::SpatialJitter, "spatial_jitter", self.spatial_jitter, far),
            (Change::Noise, "noise", self.noise, 10.0),
            (Change::Mixup, "mixup", self.mixup, 1e3),
        ]
    }
    fn amount(&self, change: Change) -> f64 {
        self.settings().iter().find(|s| s.0 == change).map_or(0.0, |s| s.2)
    }
    /// Whether no sample is changed; batches may still be mixed.
    pub fn is_off(&self) -> bool {
        self.settings().iter().all(|s| s.0 == Change::Mixup || s.2 == 0.0)
    }
    /// How batches are mixed, if they are.
    pub fn mixup(&self) -> Option<Mixup> {
        let chance = self.chance.get(&Change::Mixup).copied().unwrap_or(1.0);
        (self.mixup > 0.0).then_some(Mixup { alpha: self.mixup, chance, epochs: self.mixup_epochs })
    }

    /// Refuses impossible settings, mirroring where it changes the class, and what samples of the dataset have not got: events, or places.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::config(format!("data.augment.{key}"), what));
        for (change, key, v, high) in self.settings() {
            if !(0.0..=high).contains(&v) {
                return wrong(key, format!("{v} is not from 0 to {high}"));
            }
            if v > 0.0 && change != Change::Mixup && !dataset.is_events() {
                if change > Change::Cutout {
                    return wrong(key, format!("works on events; samples of {} are arrays", dataset.name()));
                }
                if dataset.sensor() == Sensor::new(1, 1) {
                    return wrong(key, format!("moves pixels; samples of {} have none", dataset.name()));
                }
            }
            if v == 0.0 && (self.pick.contains(&change) || self.chance.contains_key(&change)) {
                return wrong(key, "pick or chance name it, but it is 0, which changes nothing".into());
            }
        }
        if !(0.0..=self.cutout[1]).contains(&self.cutout[0]) {
            return wrong("cutout", format!("{} is not from 0 to {}", self.cutout[0], self.cutout[1]));
        }
        if self.pick.contains(&Change::Mixup) {
            return wrong(
                "pick",
                "mixup is done to batches, not to samples; data.augment.chance has a probability for it".into(),
            );
        }
        if let Some(p) = self.chance.values().find(|p| !(0.0..=1.0).contains(*p)) {
            return wrong("chance", format!("{p} is not from 0 to 1"));
        }
        if self.flip > 0.0 && !dataset.mirrors() {
            return wrong("flip", format!("mirroring changes the class of samples of {}; leave it out", dataset.name()));
        }
        Ok(())
    }

    /// Whether the sample with stream `rng` undergoes `change`.
    fn has(&self, change: Change, rng: &Rng) -> bool {
        let picked = || {
            let drawn = rng.stream("pick").below(self.pick.len());
            !self.pick.contains(&change) || self.pick[drawn] == change
        };
        let lucky = || self.chance.get(&change).is_none_or(|p| rng.stream("chance").stream(change as usize).f64() < *p);
        self.amount(change) > 0.0 && lucky() && picked()
    }
    /// For arrays of `[height, width]`.
    fn moves(&self, size: [usize; 2], rng: &Rng) -> Moves {
        let has = |c| self.has(c, rng);
        let mut moves = Moves { map: Affine::IDENTITY, roll: (0, 0), cutout: Square::default() };
        let mut then = |map| moves.map = moves.map.then(map);
        if has(Change::Flip) && rng.stream("flip").f64() < self.flip {
            then(Affine::MIRROR);
        }
        if has(Change::Scale) {
            then(Affine::scale(1.0 + rng.stream("scale").uniform(-self.scale, self.scale)));
        }
        if has(Change::Shear) {
            then(Affine::shear_x(rng.stream("shear").uniform(-self.shear, self.shear)));
        }
        if has(Change::Rotate) {
            then(Affine::rotate(rng.stream("rotate").uniform(-self.rotate, self.rotate)));
        }
        if has(Change::Translate) {
            let (dx, dy) = shift(self.translate, &mut rng.stream("translate"));
            then(Affine::translate(dx as f64, dy as f64));
        }
        if has(Change::Roll) {
            moves.roll = shift(self.roll, &mut rng.stream("roll"));
        }
        if has(Change::Cutout) {
            let mut rng = rng.stream("cutout");
            moves.cutout = Square::random(size, rng.uniform(self.cutout[0], self.cutout[1]), &mut rng);
        }
        moves
    }

    /// Changes the events of one sample; `rng` is the stream of that sample in that epoch.
    pub fn events(&self, events: &mut Vec<Event>, sensor: Sensor, rng: &Rng) {
        if sensor.width == 0 || sensor.height == 0 {
            return;
        }
        let moves = self.moves([sensor.height as usize, sensor.width as usize], rng);
        if moves.map != Affine::IDENTITY {
            transform::affine(events, sensor, &moves.map);
        }
        if moves.roll != (0, 0) {
            transform::roll(events, sensor, moves.roll);
        }
        transform::drop_by_area(events, moves.cutout);
        let with = |change, name: &str| self.has(change, rng).then(|| rng.stream(name));
        if let Some(mut rng) = with(Change::CropTime, "crop_time") {
            transform::crop_time(events, rng.f64() * self.crop_time, &mut rng);
        }
        if let Some(mut rng) = with(Change::DropTime, "drop_time") {
            transform::drop_by_time(events, rng.f64() * self.drop_time, &mut rng);
        }
        if let Some(mut rng) = with(Change::Drop, "drop") {
            transform::drop_events(events, rng.f64() * self.drop, &mut rng);
        }
        if let Some(mut rng) = with(Change::FlipPolarity, "flip_polarity") {
            transform::flip_polarity(events, self.flip_polarity, &mut rng);
        }
        if let Some(mut rng) = with(Change::TimeJitter, "time_jitter") {
            transform::time_jitter(events, self.time_jitter, &mut rng);
        }
        if let Some(mut rng) = with(Change::SpatialJitter, "spatial_jitter") {
            transform::spatial_jitter(events, sensor, self.spatial_jitter, &mut rng);
        }
        if let Some(mut rng) = with(Change::Noise, "noise") {
            let n = (rng.f64() * self.noise * events.len() as f64) as usize;
            transform::uniform_noise(events, sensor, n, &mut rng);
        }
    }

    /// Moves the pixels of a sample `[T, H, W, C]`, each taken from the nearest place; zeros come in from outside.
    ///
    /// # Panics
    /// If `x` is not of that shape.
    pub fn array(&self, x: &mut [f32], [t, h, w, c]: [usize; 4], rng: &Rng) {
        let moves = self.moves([h, w], rng);
        // A map onto a line (a scale of 0) is refused, so there is a way back.
        let back = moves.map.inverse().unwrap_or(Affine::IDENTITY);
        let source = |place: usize| {
            let (px, py) = (place % w, place / w);
            let unrolled = |v: usize, by: i64, n: usize| (v as i64 - by).rem_euclid(n as i64) as usize;
            let (sx, sy) = back.pixel([h, w], unrolled(px, moves.roll.0, w), unrolled(py, moves.roll.1, h));
            let inside = (0..w as i64).contains(&sx) && (0..h as i64).contains(&sy);
            (inside && !moves.cutout.holds(px, py)).then_some(sy as usize * w + sx as usize)
        };
        let sources: Vec<_> = (0..h * w).map(source).collect();
        if sources.iter().enumerate().all(|(i, s)| *s == Some(i)) {
            return;
        }
        let mut old = vec![0.0; h * w * c];
        for step in x.chunks_exact_mut((h * w * c).max(1)).take(t) {
            old.copy_from_slice(step);
            for (out, source) in step.chunks_exact_mut(c).zip(&sources) {
                match source {
                    Some(s) => out.copy_from_slice(&old[s * c..][..c]),
                    None => out.fill(0.0),
                }
            }
        }
    }
}

/// -most..=most on each axis.
fn shift(most: u32, rng: &mut Rng) -> (i64, i64) {
    let mut one = || rng.below(2 * most as usize + 1) as i64 - i64::from(most);
    (one(), one())
}

#[cfg(test)]
mod tests {
    use super::super::{DatasetSpec, Split, open};
    use super::*;
    use crate::encode::Encoding;

    const SENSOR: Sensor = Sensor::new(20, 20);

    fn grid() -> Vec<Event> {
        (0..400).map(|i| Event { t: i, x: (i % 20) as u16, y: (i / 20) as u16, p: i % 2 == 0 }).collect()
    }

    fn applied(a: &Augment, seed: u64) -> Vec<Event> {
        let mut e = grid();
        a.events(&mut e, SENSOR, &Rng::new(seed));
        assert!(e.iter().all(|e| SENSOR.holds(e)) && e.is_sorted_by_key(|e| e.t));
        e
    }

    fn read(text: &str) -> Augment {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn each_change_does_what_it_says() {
        let all = grid();
        assert!(Augment::default().is_off());
        assert_eq!(applied(&Augment::default(), 1), all);
        let flipped = applied(&read("flip = 1"), 1);
        assert!(flipped.iter().zip(&all).all(|(a, b)| a.x == 19 - b.x && a.y == b.y));
        for seed in 0..20 {
            let moved = applied(&read("translate = 3"), seed);
            assert!(moved.len() >= 17 * 17);
            let (a, b) = (moved[0], all[moved[0].t as usize]);
            let d = (i64::from(a.x) - i64::from(b.x), i64::from(a.y) - i64::from(b.y));
            assert!(moved.iter().all(|e| {
                let b = all[e.t as usize];
                (i64::from(e.x) - i64::from(b.x), i64::from(e.y) - i64::from(b.y)) == d
            }));
            assert_eq!(applied(&read("roll = 5"), seed).len(), 400);
            assert!(applied(&read("rotate = 10"), seed).len() > 340);
            assert!((310..=400).contains(&applied(&read("shear = 0.3"), seed).len()));
            assert!((310..=400).contains(&applied(&read("scale = 0.1"), seed).len()));
            assert!((400 - 36..400).contains(&applied(&read("cutout = [0.01, 0.09]"), seed).len()));
            assert!(applied(&read("drop = 0.5"), seed).len() > 150);
            assert!(applied(&read("drop_time = 0.5"), seed).len() >= 199);
            assert!(applied(&read("crop_time = 0.5"), seed).len() >= 199);
            assert!((400..=440).contains(&applied(&read("noise = 0.1"), seed).len()));
        }
        let names = Augment::default().settings().map(|s| s.1);
        for name in names.iter().filter(|n| **n != "mixup" && **n != "cutout") {
            // One degree moves no pixel of so small a sensor.
            let most = if *name == "rotate" { 30 } else { 1 };
            assert!((0..9).any(|seed| applied(&read(&format!("{name} = {most}")), seed) != all), "{name}");
        }
        let many = read("flip = 0.5\nrotate = 15\ntranslate = 4\nroll = 2\ncutout = [0.0, 0.1]\ndrop = 0.2\ntime_jitter = 9.5");
        assert_eq!(applied(&many, 3), applied(&many, 3));
        assert_ne!(applied(&many, 3), applied(&many, 4));
    }

    #[test]
    fn one_is_picked_and_chances_are_kept() {
        let all = grid();
        let of = |a: &Augment| (0..400).filter(|&seed| applied(a, seed) != all).count();
        assert!((170..230).contains(&of(&read("drop = 1\nchance = { drop = 0.5 }"))));
        let picks = read("pick = ['none', 'roll', 'drop', 'cutout']\nroll = 3\ndrop = 1\ncutout = [0.5, 0.5]");
        let (mut none, mut rolled, mut cut, mut dropped) = (0, 0, 0, 0);
        for seed in 0..400 {
            let e = applied(&picks, seed);
            match e.len() {
                400 if e == all => none += 1,
                400 => rolled += 1,
                204 => cut += 1,
                _ => dropped += 1,
            }
        }
        assert!([none, rolled, cut, dropped].iter().all(|n| (70..130).contains(n)), "{none} {rolled} {cut} {dropped}");
    }

    /// Frames of moved events are moved frames.
    #[test]
    fn events_and_arrays_are_moved_alike() {
        let encoding = Encoding { frames: 2, ..Encoding::default() };
        for text in ["flip = 0.5", "translate = 4", "roll = 9", "cutout = [0.0, 0.4]", "flip = 0.5\ntranslate = 3\nroll = 2"] {
            let a = read(text);
            for seed in 0..10 {
                let mut e = grid();
                let mut array = encoding.encode(&e, SENSOR);
                let rng = Rng::new(seed);
                // Each slice by itself, as those of what is left after a loss are others.
                let (mut first, mut second) = (e[..200].to_vec(), e.split_off(200));
                let one = Encoding { frames: 1, ..encoding.clone() };
                let frames = [&mut first, &mut second].map(|e| {
                    a.events(e, SENSOR, &rng);
                    one.encode(e, SENSOR)
                });
                a.array(&mut array, [2, 20, 20, 2], &rng);
                assert_eq!(array, frames.concat(), "{text}, {seed}");
            }
        }
        // Where places are rounded the two may differ by a pixel's width, not by more: a turned block stays a block.
        let mut block = vec![0.0; 400];
        (0..400).filter(|i| (5..15).contains(&(i / 20)) && (5..15).contains(&(i % 20))).for_each(|i| block[i] = 1.0);
        read("rotate = 30\nscale = 0.2\nshear = 0.2").array(&mut block, [1, 20, 20, 1], &Rng::new(2));
        assert!((60.0..150.0).contains(&block.iter().sum::<f32>()));
    }

    #[test]
    fn named_sets_fill_what_is_left_out() {
        let resolved = |text: &str| {
            let mut s = Settings::parse("a.toml", text).unwrap();
            Augment::resolve(&mut s).map(|()| s)
        };
        for (name, text) in RECIPES {
            let s = resolved(&format!("[data.augment]\nrecipe = '{name}'")).unwrap();
            let a: Augment = s.get("data.augment").unwrap().clone().try_into().unwrap();
            assert_eq!(a, read(text));
            let mut spec = DatasetSpec::new("gestures");
            spec.augment = Augment { flip: 0.0, ..a };
            assert!(open(&spec, Split::Train).is_ok(), "{name}");
        }
        let s = resolved("[data.augment]\nrecipe = 'spikformer'\nmixup_epochs = 3\nrotate = 9").unwrap();
        let a: Augment = s.get("data.augment").unwrap().clone().try_into().unwrap();
        assert_eq!((a.mixup_epochs, a.rotate, a.shear, a.flip), (Some(3), 9.0, 0.3, 0.5));
        let short = resolved("[data]\naugment = 'spikformer'").unwrap();
        assert_eq!(short.get("data"), resolved("[data.augment]\nrecipe = 'spikformer'").unwrap().get("data"));
        let mut s = Settings::parse("a.toml", "").unwrap();
        s.set("data.augment=spikformer").unwrap();
        Augment::resolve(&mut s).unwrap();
        assert_eq!(s.get("data"), short.get("data"));
        let say = "there is no set `spikeformer`; did you mean spikformer? (known: spikformer)";
        for text in ["[data.augment]\nrecipe = 'spikeformer'", "[data]\naugment = 'spikeformer'"] {
            assert_eq!(resolved(text).err().unwrap().to_string(), format!("a.toml: data.augment.recipe: {say}"));
        }
    }

    #[test]
    fn impossible_settings_name_their_key() {
        let said = |name: &str, text: &str| {
            let mut spec = DatasetSpec::new(name);
            spec.dir = (name != "gestures").then(|| "/".into());
            (spec.augment, spec.train_samples) = (read(text), Some(16));
            open(&spec, Split::Train).err().unwrap().to_string()
        };
        for (text, place) in [
            ("flip = 0.5", "data.augment.flip: mirroring changes the class"),
            ("drop = 1.5", "data.augment.drop: 1.5 is not from 0 to 1"),
            ("time_jitter = -1", "data.augment.time_jitter: -1 is not from 0"),
            ("cutout = [0.5, 0.1]", "data.augment.cutout: 0.5 is not from 0 to 0.1"),
            ("pick = ['shear']", "data.augment.shear: pick or chance name it, but it is 0"),
            ("chance = { noise = 0.5 }", "data.augment.noise: pick or chance name it"),
            ("mixup = 1\npick = ['mixup']", "data.augment.pick: mixup is done to batches"),
            ("drop = 0.1\nchance = { drop = 5 }", "data.augment.chance: 5 is not from 0 to 1"),
        ] {
            assert!(said("gestures", text).starts_with(place), "{}", said("gestures", text));
        }
        for (text, say) in [
            (
                "[data]\nname='gestures'\n[data.augment]\npick = ['rotat']",
                "\"rotat\" is not one of its values; did you mean rotate?",
            ),
            ("[data]\nname='gestures'\n[data.augment]\nchance = { muxup = 1 }", "did you mean mixup?"),
            (
                "[data]\nname='gestures'\n[data.augment]\nsheer = 1",
                "data.augment.sheer: there is no such key; did you mean shear?",
            ),
        ] {
            #[derive(Debug, Deserialize)]
            struct All {
                #[allow(dead_code)]
                data: DatasetSpec,
            }
            let e = Settings::parse("a.toml", text).unwrap().read::<All>().unwrap_err().to_string();
            assert!(e.contains(say), "{e}");
        }
    }
}
