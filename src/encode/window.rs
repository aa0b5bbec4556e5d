//! Cropping and down-sampling: which pixel of the sensor goes to which place of the array.

use crate::events::{Event, Sensor};

/// A map from pixels to places `[H, W]`, separable by axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    columns: Vec<u32>,
    rows: Vec<u32>,
    size: [usize; 2],
}

const OUTSIDE: u32 = u32::MAX;

/// For each pixel along an axis its place, if it has one.
fn axis(sensor: usize, crop: usize, size: usize) -> Vec<u32> {
    // Centred; where the difference is odd the extra pixel is cut (or padded) at the end.
    let (skip, pad) = (sensor.saturating_sub(crop) / 2, crop.saturating_sub(sensor) / 2);
    // No event lies beyond 65536 pixels.
    (0..sensor.min(1 << 16))
        .map(|i| match (i + pad).checked_sub(skip) {
            Some(i) if i < crop => (i as u128 * size as u128 / crop as u128) as u32,
            _ => OUTSIDE,
        })
        .collect()
}

impl Window {
    /// The centred part `crop` (`[height, width]`, all if none) of `sensor`, scaled to `size` (`[height, width]`).
    pub fn new(sensor: Sensor, crop: Option<[usize; 2]>, size: Option<[usize; 2]>) -> Self {
        let all = [sensor.height as usize, sensor.width as usize];
        let crop = crop.unwrap_or(all);
        let size = size.unwrap_or(crop);
        let axis = |i: usize| axis(all[i], crop[i], size[i]);
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
        let crop = Window::new(s, Some([2, 2]), None);
        assert_eq!(
            (place(&crop, 2, 1), place(&crop, 3, 2), place(&crop, 1, 1), place(&crop, 4, 1)),
            (Some(0), Some(3), None, None)
        );
        let pad = Window::new(s, Some([8, 8]), None);
        assert_eq!((pad.size(), place(&pad, 0, 0), place(&pad, 5, 3)), ([8, 8], Some(2 * 8 + 1), Some(5 * 8 + 6)));
        let half = Window::new(s, None, Some([2, 3]));
        assert_eq!((place(&half, 1, 1), place(&half, 2, 0), place(&half, 5, 3)), (Some(0), Some(1), Some(5)));
        let odd = Window::new(Sensor::new(34, 34), None, Some([32, 32]));
        let mut hit = [false; 32];
        (0..34).for_each(|x| hit[place(&odd, x, 0).unwrap()] = true);
        assert!(hit.iter().all(|&h| h));
    }
}
