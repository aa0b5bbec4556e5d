//! Pictures for the report: SVG charts (plotters) and PNG maps (image), both as text that stands in a page.

use crate::error::{Error, Result};
use image::{ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io::Cursor;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

const INK: RGBColor = RGBColor(34, 38, 46);
const FAINT: RGBColor = RGBColor(222, 225, 230);
/// Colours of the parts of a bar.
pub const PARTS: [RGBColor; 3] = [RGBColor(196, 78, 82), RGBColor(49, 107, 178), RGBColor(150, 150, 150)];
/// Colours of experts, repeated from the fifth on.
pub const EXPERTS: [[u8; 3]; 4] = [[214, 84, 28], [20, 128, 94], [60, 88, 190], [170, 60, 140]];
/// Pixels that a letter of a label takes.
const LETTER: usize = 7;
const ROW: i32 = 19;

/// One bar: its label, its parts from left to right, a whisker from one value to another, and what is written behind it.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Lengths.
    pub parts: Vec<f64>,
    /// From, to.
    pub whisker: Option<(f64, f64)>,
    /// The value in words.
    pub value: String,
}

fn svg(width: i32, height: i32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, (width.max(1) as u32, height.max(1) as u32)).into_drawing_area();
        draw(&area).and_then(|()| area.present())
    };
    drawn.map_err(|e| Error::shape("report", format!("a picture cannot be drawn: {e}")))?;
    Ok(text)
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), h: HPos, colour: RGBColor) -> Drawn {
    let style = ("sans-serif", 15).into_font().color(&colour).pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style))
}

fn box_(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Drawn {
    area.draw(&Rectangle::new([from, to], colour.filled()))
}

/// 1, 2 or 5 times a power of ten, so that at most five such steps reach `max`.
fn tick(max: f64) -> f64 {
    let raw = (max / 5.0).max(f64::MIN_POSITIVE);
    let unit = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|k| k * unit).find(|s| *s >= raw * (1.0 - 1e-9)).unwrap_or(10.0 * unit)
}

/// Horizontal bars from zero on a common scale; `ticks` writes a value at the scale.
pub fn bars(bars: &[Bar], colours: &[RGBColor], ticks: impl Fn(f64) -> String) -> Result<String> {
    let letters = |f: fn(&Bar) -> &String| bars.iter().map(|b| f(b).chars().count()).max().unwrap_or(0);
    let left = (letters(|b| &b.label) * LETTER + 14) as i32;
    let right = (letters(|b| &b.value) * LETTER + 14) as i32;
    let wide = 460;
    let height = bars.len() as i32 * ROW + 30;
    let reach = |b: &Bar| b.parts.iter().sum::<f64>().max(b.whisker.map_or(0.0, |w| w.1));
    let max = bars.iter().map(reach).fold(0.0, f64::max);
    let max = if max > 0.0 && max.is_finite() { max } else { 1.0 };
    let x = |v: f64| left + (v.clamp(0.0, max) / max * f64::from(wide)).round() as i32;
    svg(left + wide + right, height, |area| {
        let step = tick(max);
        for k in 0..=(max / step) as usize {
            let v = k as f64 * step;
            area.draw(&PathElement::new(vec![(x(v), 4), (x(v), height - 22)], FAINT))?;
            write(area, &ticks(v), (x(v), height - 10), HPos::Center, INK)?;
        }
        for (i, b) in bars.iter().enumerate() {
            let y = 4 + i as i32 * ROW;
            write(area, &b.label, (left - 8, y + ROW / 2), HPos::Right, INK)?;
            let mut from = 0.0;
            for (part, colour) in b.parts.iter().zip(colours.iter().cycle()) {
                box_(area, (x(from), y + 4), (x(from + part), y + ROW - 4), *colour)?;
                from += part;
            }
            if let Some((low, high)) = b.whisker {
                let mid = y + ROW / 2;
                area.draw(&PathElement::new(vec![(x(low), mid), (x(high), mid)], INK.stroke_width(1)))?;
                for v in [low, high] {
                    area.draw(&PathElement::new(vec![(x(v), mid - 4), (x(v), mid + 4)], INK.stroke_width(1)))?;
                }
            }
            write(area, &b.value, (left + wide + 8, y + ROW / 2), HPos::Left, INK)?;
        }
        Ok(())
    })
}

/// A share as a colour from white to blue.
fn shade(share: f64) -> RGBColor {
    let s = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let mix = |white: f64, blue: f64| (white + (blue - white) * s).round() as u8;
    RGBColor(mix(255.0, 8.0), mix(255.0, 64.0), mix(255.0, 140.0))
}

/// How many steps share a cell, where there are to be `most` cells at most.
pub fn steps_a_cell(steps: usize, most: usize) -> usize {
    steps.div_ceil(most.max(1)).max(1)
}

/// The most columns of a [`grid`] without numbers, and of one with.
pub const COLUMNS: [usize; 2] = [64, 20];

/// A grid of shares, one row a label; a column stands for `per` steps and is named by the first. `full` is the share with the full
/// colour; numbers are written into the cells where `numbers` says so, as per cent.
pub fn grid(rows: &[(String, Vec<f64>)], full: f64, numbers: bool, per: usize) -> Result<String> {
    let left = (rows.iter().map(|r| r.0.chars().count()).max().unwrap_or(0) * LETTER + 14) as i32;
    let columns = rows.iter().map(|r| r.1.len()).max().unwrap_or(0);
    let cell = if numbers { 34 } else { (704 / columns.max(1)).clamp(4, 22) as i32 };
    let height = rows.len() as i32 * ROW + 24;
    // The last number may stand out.
    svg(left + columns as i32 * cell + 20, height, |area| {
        for (i, (label, shares)) in rows.iter().enumerate() {
            let y = 2 + i as i32 * ROW;
            write(area, label, (left - 8, y + ROW / 2), HPos::Right, INK)?;
            for (t, &share) in shares.iter().enumerate() {
                let x = left + t as i32 * cell;
                let strength = share / if full > 0.0 { full } else { 1.0 };
                box_(area, (x, y), (x + cell - 2, y + ROW - 2), FAINT)?;
                box_(area, (x + 1, y + 1), (x + cell - 3, y + ROW - 3), shade(strength))?;
                if numbers {
                    let colour = if strength > 0.55 { WHITE } else { INK };
                    write(area, &format!("{:.0}", 100.0 * share), (x + cell / 2 - 1, y + ROW / 2 - 1), HPos::Center, colour)?;
                }
            }
        }
        // Not every column when they are narrower than its number.
        let number = 10 * (1 + (columns * per).max(1).ilog10() as i32);
        for t in (0..columns).step_by((number / cell).max(0) as usize + 1) {
            let x = left + t as i32 * cell + cell / 2 - 1;
            write(area, &(t * per).to_string(), (x, height - 11), HPos::Center, INK)?;
        }
        Ok(())
    })
}

/// The most columns of a [`raster`].
pub const RASTER: usize = 432;

/// Spikes of some neurons over time: a row each, named on the left, a dark cell where it fired. Columns are as wide as many allow; each
/// stands for `per` steps and is named by the first.
pub fn raster(columns: usize, per: usize, neurons: &[usize], fired: impl Fn(usize, usize) -> bool) -> Result<String> {
    let cell = ((216 / columns.max(1)).clamp(1, 18), if neurons.len() > 96 { 2 } else { 4 });
    let picture = data_uri(&cells(columns, neurons.len(), cell, fired))?;
    let letters = |n: usize| n.max(1).ilog10() as usize + 1;
    let left = (letters(neurons.iter().copied().max().unwrap_or(0)) * LETTER + 16) as i32;
    // The words below need room where there are few steps.
    let (w, h) = (((columns * cell.0) as i32 + 1).max(60), (neurons.len() * cell.1) as i32 + 1);
    let text = svg(left + w + 20, h + 44, |area| {
        // Not every row and column when they are narrower than its number.
        for i in (0..neurons.len()).step_by(ROW as usize / cell.1 + 1) {
            let y = (i * cell.1 + cell.1 / 2) as i32 + 2;
            write(area, &neurons[i].to_string(), (left - 6, y + 6), HPos::Right, INK)?;
        }
        let number = 10 * (1 + letters(columns * per));
        for t in (0..columns).step_by(number / cell.0 + 1) {
            let x = left + (t * cell.0 + cell.0 / 2) as i32;
            write(area, &(t * per).to_string(), (x, h + 18), HPos::Center, INK)?;
        }
        write(area, "step", (left + w / 2, h + 35), HPos::Center, INK)
    })?;
    let (w, h) = (columns * cell.0 + 1, neurons.len() * cell.1 + 1);
    let image = format!(
        "<image href=\"{picture}\" x=\"{left}\" y=\"8\" width=\"{w}\" height=\"{h}\" style=\"image-rendering:pixelated\"/>"
    );
    Ok(text.replace("</svg>", &format!("{image}</svg>")))
}

/// The cells of a [`raster`], each (width, height) pixels.
fn cells(columns: usize, rows: usize, (w, h): (usize, usize), fired: impl Fn(usize, usize) -> bool) -> RgbImage {
    let size = ((columns * w) as u32 + 1, (rows * h) as u32 + 1);
    RgbImage::from_fn(size.0, size.1, |x, y| {
        let (t, n) = (x as usize / w, y as usize / h);
        match () {
            _ if w >= 3 && (x as usize).is_multiple_of(w) => Rgb([FAINT.0, FAINT.1, FAINT.2]),
            _ if t < columns && n < rows && fired(t, n) => Rgb([INK.0, INK.1, INK.2]),
            _ => Rgb([255; 3]),
        }
    })
}

/// A grid of values over a [`map`]: values `[rows, columns]`, the value that gets the full colour, the colour.
pub struct Overlay<'a> {
    /// `[rows, columns]`
    pub values: &'a [f64],
    /// Rows, columns.
    pub grid: [usize; 2],
    /// The value with the full colour.
    pub full: f64,
    /// Red, green, blue.
    pub colour: [u8; 3],
}

/// Events of a clip added up, `[height, width]`, in grey (black where 2 % of the places with events have more); under an overlay paler.
pub fn map(events: &[f32], [height, width]: [usize; 2], over: Option<&Overlay<'_>>) -> RgbImage {
    let zoom = (208 / width.max(height).max(1)).max(1);
    let mut hit: Vec<f32> = events.iter().copied().filter(|v| *v > 0.0).collect();
    let at = (hit.len() * 98 / 100).min(hit.len().saturating_sub(1));
    let full = if hit.is_empty() { 1.0 } else { *hit.select_nth_unstable_by(at, f32::total_cmp).1 };
    let over = over.filter(|o| o.grid[0] > 0 && o.grid[1] > 0);
    let depth = if over.is_some() { 150.0 } else { 225.0 };
    RgbImage::from_fn((width * zoom) as u32, (height * zoom) as u32, |x, y| {
        let (px, py) = (x as usize / zoom, y as usize / zoom);
        let v = events.get(py * width + px).copied().unwrap_or(0.0);
        let grey = f64::from(255.0 - (v / full).min(1.0) * depth);
        let Some(o) = over else { return Rgb([grey as u8; 3]) };
        let [rows, columns] = o.grid;
        let (r, c) = (y as usize * rows / (height * zoom), x as usize * columns / (width * zoom));
        let value = o.values.get(r * columns + c).copied().unwrap_or(0.0) / if o.full > 0.0 { o.full } else { 1.0 };
        let edge = |at: usize, n: usize, size: usize| at > 0 && at * n / size != (at - 1) * n / size;
        let line = edge(x as usize, columns, width * zoom) || edge(y as usize, rows, height * zoom);
        let alpha = (0.75 * value + if line { 0.15 } else { 0.0 }).clamp(0.0, 0.9);
        Rgb(o.colour.map(|k| (grey + (f64::from(k) - grey) * alpha).round() as u8))
    })
}

/// The image as a `data:` address.
pub fn data_uri(image: &RgbImage) -> Result<String> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::shape("report", format!("a picture cannot be encoded: {e}")))?;
    Ok(format!("data:image/png;base64,{}", base64(bytes.get_ref())))
}

/// Base 64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| group.get(i).map_or(0, |b| u32::from(*b));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= group.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        let of = |s: &str| base64(s.as_bytes());
        assert_eq!(["", "f", "fo", "foo", "foob", "fooba"].map(of), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE="]);
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn scales() {
        assert_eq!(
            [1.0, 0.5, 0.3, 1e6].map(tick).map(|t| (t * 1e6).round() as u64),
            [200_000, 100_000, 100_000, 200_000_000_000]
        );
    }

    #[test]
    fn charts() {
        let b = Bar { label: "a<b".into(), parts: vec![0.25, 0.5], whisker: Some((0.1, 1.0)), value: "75%".into() };
        let text = bars(&[b, Bar::default()], &PARTS, |v| format!("{v:.1}")).unwrap();
        assert!(text.starts_with("<svg") && text.contains("a&lt;b") && text.contains("75%"), "{text}");
        let text = grid(&[("e0".into(), vec![0.0, 1.0])], 1.0, true, 1).unwrap();
        assert!(text.contains("100") && text.contains("#08408C"), "{text}");
        for empty in [bars(&[], &PARTS, |v| v.to_string()), grid(&[], 0.0, false, 1)] {
            assert!(empty.unwrap().contains("</svg>"));
        }
    }

    #[test]
    fn maps() {
        // Two pixels, an event on the right one; a token each, the left one open always.
        let over = Overlay { values: &[0.5, 0.0], grid: [1, 2], full: 0.5, colour: [200, 0, 0] };
        let m = map(&[0.0, 1.0], [1, 2], Some(&over));
        let (left, right) = (m.get_pixel(3, 3), m.get_pixel(m.width() - 3, 3));
        assert!(left[0] > left[1] + 100 && right[0] == right[1] && right[0] == 105, "{left:?} {right:?}");
        assert_eq!(map(&[], [0, 0], None).width(), 0);
        let r = cells(2, 1, (18, 4), |t, _| t == 1);
        assert_eq!((r.get_pixel(2, 1), r.get_pixel(20, 1)), (&Rgb([255; 3]), &Rgb([34, 38, 46])));
        assert!(data_uri(&r).unwrap().starts_with("data:image/png;base64,iVBOR"));
    }

    #[test]
    fn rasters() {
        let neurons: Vec<usize> = (0..100).map(|n| 11 * n).collect();
        for (steps, per) in [(1, 1), (16, 1), (73, 1), (RASTER, 5)] {
            let text = raster(steps, per, &neurons, |t, n| t == n).unwrap();
            // However many columns, a picture stays narrower than a page.
            let wide: usize = text.split('"').nth(1).unwrap().parse().unwrap();
            assert!(wide <= 520 && text.ends_with("</svg>\n") | text.ends_with("</svg>"), "{steps}: {wide}");
            assert!(text.contains("base64,iVBOR") && text.contains("step") && text.contains("\n110\n"), "{text}");
        }
        assert!(raster(0, 1, &[], |_, _| true).is_ok());
    }
}
