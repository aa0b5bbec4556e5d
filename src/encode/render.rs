//! Pictures of recordings for people: slices of accumulated events, side by side or one after another, as `spikemix inspect
//! FILE --png` and `--gif` show them.

use super::{CHANNELS, SplitBy, Window, frame, slices};
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
        Style { cut: Cut::Into(8, SplitBy::Time), columns: 4, frame_width: 256, rows_from_below: false }
    }
}

/// Slices shown at most.
pub const MOST_SLICES: usize = 1024;

const PAPER: [f32; 3] = [255.0, 255.0, 255.0];
const ON: [f32; 3] = [200.0, 30.0, 40.0];
const OFF: [f32; 3] = [20.0, 80.0, 190.0];
const GRID: Rgb<u8> = Rgb([205, 205, 205]);
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
    let mut sheet = RgbImage::from_pixel(columns * (w + GAP) + GAP, rows * (h + GAP) + GAP, GRID);
    for i in 0..n {
        drawing.draw(i as usize, &mut sheet, GAP + i % columns * (w + GAP), GAP + i / columns * (h + GAP));
    }
    sheet
}

/// The slices of a [`sheet`] as pictures of their own, to be shown one after another.
pub fn movie(stream: &EventStream, style: &Style) -> impl Iterator<Item = RgbImage> {
    let drawing = Drawing::of(stream, style);
    (0..drawing.frames()).map(move |i| {
        let (w, h) = drawing.size();
        let mut image = RgbImage::new(w, h);
        drawing.draw(i, &mut image, 0, 0);
        image
    })
}

/// Counts of events `[T, H, W, 2]` and how they are drawn.
struct Drawing {
    counts: Vec<f32>,
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
        Drawing { counts, w, h, zoom: [zoom, zoom.max(LOWEST.div_ceil(h))], full, from_below: style.rows_from_below }
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
        let style = Style { cut: Cut::Into(2, SplitBy::Number), columns: 2, frame_width: 6, rows_from_below: false };
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
