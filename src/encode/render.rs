//! Pictures of recordings for people: slices of accumulated events side by side, as `spikemix inspect FILE --png` shows them.

use super::{CHANNELS, SplitBy, Window, frame, slices};
use crate::events::{EventStream, Sensor};
use image::{Rgb, RgbImage};

/// Colours and sizes of a [`sheet`].
#[derive(Clone, Debug)]
pub struct Style {
    /// Slices shown.
    pub frames: usize,
    /// How they are cut.
    pub split_by: SplitBy,
    /// Slices in a row of the sheet.
    pub columns: usize,
    /// A frame is enlarged by a whole factor up to about this many screen pixels of width.
    pub frame_width: u32,
}

impl Default for Style {
    fn default() -> Self {
        Style { frames: 8, split_by: SplitBy::Time, columns: 4, frame_width: 240 }
    }
}

const PAPER: [f32; 3] = [255.0, 255.0, 255.0];
const ON: [f32; 3] = [200.0, 30.0, 40.0];
const OFF: [f32; 3] = [20.0, 80.0, 190.0];
const GRID: Rgb<u8> = Rgb([205, 205, 205]);
const GAP: u32 = 4;
/// The longest side a frame is reduced to before it is drawn.
const LARGEST: u32 = 1024;

/// A contact sheet: slices of the recording from left to right and from top to bottom, on events red and off events blue on
/// white; stronger where more events fell.
pub fn sheet(stream: &EventStream, style: &Style) -> RgbImage {
    let mut stream = std::borrow::Cow::Borrowed(stream);
    if !stream.events.is_sorted_by_key(|e| e.t) {
        stream.to_mut().sort();
    }
    let Sensor { width, height } = stream.sensor;
    let shrink = width.max(height).div_ceil(LARGEST).max(1);
    let (w, h) = ((width / shrink).max(1), (height / shrink).max(1));
    let window = Window::new(stream.sensor, None, Some([h as usize, w as usize]));
    let n = style.frames.clamp(1, 1024);
    let counts = frame::frames(&stream.events, &slices(&stream.events, n, style.split_by), &window);

    let zoom = (style.frame_width / w).clamp(1, 16);
    let columns = (style.columns.max(1) as u32).min(n as u32);
    let rows = (n as u32).div_ceil(columns);
    let mut sheet = RgbImage::from_pixel(columns * (w * zoom + GAP) + GAP, rows * (h * zoom + GAP) + GAP, GRID);
    let full = full_ink(&counts);
    for (i, frame) in counts.chunks_exact((w * h) as usize * CHANNELS).enumerate() {
        let (left, top) = (GAP + i as u32 % columns * (w * zoom + GAP), GAP + i as u32 / columns * (h * zoom + GAP));
        for (place, c) in frame.chunks_exact(CHANNELS).enumerate() {
            let colour = ink(c[0], c[1], full);
            let (x, y) = (place as u32 % w, place as u32 / w);
            for dy in 0..zoom {
                for dx in 0..zoom {
                    sheet.put_pixel(left + x * zoom + dx, top + y * zoom + dy, colour);
                }
            }
        }
    }
    sheet
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
    use crate::events::Event;

    #[test]
    fn colours_and_layout() {
        let e = |t, x, p| Event { t, x, y: 1, p };
        let stream = EventStream::new(vec![e(0, 0, true), e(9, 2, false)], Sensor::new(3, 2));
        let style = Style { frames: 2, columns: 2, frame_width: 6, split_by: SplitBy::Number };
        let image = sheet(&stream, &style);
        assert_eq!(image.dimensions(), (2 * (6 + GAP) + GAP, 4 + 2 * GAP));
        let red = image.get_pixel(GAP, GAP + 2);
        let blue = image.get_pixel(GAP + 6 + GAP + 4, GAP + 3);
        assert!(red[0] > red[2] + 100 && blue[2] > blue[0] + 100, "{red:?} {blue:?}");
        assert_eq!(image.get_pixel(GAP + 2, GAP), &Rgb([255; 3]));
        // Nothing, and a sensor larger than any screen.
        sheet(&EventStream::default(), &Style::default());
        let wide = EventStream::new(vec![e(0, 9999, true)], Sensor::new(10_000, 2));
        assert!(sheet(&wide, &Style::default()).width() < 5000);
    }
}
