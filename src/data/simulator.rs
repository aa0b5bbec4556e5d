//! A simulated event camera that watches moving shapes.
//!
//! A scene is a faint background and three or four textured discs, bars and squares, brighter or darker than it, that share one
//! motion. Its log intensity is rendered every few milliseconds; between two renderings it changes linearly, and each pixel
//! sends an event whenever it has changed by its threshold since its last one, at the microsecond of the crossing. Pixels
//! differ in their thresholds, rest after an event, and send noise.
//!
//! Nothing but the motion depends on the class. Shapes, contrasts, sizes and speeds are drawn alike for all classes, and
//! where a shape is at a given time says nothing about which way it goes: positions run on a ring beyond the edges (along the
//! way, around the centre, or in log distance from it) and begin anywhere on it, so a recording played backwards is as likely
//! as the recording. Since bright and dark shapes are equally likely, neither does the order of the polarities at an edge.

use crate::events::{Event, EventStream, Sensor};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};

/// A way to move; what classes are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Motion {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Upwards.
    Up,
    /// Downwards.
    Down,
    /// Around a centre, as a clock's hands go.
    Clockwise,
    /// Around a centre, the other way.
    CounterClockwise,
    /// Away from a centre, growing.
    ZoomIn,
    /// Towards a centre, shrinking.
    ZoomOut,
    /// To and fro, horizontally.
    WaveHorizontal,
    /// To and fro, vertically.
    WaveVertical,
}

impl Motion {
    /// All motions; the first eight are the usual classes.
    pub const ALL: [Motion; 10] = [
        Motion::Left,
        Motion::Right,
        Motion::Up,
        Motion::Down,
        Motion::Clockwise,
        Motion::CounterClockwise,
        Motion::ZoomIn,
        Motion::ZoomOut,
        Motion::WaveHorizontal,
        Motion::WaveVertical,
    ];
    /// The name of the class.
    pub fn name(self) -> &'static str {
        match self {
            Motion::Left => "left",
            Motion::Right => "right",
            Motion::Up => "up",
            Motion::Down => "down",
            Motion::Clockwise => "clockwise",
            Motion::CounterClockwise => "counter_clockwise",
            Motion::ZoomIn => "zoom_in",
            Motion::ZoomOut => "zoom_out",
            Motion::WaveHorizontal => "wave_horizontal",
            Motion::WaveVertical => "wave_vertical",
        }
    }
}

/// The camera: what [`record`] takes besides the motion and the random numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Camera {
    /// Width and height in pixels.
    pub sensor: [u32; 2],
    /// Length of a recording, seconds.
    pub seconds: f64,
    /// Change of log intensity that makes an event.
    pub threshold: f32,
    /// Standard deviation of the pixels' thresholds, as a share of the threshold.
    pub mismatch: f32,
    /// Noise events per pixel and second.
    pub noise: f64,
    /// For how long a pixel rests after an event, microseconds.
    pub refractory: i64,
    /// How fast things move; 1 is about one sensor width a second.
    pub speed: f64,
}

impl Default for Camera {
    fn default() -> Self {
        Camera { sensor: [64, 64], seconds: 0.6, threshold: 0.25, mismatch: 0.04, noise: 0.5, refractory: 500, speed: 1.0 }
    }
}

impl Camera {
    /// What makes recording impossible, if anything.
    pub fn fault(&self) -> Option<String> {
        let [w, h] = self.sensor;
        if !(8..=2048).contains(&w) || !(8..=2048).contains(&h) {
            return Some(format!("sensor = [{w}, {h}]: sides of 8 to 2048 pixels are possible"));
        }
        let ranges = [
            ("seconds", self.seconds, 0.01, 60.0),
            ("threshold", self.threshold.into(), 0.05, 5.0),
            ("mismatch", self.mismatch.into(), 0.0, 0.3),
            ("noise", self.noise, 0.0, 1000.0),
            ("refractory", self.refractory as f64, 0.0, 1e6),
            ("speed", self.speed, 0.01, 20.0),
        ];
        ranges
            .iter()
            .find(|(_, v, low, high)| !(low..=high).contains(&v))
            .map(|(name, v, low, high)| format!("{name} = {v}: from {low} to {high} is possible"))
    }
    /// The sensor.
    pub fn sensor(&self) -> Sensor {
        Sensor::new(self.sensor[0], self.sensor[1])
    }
}

/// Time between two renderings, seconds; in between, log intensity changes linearly.
const STEP: f64 = 0.004;
/// Width of an edge, pixels.
const EDGE: f32 = 1.5;
/// Lengths below are for a sensor of this size, and grow with it.
const UNIT: f64 = 64.0;

#[derive(Clone, Copy)]
enum Outline {
    Disc,
    Box([f32; 2]),
}

struct Shape {
    outline: Outline,
    /// Radius of the circle around it, pixels.
    reach: f32,
    contrast: f32,
    /// Waves of texture: across, along, phase; and how deep.
    texture: [f32; 3],
    depth: f32,
    /// Where it begins on its ring, 0..1, and where across it.
    phase: f64,
    lane: f64,
    angle: f64,
}

impl Shape {
    fn draw(rng: &mut Rng, phase: f64, lane: f64, unit: f64) -> Self {
        let radius = (rng.uniform(4.5, 8.0) * unit) as f32;
        let (outline, reach) = match rng.below(3) {
            0 => (Outline::Disc, radius),
            1 => (Outline::Box([radius * 1.4, radius * 0.5]), radius * 1.5),
            _ => (Outline::Box([radius * 0.9, radius * 0.9]), radius * 1.3),
        };
        let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
        Shape {
            outline,
            reach,
            contrast: sign * rng.uniform(0.6, 1.2) as f32,
            texture: [rng.uniform(-0.12, 0.12) as f32, rng.uniform(-0.12, 0.12) as f32, rng.f32()],
            depth: rng.uniform(0.0, 0.6) as f32,
            phase,
            lane,
            angle: rng.uniform(0.0, TAU),
        }
    }

    /// Draws itself into log intensity `image` of `width` columns.
    fn paint(&self, pose: &Pose, image: &mut [f32], width: usize) {
        let height = image.len() / width;
        let reach = f64::from(self.reach) * pose.scale + f64::from(EDGE);
        let range = |c: f64, n: usize| {
            let from = (c - reach).floor().clamp(0.0, n as f64) as usize;
            let to = ((c + reach).ceil() + 1.0).clamp(0.0, n as f64) as usize;
            from..to.max(from)
        };
        let (sin, cos) = pose.angle.sin_cos();
        let (sin, cos) = ((sin / pose.scale) as f32, (cos / pose.scale) as f32);
        let (px, py, scale) = (pose.x as f32, pose.y as f32, pose.scale as f32);
        let ink = self.contrast * pose.strength as f32;
        let columns = range(pose.x, width);
        for y in range(pose.y, height) {
            let dy = y as f32 - py;
            for (x, out) in columns.clone().zip(&mut image[y * width + columns.start..]) {
                let dx = x as f32 - px;
                let (u, v) = (cos * dx + sin * dy, cos * dy - sin * dx);
                let inside = match self.outline {
                    Outline::Disc => self.reach - (u * u + v * v).sqrt(),
                    Outline::Box([a, b]) => (a - u.abs()).min(b - v.abs()),
                };
                let cover = (0.5 + inside * scale / EDGE).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let wave = self.texture[0] * u + self.texture[1] * v + self.texture[2];
                    let wave = 4.0 * (wave - wave.floor() - 0.5).abs() - 1.0;
                    // Fading takes the cover away, so that what lies below shows.
                    let cover = cover * pose.strength as f32;
                    *out += (ink * (1.0 + self.depth * wave) - *out) * cover;
                }
            }
        }
    }
}

struct Pose {
    x: f64,
    y: f64,
    angle: f64,
    scale: f64,
    /// 0 (not there) to 1.
    strength: f64,
}

/// A motion with its parameters drawn.
struct Path {
    motion: Motion,
    /// Width, height, and the unit of length.
    size: [f64; 2],
    unit: f64,
    /// Radians, as the way differs from the named one.
    tilt: f64,
    rate: f64,
    centre: [f64; 2],
    swing: f64,
    /// How far beyond the edges the ring of positions reaches.
    margin: f64,
    /// Half the length of the recording, seconds.
    halfway: f64,
}

impl Path {
    fn draw(rng: &mut Rng, motion: Motion, camera: &Camera) -> Self {
        let size = camera.sensor.map(f64::from);
        let unit = size[0].min(size[1]) / UNIT;
        let faster = camera.speed * rng.uniform(0.75, 1.25);
        Path {
            motion,
            size,
            unit,
            tilt: rng.uniform(-0.2, 0.2),
            rate: match motion {
                Motion::Left | Motion::Right | Motion::Up | Motion::Down => 80.0 * unit * faster,
                Motion::Clockwise | Motion::CounterClockwise => 3.0 * faster,
                Motion::ZoomIn | Motion::ZoomOut => 3.3 * faster,
                // Periods in radians per second.
                Motion::WaveHorizontal | Motion::WaveVertical => TAU * 1.9 * faster,
            },
            centre: size.map(|s| s * rng.uniform(0.3, 0.7)),
            swing: rng.uniform(8.0, 11.0) * unit,
            margin: 14.0 * unit,
            halfway: camera.seconds / 2.0,
        }
    }

    /// Where a shape is after `t` seconds.
    fn pose(&self, s: &Shape, t: f64) -> Pose {
        let mut pose = Pose { x: 0.0, y: 0.0, angle: s.angle, scale: 1.0, strength: 1.0 };
        let straight = |heading: f64, pose: &mut Pose| {
            let way = [(heading + self.tilt).cos(), (heading + self.tilt).sin()];
            let along = usize::from(way[1].abs() > way[0].abs());
            // Along the way out of sight and back in; across it about its lane, which it is on halfway.
            let place = |axis: usize| {
                if axis == along {
                    let ring = self.size[axis] + 2.0 * self.margin;
                    let at = s.phase * ring + way[axis] * self.rate * t;
                    at.rem_euclid(ring) - self.margin
                } else {
                    s.lane * self.size[axis] + way[axis] * self.rate * (t - self.halfway)
                }
            };
            (pose.x, pose.y) = (place(0), place(1));
        };
        let around = |turn: f64, pose: &mut Pose| {
            let radius = (8.0 + 22.0 * s.lane) * self.unit;
            let at = TAU * s.phase + turn;
            pose.x = self.centre[0] + radius * at.cos();
            pose.y = self.centre[1] + radius * at.sin();
            pose.angle += turn;
        };
        let radial = |grow: f64, pose: &mut Pose| {
            let (near, far) = ((5.0f64).ln(), (1.2 * UNIT).ln());
            let along = (s.phase * (far - near) + grow).rem_euclid(far - near);
            let distance = (near + along).exp();
            // Lanes are directions here; neighbours on the ring lie on different sides.
            let at = TAU * (s.lane * 0.25 + s.phase);
            pose.x = self.centre[0] + distance * self.unit * at.cos();
            pose.y = self.centre[1] + distance * self.unit * at.sin();
            pose.scale = (distance / 16.0).min(1.6);
            pose.strength = ((distance - 5.0) / 4.0).clamp(0.0, 1.0);
        };
        let to_and_fro = |axis: usize, pose: &mut Pose| {
            let mut at = [0, 1].map(|a| {
                let share = if a == axis { s.phase } else { s.lane };
                (0.1 + 0.8 * share) * self.size[a]
            });
            // All swing together, from where the tilt (drawn for all motions) says.
            at[axis] += self.swing * (self.rate * t + self.tilt / 0.2 * PI).sin();
            (pose.x, pose.y) = (at[0], at[1]);
        };
        match self.motion {
            Motion::Right => straight(0.0, &mut pose),
            Motion::Down => straight(0.25 * TAU, &mut pose),
            Motion::Left => straight(0.5 * TAU, &mut pose),
            Motion::Up => straight(0.75 * TAU, &mut pose),
            Motion::Clockwise => around(self.rate * t, &mut pose),
            Motion::CounterClockwise => around(-self.rate * t, &mut pose),
            Motion::ZoomIn => radial(self.rate * t, &mut pose),
            Motion::ZoomOut => radial(-self.rate * t, &mut pose),
            Motion::WaveHorizontal => to_and_fro(0, &mut pose),
            Motion::WaveVertical => to_and_fro(1, &mut pose),
        }
        pose
    }
}

/// A recording of `motion`, in order of time, from 0 to `camera.seconds`; a pure function of `camera`, `motion` and `rng`.
pub fn record(camera: &Camera, motion: Motion, rng: &Rng) -> EventStream {
    let sensor = camera.sensor();
    let (mut scene, mut pixels) = (rng.stream("scene"), rng.stream("pixels"));
    let path = Path::draw(&mut scene, motion, camera);
    let n = 3 + scene.below(2);
    let (first, lane) = (scene.f64(), scene.f64());
    let shapes: Vec<_> = (0..n)
        .map(|i| {
            let jitter = scene.uniform(-0.25, 0.25);
            let phase = (first + (i as f64 + jitter) / n as f64).rem_euclid(1.0);
            // The golden ratio keeps the lanes apart.
            let lane = (lane + i as f64 * 0.618_034).fract();
            Shape::draw(&mut scene, phase, lane, path.unit)
        })
        .collect();
    let background = background(&mut scene, sensor);
    let render = |t: f64, image: &mut [f32]| {
        image.copy_from_slice(&background);
        for s in &shapes {
            s.paint(&path.pose(s, t), image, sensor.width as usize);
        }
    };
    let mut events = crossings(camera, render, &mut pixels);
    add_noise(camera, &mut rng.stream("noise"), &mut events);
    events.sort_unstable_by_key(|e| (e.t, e.y, e.x, e.p));
    rest(camera, &mut events);
    EventStream::new(events, sensor)
}

/// Log intensity of what does not move: two faint waves.
fn background(rng: &mut Rng, sensor: Sensor) -> Vec<f32> {
    let wave = |rng: &mut Rng| {
        let k = rng.uniform(0.05, 0.3) * UNIT / f64::from(sensor.width.min(sensor.height));
        let way = rng.uniform(0.0, TAU);
        [k * way.cos(), k * way.sin(), rng.uniform(0.0, TAU), rng.uniform(0.0, 0.15)]
    };
    let waves = [wave(rng), wave(rng)];
    let at = |x: u32, y: u32| {
        let v = waves.iter().map(|[a, b, c, depth]| depth * (a * f64::from(x) + b * f64::from(y) + c).sin());
        v.sum::<f64>() as f32
    };
    (0..sensor.height).flat_map(|y| (0..sensor.width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect()
}

/// The events of changing light, in no order.
fn crossings(camera: &Camera, render: impl Fn(f64, &mut [f32]), rng: &mut Rng) -> Vec<Event> {
    let width = camera.sensor[0] as usize;
    let n = width * camera.sensor[1] as usize;
    let mut threshold = || {
        let off = 1.0 + camera.mismatch * rng.normal() as f32;
        camera.threshold * off.clamp(0.3, 3.0)
    };
    let thresholds: Vec<[f32; 2]> = (0..n).map(|_| [threshold(), threshold()]).collect();
    let (mut before, mut now) = (vec![0.0; n], vec![0.0; n]);
    render(0.0, &mut before);
    // Pixels begin somewhere between their last event and the next.
    let mut reference: Vec<f32> = before.iter().zip(&thresholds).map(|(l, [off, on])| l - off + rng.f32() * (on + off)).collect();
    // Kept just within the thresholds, so that the first step sends nothing of its own.
    for ((r, l), [off, on]) in reference.iter_mut().zip(&before).zip(&thresholds) {
        *r = r.clamp(l - on, l + off);
    }
    let mut events = Vec::new();
    let steps = (camera.seconds / STEP).ceil().max(1.0);
    for step in 0..steps as usize {
        let (from, to) = (step as f64 * STEP, ((step + 1) as f64 * STEP).min(camera.seconds));
        render(to, &mut now);
        let time = |share: f32| ((from + (to - from) * f64::from(share.clamp(0.0, 1.0))) * 1e6) as i64;
        for i in 0..n {
            let (a, b) = (before[i], now[i]);
            if a == b {
                continue;
            }
            let [off, on] = thresholds[i];
            let (x, y) = ((i % width) as u16, (i / width) as u16);
            while b - reference[i] >= on {
                reference[i] += on;
                let t = time((reference[i] - a) / (b - a));
                events.push(Event { t, x, y, p: true });
            }
            while reference[i] - b >= off {
                reference[i] -= off;
                let t = time((reference[i] - a) / (b - a));
                events.push(Event { t, x, y, p: false });
            }
        }
        std::mem::swap(&mut before, &mut now);
    }
    events
}

fn add_noise(camera: &Camera, rng: &mut Rng, events: &mut Vec<Event>) {
    let [w, h] = camera.sensor;
    let rate = camera.noise * f64::from(w) * f64::from(h);
    let mut t = 0.0;
    loop {
        // Infinitely late where there is no noise.
        t -= (1.0 - rng.f64()).ln() / rate;
        if t.is_nan() || t >= camera.seconds {
            break;
        }
        events.push(Event {
            t: (t * 1e6) as i64,
            x: rng.below(w as usize) as u16,
            y: rng.below(h as usize) as u16,
            p: rng.below(2) == 1,
        });
    }
}

/// Takes away what a pixel would have sent while it rested; at most one event of a pixel to a microsecond stays.
fn rest(camera: &Camera, events: &mut Vec<Event>) {
    let [w, h] = camera.sensor.map(|v| v as usize);
    let mut last = vec![i64::MIN / 2; w * h];
    let pause = camera.refractory.max(1);
    events.retain(|e| {
        let last = &mut last[usize::from(e.y) * w + usize::from(e.x)];
        let awake = e.t - *last >= pause;
        if awake {
            *last = e.t;
        }
        awake
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_a_function_of_its_seed() {
        let camera = Camera::default();
        let one = record(&camera, Motion::Left, &Rng::new(5));
        assert_eq!(one, record(&camera, Motion::Left, &Rng::new(5)));
        assert_ne!(one.events, record(&camera, Motion::Left, &Rng::new(6)).events);
        let e = &one.events;
        assert!(e.is_sorted_by_key(|e| e.t) && e.iter().all(|e| one.sensor.holds(e)));
        assert!(e.first().unwrap().t >= 0 && e.last().unwrap().t <= 600_000);
        let mut last = std::collections::HashMap::new();
        for e in e {
            let before = last.insert((e.x, e.y), e.t);
            assert!(before.is_none_or(|b| e.t - b >= 500));
        }
    }

    #[test]
    fn every_motion_makes_a_fair_number_of_events() {
        let camera = Camera::default();
        for motion in Motion::ALL {
            let n: Vec<_> = (0..20).map(|i| record(&camera, motion, &Rng::new(i)).events.len()).collect();
            assert!(n.iter().all(|n| (1500..60_000).contains(n)), "{motion:?} {n:?}");
        }
    }

    #[test]
    fn no_light_changes_no_events() {
        let camera = Camera { noise: 0.0, ..Camera::default() };
        let still = |_: f64, image: &mut [f32]| image.fill(0.7);
        assert!(crossings(&camera, still, &mut Rng::new(0)).is_empty());
        let noisy = record(&Camera { noise: 5.0, speed: 0.01, ..camera }, Motion::Up, &Rng::new(1));
        let expected = 5.0 * 4096.0 * 0.6;
        assert!((noisy.events.len() as f64) > expected * 0.9, "{}", noisy.events.len());
    }

    /// A ramp of three thresholds makes three events in its direction, at even distances.
    #[test]
    fn crossings_lie_where_the_light_crosses() {
        let camera = Camera { sensor: [8, 8], mismatch: 0.0, seconds: 0.4, ..Camera::default() };
        for sign in [1.0, -1.0] {
            let ramp = |t: f64, image: &mut [f32]| image.fill((sign * t * 0.75 / 0.4) as f32);
            let events = crossings(&camera, ramp, &mut Rng::new(2));
            let mine: Vec<_> = events.iter().filter(|e| (e.x, e.y) == (3, 4)).collect();
            assert!((2..=3).contains(&mine.len()), "{}", mine.len());
            assert!(mine.iter().all(|e| e.p == (sign > 0.0)));
            let gap = mine[1].t - mine[0].t;
            assert!((gap - 133_333).abs() < 300, "{gap}");
        }
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(Camera::default().fault(), None);
        let bad = Camera { threshold: 0.0, ..Camera::default() };
        assert!(bad.fault().unwrap().contains("threshold = 0"));
        let bad = Camera { seconds: f64::NAN, ..Camera::default() };
        assert!(bad.fault().is_some());
    }
}
