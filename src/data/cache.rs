//! Samples in memory, small: counts as bytes where they fit, events in 64 bits each.

use crate::events::Event;

/// What is kept of a sample.
#[derive(Debug)]
pub(super) enum Kept {
    /// Encoded, `[T, H, W, C]`.
    Array(Compact),
    /// Its events, where something random happens to them.
    Events(Packed),
}

impl Kept {
    pub fn bytes(&self) -> usize {
        match self {
            Kept::Array(a) => a.bytes(),
            Kept::Events(e) => e.bytes(),
        }
    }
}

/// An encoded sample; exact.
#[derive(Debug)]
pub(super) enum Compact {
    U8(Box<[u8]>),
    U16(Box<[u16]>),
    F32(Box<[f32]>),
}

impl Compact {
    pub fn of(x: Vec<f32>) -> Self {
        if x.iter().all(|&v| f32::from(v as u8) == v) {
            Compact::U8(x.iter().map(|&v| v as u8).collect())
        } else if x.iter().all(|&v| f32::from(v as u16) == v) {
            Compact::U16(x.iter().map(|&v| v as u16).collect())
        } else {
            Compact::F32(x.into())
        }
    }
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Compact::U8(v) => v.len(),
            Compact::U16(v) => v.len(),
            Compact::F32(v) => v.len(),
        }
    }
    pub fn bytes(&self) -> usize {
        match self {
            Compact::U8(v) => v.len(),
            Compact::U16(v) => 2 * v.len(),
            Compact::F32(v) => 4 * v.len(),
        }
    }
    /// Copies elements from `from` on to fill `out`.
    pub fn read(&self, from: usize, out: &mut [f32]) {
        let range = from..from + out.len();
        match self {
            Compact::U8(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &v)| *o = v.into()),
            Compact::U16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &v)| *o = v.into()),
            Compact::F32(v) => out.copy_from_slice(&v[range]),
        }
    }
}

/// Events in 64 bits each: 31 of time since the first, 16 of each coordinate, the polarity.
#[derive(Debug)]
pub(super) struct Packed {
    pub t0: i64,
    pub events: Box<[u64]>,
}

impl Packed {
    /// None where the recording is longer than 2^31 microseconds or not in order of time.
    pub fn of(events: &[Event]) -> Option<Self> {
        let t0 = events.first().map_or(0, |e| e.t);
        let pack = |e: &Event| {
            let t = e.t.checked_sub(t0).filter(|t| (0..1 << 31).contains(t))? as u64;
            Some(t << 33 | u64::from(e.x) << 17 | u64::from(e.y) << 1 | u64::from(e.p))
        };
        let events = events.iter().map(pack).collect::<Option<_>>()?;
        Some(Packed { t0, events })
    }
    pub fn bytes(&self) -> usize {
        8 * self.events.len()
    }
    pub fn events(&self) -> Vec<Event> {
        let unpack = |&v: &u64| Event { t: self.t0 + (v >> 33) as i64, x: (v >> 17) as u16, y: (v >> 1) as u16, p: v & 1 == 1 };
        self.events.iter().map(unpack).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        for (x, bytes) in [
            (vec![0.0, 255.0], 2),
            (vec![0.0, 256.0], 4),
            (vec![0.5, 1.0], 8),
            (vec![-1.0], 4),
            (vec![f32::INFINITY], 4),
            (vec![65536.0], 4),
        ] {
            let c = Compact::of(x.clone());
            let mut back = vec![9.0; x.len()];
            c.read(0, &mut back);
            assert_eq!((back, c.bytes()), (x, bytes));
        }
        let e = |t, x, y, p| Event { t, x, y, p };
        let events = vec![e(-5, 65535, 0, true), e(7, 1, 65535, false), e((1 << 31) - 6, 3, 4, true)];
        assert_eq!(Packed::of(&events).unwrap().events(), events);
        assert!(Packed::of(&[e(0, 0, 0, true), e(1 << 31, 0, 0, true)]).is_none());
        assert!(Packed::of(&[e(1, 0, 0, true), e(0, 0, 0, true)]).is_none());
    }
}
