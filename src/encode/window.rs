//! Cropping and down-sampling: which pixel of the sensor goes to which place of the array.

use super::CHANNELS;
use crate::events::{Event, Sensor};
use serde::{Deserialize, Serialize};

/// The part of the sensor that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected [height, width] for the centre, or { x, y, width, height }")]
pub enum Crop {
    /// The centre, `[height, width]`; where it exceeds the sensor it is padded.
    Centre([usize; 2]),
    /// A rectangle within the sensor.
    Rectangle(Rectangle),
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// The first column.
    pub x: usize,
    /// The first row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// A map from pixels to places `[H, W]`, separable by axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    columns: Vec<u32>,
    rows: Vec<u32>,
    size: [usize; 2],
}

const OUTSIDE: u32 = u32::MAX;

/// For each of `sensor` pixels along an axis its place, if it has one: `size` places share `crop` pixels from `from` on.
fn axis(sensor: usize, from: i64, crop: usize, size: usize) -> Vec<u32> {
    // No event lies beyond 65536 pixels.
    (0..sensor.min(1 << 16))
        .map(|i| match usize::try_from((i as i64).saturating_sub(from)) {
            Ok(i) if i < crop => (i as u128 * size as u128 / crop as u128) as u32,
            _ => OUTSIDE,
        })
        .collect()
}

/// Where a centred crop begins; where the difference is odd the extra pixel is cut (or padded) at the end.
fn centred(sensor: usize, crop: usize) -> i64 {
    let half = |n: usize| i64::try_from(n / 2).unwrap_or(i64::MAX);
    half(sensor.saturating_sub(crop)) - half(crop.saturating_sub(sensor))
}

impl Window {
    /// The part `crop` (all if none) of `sensor`, scaled to `size` (`[height, width]`).
    pub fn new(sensor: Sensor, crop: Option<Crop>, size: Option<[usize; 2]>) -> Self {
        let all = [sensor.height as usize, sensor.width as usize];
        let (from, crop) = match crop {
            None => ([0, 0], all),
            Some(Crop::Centre(crop)) => ([centred(all[0], crop[0]), centred(all[1], crop[1])], crop),
            Some(Crop::Rectangle(r)) => ([r.y, r.x].map(|v| i64::try_from(v).unwrap_or(i64::MAX)), [r.height, r.width]),
        };
        let size = size.unwrap_or(crop);
        let axis = |i: usize| axis(all[i], from[i], crop[i], size[i]);
        Window { rows: axis(0), columns: axis(1), size }
    }
    /// H and W of the array.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }
    /// The place of the event's pixel, row * W + column; none outside.
    #[inline]
    pub fn place(&self, e: &Event) -> Option<usize> {
        let (&row, &column) = (self.rows.get(usize::from(e.y))?, self.columns.get(usize::from(e.x))?);
        (row != OUTSIDE && column != OUTSIDE).then(|| row as usize * self.size[1] + column as usize)
    }
    /// The event's element of `[H, W, 2]`, polarities apart; none outside.
    #[inline]
    pub fn element(&self, e: &Event) -> Option<usize> {
        Some(self.place(e)? * CHANNELS + usize::from(e.p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(w: &Window, x: u16, y: u16) -> Option<usize> {
        w.place(&Event { x, y, ..Event::default() })
    }

    #[test]
    fn identity_crop_pad_and_scale() {
        let s = Sensor::new(6, 4);
        let all = Window::new(s, None, None);
        assert_eq!((place(&all, 5, 3), place(&all, 6, 0), place(&all, 0, 4)), (Some(23), None, None));
        let crop = Window::new(s, Some(Crop::Centre([2, 2])), None);
        assert_eq!(
            (place(&crop, 2, 1), place(&crop, 3, 2), place(&crop, 1, 1), place(&crop, 4, 1)),
            (Some(0), Some(3), None, None)
        );
        let pad = Window::new(s, Some(Crop::Centre([8, 8])), None);
        assert_eq!((pad.size(), place(&pad, 0, 0), place(&pad, 5, 3)), ([8, 8], Some(2 * 8 + 1), Some(5 * 8 + 6)));
        let part = Window::new(s, Some(Crop::Rectangle(Rectangle { x: 1, y: 2, width: 4, height: 2 })), Some([1, 2]));
        assert_eq!(
            (part.size(), place(&part, 1, 2), place(&part, 4, 3), place(&part, 0, 2), place(&part, 5, 2), place(&part, 1, 1)),
            ([1, 2], Some(0), Some(1), None, None, None)
        );
        let half = Window::new(s, None, Some([2, 3]));
        assert_eq!((place(&half, 1, 1), place(&half, 2, 0), place(&half, 5, 3)), (Some(0), Some(1), Some(5)));
        let odd = Window::new(Sensor::new(34, 34), None, Some([32, 32]));
        let mut hit = [false; 32];
        (0..34).for_each(|x| hit[place(&odd, x, 0).unwrap()] = true);
        assert!(hit.iter().all(|&h| h));
    }
}
