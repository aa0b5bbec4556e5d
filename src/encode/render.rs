//! Pictures of recordings for people: slices of accumulated events, side by side or one after another, as `spikemix inspect
//! FILE --png` and `--gif` show them.

use super::{CHANNELS, SplitBy, Window, frame, letters, slices};
use crate::events::{Event, EventStream, Sensor};
use image::{Rgb, RgbImage};
use std::ops::Range;

/// Colours and sizes of a picture.
#[derive(Clone, Debug)]
pub struct Style {
    /// How the recording is cut.
    pub cut: Cut,
    /// Slices in a row of a [`sheet`].
    pub columns: usize,
    /// A frame is enlarged by a whole factor up to about this many screen pixels of width.
    pub frame_width: u32,
    /// Whether rows are counted from below, as in AEDAT 2 files; they are drawn upright all the same.
    pub rows_from_below: bool,
    /// Whether the time of each frame is written below it, from the first event on, and once the colours of the polarities.
    pub legend: bool,
}

/// How a recording is cut into the slices shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// So many slices.
    Into(usize, SplitBy),
    /// Slices of so many microseconds, at most [`MOST_SLICES`]; what is later is not shown.
    Every(u64),
}

impl Default for Style {
    fn default() -> Self {
        Style { cut: Cut::Into(8, SplitBy::Time), columns: 4, frame_width: 256, rows_from_below: false, legend: false }
    }
}

/// Slices shown at most.
pub const MOST_SLICES: usize = 1024;

const PAPER: [f32; 3] = [255.0, 255.0, 255.0];
const ON: [f32; 3] = [200.0, 30.0, 40.0];
const OFF: [f32; 3] = [20.0, 80.0, 190.0];
const GRID: Rgb<u8> = Rgb([205, 205, 205]);
const WRITING: Rgb<u8> = Rgb([34, 38, 46]);
const GAP: u32 = 4;
/// The longest side a frame is reduced to before it is drawn.
const LARGEST: u32 = 1024;
/// A frame of few rows is stretched to this height, or the spikes of a strip of sensors would hardly be seen.
const LOWEST: u32 = 24;

/// A contact sheet: slices of the recording from left to right and from top to bottom, on events red and off events blue on
/// white; stronger where more events fell.
pub fn sheet(stream: &EventStream, style: &Style) -> RgbImage {
    let drawing = Drawing::of(stream, style);
    let (w, h) = drawing.size();
    let n = drawing.frames() as u32;
    let columns = (style.columns.max(1) as u32).min(n).max(1);
    let rows = n.div_ceil(columns);
    let legend = style.legend.then(|| Legend::of(&drawing, 0));
    let line = legend.as_ref().map_or(0, Legend::line);
    // Frames of few pixels stand as far apart as what is written below them.
    let (across, down) = (legend.as_ref().map_or(w, |l| w.max(l.times)) + GAP, h + line + GAP);
    let least = legend.as_ref().map_or(0, |l| l.colours + GAP);
    let mut sheet = RgbImage::from_pixel((columns * across).max(least) + GAP, rows * down + line + GAP, GRID);
    for i in 0..n {
        let (left, top) = (GAP + i % columns * across, GAP + i / columns * down);
        drawing.draw(i as usize, &mut sheet, left, top);
        if let Some(l) = &legend {
            l.write_time(&mut sheet, &drawing.times[i as usize], [left, top + h]);
        }
    }
    if let Some(l) = &legend {
        l.write_colours(&mut sheet, [GAP, rows * down]);
    }
    sheet
}

/// The slices of a [`sheet`] as pictures of their own, to be shown one after another.
pub fn movie(stream: &EventStream, style: &Style) -> impl Iterator<Item = RgbImage> {
    let drawing = Drawing::of(stream, style);
    let legend = style.legend.then(|| Legend::of(&drawing, 1));
    (0..drawing.frames()).map(move |i| {
        let (w, h) = drawing.size();
        let Some(l) = &legend else {
            let mut image = RgbImage::new(w, h);
            drawing.draw(i, &mut image, 0, 0);
            return image;
        };
        let mut image = RgbImage::from_pixel(w.max(l.times + GAP + l.colours), h + l.line(), GRID);
        drawing.draw(i, &mut image, 0, 0);
        l.write_time(&mut image, &drawing.times[i], [0, h]);
        let right = image.width() - l.colours;
        l.write_colours(&mut image, [right, h]);
        image
    })
}

/// How large a legend is.
struct Legend {
    /// By how much letters are enlarged.
    scale: u32,
    /// Pixels that the longest time is wide.
    times: u32,
    /// Pixels that the colours are wide with their names.
    colours: u32,
}

impl Legend {
    /// As large as frames allow, times and `beside` times the colours side by side.
    fn of(drawing: &Drawing, beside: u32) -> Self {
        let w = drawing.size().0;
        let at = |scale: u32| {
            let times = drawing.times.iter().map(|t| letters::width(t, scale)).max().unwrap_or(0) + 2 * scale;
            let colours = letters::width("on off", scale) + 2 * (letters::HEIGHT + 2) * scale + 3 * scale;
            Legend { scale, times, colours }
        };
        let largest = (w / 120).min(2 + w / 640).clamp(1, 3);
        (2..=largest).rev().map(at).find(|l| l.times + beside * (l.colours + GAP) <= w).unwrap_or(at(1))
    }
    /// The height of a line.
    fn line(&self) -> u32 {
        (letters::HEIGHT + 4) * self.scale
    }
    fn write_time(&self, image: &mut RgbImage, time: &str, [left, top]: [u32; 2]) {
        letters::write(image, time, [left + self.scale, top + 2 * self.scale], self.scale, WRITING);
    }
    fn write_colours(&self, image: &mut RgbImage, [mut left, top]: [u32; 2]) {
        let (side, top) = (letters::HEIGHT * self.scale, top + 2 * self.scale);
        for (name, colour) in [("on", ON), ("off", OFF)] {
            letters::fill(image, [left, top], [side; 2], Rgb(colour.map(|v| v as u8)));
            letters::write(image, name, [left + side + 2 * self.scale, top], self.scale, WRITING);
            left += side + 8 * self.scale + letters::width(name, self.scale);
        }
    }
}

/// When each slice begins and ends, counted from the first event on, in the unit that suits the last.
fn times(events: &[Event], slices: &[Range<usize>], cut: Cut) -> Vec<String> {
    let (first, n) = (events.first().map_or(0, |e| e.t), slices.len() as u64);
    let since = |e: Option<&Event>| e.map_or(0, |e| e.t.abs_diff(first));
    let whole = since(events.last());
    let share = |i: u64| (u128::from(whole) * u128::from(i) / u128::from(n.max(1))) as u64;
    let spans: Vec<[u64; 2]> = (0..n)
        .zip(slices)
        .map(|(i, r)| match cut {
            Cut::Into(_, SplitBy::Time) => [share(i), share(i + 1)],
            Cut::Into(_, SplitBy::Number) => {
                let of = events.get(r.clone()).unwrap_or_default();
                [since(of.first()), since(of.last())]
            }
            Cut::Every(us) => [us.saturating_mul(i), us.saturating_mul(i + 1)],
        })
        .collect();
    let end = spans.last().map_or(0, |s| s[1]);
    let (unit, name) = match end {
        0..10_000 => (1.0, "us"),
        10_000..10_000_000 => (1e3, "ms"),
        _ => (1e6, "s"),
    };
    let step = end as f64 / n.max(1) as f64 / unit;
    let digits = if unit == 1.0 || step >= 100.0 { 0 } else { 1 + usize::from(step < 10.0) + usize::from(step < 1.0) };
    let say = |us: u64| format!("{:.digits$}", us as f64 / unit);
    spans.iter().map(|[a, b]| format!("{}-{} {name}", say(*a), say(*b))).collect()
}

/// Counts of events `[T, H, W, 2]` and how they are drawn.
struct Drawing {
    counts: Vec<f32>,
    /// When each slice is.
    times: Vec<String>,
    w: u32,
    h: u32,
    zoom: [u32; 2],
    full: f32,
    from_below: bool,
}

impl Drawing {
    fn of(stream: &EventStream, style: &Style) -> Self {
        let mut stream = std::borrow::Cow::Borrowed(stream);
        if !stream.events.is_sorted_by_key(|e| e.t) {
            stream.to_mut().sort();
        }
        let Sensor { width, height } = stream.sensor;
        let shrink = width.max(height).div_ceil(LARGEST).max(1);
        let (w, h) = ((width / shrink).max(1), (height / shrink).max(1));
        let window = Window::new(stream.sensor, None, Some([h as usize, w as usize]));
        let slices = match style.cut {
            Cut::Into(n, by) => slices(&stream.events, n.clamp(1, MOST_SLICES), by),
            Cut::Every(us) => every(&stream.events, us),
        };
        let counts = frame::frames(&stream.events, &slices, &window);
        let zoom = (style.frame_width / w).clamp(1, 16);
        let full = full_ink(&counts);
        let times = times(&stream.events, &slices, style.cut);
        Drawing { counts, times, w, h, zoom: [zoom, zoom.max(LOWEST.div_ceil(h))], full, from_below: style.rows_from_below }
    }

    fn size(&self) -> (u32, u32) {
        (self.w * self.zoom[0], self.h * self.zoom[1])
    }

    fn frames(&self) -> usize {
        self.counts.len() / ((self.w * self.h) as usize * CHANNELS)
    }

    fn draw(&self, i: usize, image: &mut RgbImage, left: u32, top: u32) {
        let places = (self.w * self.h) as usize * CHANNELS;
        let frame = self.counts[i * places..][..places].chunks_exact(CHANNELS);
        for (place, c) in frame.enumerate() {
            let colour = ink(c[0], c[1], self.full);
            let [zx, zy] = self.zoom;
            let (column, row) = (place as u32 % self.w, place as u32 / self.w);
            let row = if self.from_below { self.h - 1 - row } else { row };
            let (x, y) = (left + column * zx, top + row * zy);
            for (dx, dy) in (0..zy).flat_map(|dy| (0..zx).map(move |dx| (dx, dy))) {
                image.put_pixel(x + dx, y + dy, colour);
            }
        }
    }
}

/// Slices of `us` microseconds from the first event on, events in order of time.
fn every(events: &[Event], us: u64) -> Vec<Range<usize>> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return vec![0..0; 1];
    };
    let n = (last.t.abs_diff(first.t) / us.max(1)).min(MOST_SLICES as u64 - 1) + 1;
    let begin = |i: u64| events.partition_point(|e| e.t.abs_diff(first.t) < i.saturating_mul(us));
    (0..n).map(|i| begin(i)..begin(i + 1)).collect()
}

/// The count at which ink is full: what 95 % of the places with events stay below.
fn full_ink(counts: &[f32]) -> f32 {
    let mut hit: Vec<f32> = counts.iter().copied().filter(|&c| c > 0.0).collect();
    if hit.is_empty() {
        return 1.0;
    }
    let at = hit.len() * 95 / 100;
    *hit.select_nth_unstable_by(at, f32::total_cmp).1
}

/// Both polarities mix by their share; a single event already shows.
fn ink(off: f32, on: f32, full: f32) -> Rgb<u8> {
    let total = off + on;
    if total == 0.0 {
        return Rgb(PAPER.map(|v| v as u8));
    }
    let strength = 0.35 + 0.65 * (total / full).min(1.0);
    let share = on / total;
    let channel = |i: usize| {
        let ink = OFF[i] + (ON[i] - OFF[i]) * share;
        (PAPER[i] + (ink - PAPER[i]) * strength).round() as u8
    };
    Rgb([channel(0), channel(1), channel(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(t: i64, x: u16, p: bool) -> Event {
        Event { t, x, y: 1, p }
    }

    #[test]
    fn colours_and_layout() {
        let stream = EventStream::new(vec![e(0, 0, true), e(9, 2, false)], Sensor::new(3, 12));
        let style =
            Style { cut: Cut::Into(2, SplitBy::Number), columns: 2, frame_width: 6, rows_from_below: false, legend: false };
        let image = sheet(&stream, &style);
        assert_eq!(image.dimensions(), (2 * (6 + GAP) + GAP, 24 + 2 * GAP));
        let red = image.get_pixel(GAP, GAP + 2);
        let blue = image.get_pixel(GAP + 6 + GAP + 4, GAP + 3);
        assert!(red[0] > red[2] + 100 && blue[2] > blue[0] + 100, "{red:?} {blue:?}");
        assert_eq!(image.get_pixel(GAP + 2, GAP), &Rgb([255; 3]));
        let frames: Vec<RgbImage> = movie(&stream, &style).collect();
        assert_eq!((frames.len(), frames[0].dimensions()), (2, (6, 24)));
        assert_eq!(frames[1].get_pixel(4, 3), blue);
        // Nothing, and a sensor larger than any screen.
        sheet(&EventStream::default(), &Style::default());
        let wide = EventStream::new(vec![e(0, 9999, true)], Sensor::new(10_000, 2));
        assert!(sheet(&wide, &Style::default()).width() < 5000);
    }

    /// The pictures of before stand above and beside what is written, of small sensors too.
    #[test]
    fn legends() {
        for (sensor, frame_width) in [(Sensor::new(1, 1), 256), (Sensor::new(28, 28), 256), (Sensor::new(1280, 720), 384)] {
            let events = vec![e(5, 0, true), e(90_000, 0, false), e(299_995, 0, true), e(300_005, 0, true)];
            let stream = EventStream::new(events.into_iter().map(|e| Event { y: 0, ..e }).collect(), sensor);
            let plain = Style { cut: Cut::Into(4, SplitBy::Time), columns: 2, frame_width, ..Style::default() };
            let style = Style { legend: true, ..plain.clone() };
            let (without, with) = (sheet(&stream, &plain), sheet(&stream, &style));
            let (w, h) = Drawing::of(&stream, &plain).size();
            let l = Legend::of(&Drawing::of(&stream, &style), 0);
            let across = w.max(l.times) + GAP;
            let size = (2 * across + GAP, 2 * (h + l.line() + GAP) + l.line() + GAP);
            assert_eq!(with.dimensions(), size, "{sensor}");
            for (x, y) in (0..2 * h).flat_map(|y| (0..2 * w).map(move |x| (x, y))) {
                let place = |across: u32, down: u32| (GAP + x / w * across + x % w, GAP + y / h * down + y % h);
                let (a, b) = (place(w + GAP, h + GAP), place(across, h + l.line() + GAP));
                assert_eq!(without.get_pixel(a.0, a.1), with.get_pixel(b.0, b.1), "{sensor}: {x}, {y}");
            }
            // All of it is there: the colours' names end within the picture, and so do times.
            let dark = |image: &RgbImage| image.enumerate_pixels().filter(|p| *p.2 == WRITING).map(|p| p.0).max();
            assert!(dark(&with).is_some_and(|x| x < with.width() - GAP));
            let plain: Vec<_> = movie(&stream, &plain).collect();
            for (i, frame) in movie(&stream, &style).enumerate() {
                assert!(frame.width() >= w && frame.height() > h && dark(&frame).is_some_and(|x| x < frame.width()));
                assert!(plain[i].enumerate_pixels().all(|(x, y, c)| frame.get_pixel(x, y) == c), "{sensor}: {i}");
            }
        }
    }

    #[test]
    fn times_of_frames() {
        let at = |t: &[i64]| t.iter().map(|t| e(*t, 0, true)).collect::<Vec<_>>();
        let said = |events: &[Event], slices: &[Range<usize>], cut| times(events, slices, cut).join(", ");
        let ms = at(&[50, 30_050, 90_050, 300_050]);
        assert_eq!(said(&ms, &[0..2, 2..4], Cut::Into(2, SplitBy::Time)), "0-150 ms, 150-300 ms");
        assert_eq!(said(&ms, &[0..2, 2..4], Cut::Into(2, SplitBy::Number)), "0-30 ms, 90-300 ms");
        assert_eq!(said(&ms, &[0..1, 1..2], Cut::Every(12_500)), "0.0-12.5 ms, 12.5-25.0 ms");
        assert_eq!(said(&at(&[1, 9]), &[0..1, 1..2], Cut::Into(2, SplitBy::Time)), "0-4 us, 4-8 us");
        let ends = at(&[i64::MIN, i64::MAX]);
        assert_eq!(said(&ends, &[0..1, 1..2], Cut::Into(2, SplitBy::Time)), "0-9223372036855 s, 9223372036855-18446744073710 s");
        assert_eq!(said(&[], &[0..0, 0..0], Cut::Into(1, SplitBy::Number)), "0-0 us, 0-0 us");
    }

    #[test]
    fn strips_are_stretched_and_slices_may_have_a_length() {
        let strip = EventStream::new(vec![e(5, 0, true), e(24, 1, true), e(25, 38, false), e(70, 3, true)], Sensor::new(39, 2));
        let style = Style { cut: Cut::Every(20), ..Style::default() };
        let frames: Vec<RgbImage> = movie(&strip, &style).collect();
        assert_eq!((frames.len(), frames[0].dimensions()), (4, (39 * 6, 24)));
        assert_eq!(every(&strip.events, 20), [0..2, 2..3, 3..3, 3..4]);
        assert_eq!(every(&[e(i64::MIN, 0, true), e(i64::MAX, 0, true)], 1).len(), MOST_SLICES);
        assert_eq!(movie(&EventStream::default(), &style).count(), 1);
    }
}
