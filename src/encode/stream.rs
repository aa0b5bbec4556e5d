//! Steps of a fixed duration from events that arrive in pieces of any size.

use super::surface::Surface;
use super::voxel::Bins;
use super::{CHANNELS, Compress, Encoding, Kind, Window};
use crate::events::{Event, Filtering, Sensor};
use crate::{Error, Result};

/// The most empty steps in a row. Where a clock jumps further, arrays would be made for hours that nobody recorded.
pub const MOST_EMPTY: i64 = 100_000;

/// Cuts a stream of events into steps of equal duration and encodes each as `[H, W, C]`.
///
/// Step i holds the events from `t0 + i step_us` until before `t0 + (i + 1) step_us`, t0 the time of the first event, of those that pass
/// the encoding's filter. The arrays do not depend on the pieces the events come in, and are to the bit those of [`Encoding::encode`]
/// with `duration_us = step_us`, without a limit to the number of steps. An event that is older than the step at hand counts in that step
/// (in a voxel grid as if it came at its beginning), and is counted as [`late`](StepEncoder::late).
///
/// Recordings whose steps are defined by the number of events, or by a share of the recording's duration, must be known as a whole:
/// use [`Encoding::encode`].
///
/// ```
/// use spikemix::{encode::{Encoding, StepEncoder}, events::{Event, Sensor}};
/// let mut encoder = StepEncoder::new(&Encoding::default(), Sensor::new(2, 1), 1000)?;
/// let mut counts = Vec::new();
/// let mut sink = |frame: &[f32]| {
///     counts.push(frame.iter().sum::<f32>());
///     Ok(())
/// };
/// encoder.push(&[0, 10, 999, 2500].map(|t| Event { t, ..Event::default() }), &mut sink)?;
/// encoder.finish(&mut sink)?;
/// assert_eq!(counts, [3.0, 0.0, 1.0]);
/// # Ok::<(), spikemix::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StepEncoder {
    filter: Filtering,
    window: Window,
    compress: Compress,
    step_us: i64,
    /// When the step at hand ends; none before the first event. Wide, so that no time overflows.
    end: Option<i128>,
    frame: Vec<f32>,
    memory: Memory,
    late: u64,
    outside: u64,
    steps: u64,
    jumped: bool,
}

/// What an encoding knows besides the step at hand.
#[derive(Clone, Debug)]
enum Memory {
    Frames,
    Raster,
    Surface(Surface),
    /// Shares of the bin behind the one at hand, and whether any event has one.
    Voxel {
        next: Vec<f32>,
        begun: bool,
    },
}

impl StepEncoder {
    /// For events of `sensor`; how the encoding cuts recordings plays no part.
    ///
    /// # Errors
    /// A step of no duration, or arrays that are empty or too large.
    pub fn new(encoding: &Encoding, sensor: Sensor, step_us: i64) -> Result<Self> {
        if step_us < 1 {
            return Err(Error::config("step-us", format!("{step_us} is not a duration in microseconds: at least 1")));
        }
        let one = Encoding { frames: 1, duration_us: None, max_steps: None, ..encoding.clone() };
        one.check(sensor)?;
        let (window, len) = (one.window(sensor), one.shape(sensor).iter().product());
        let memory = match encoding.kind {
            Kind::Frames => Memory::Frames,
            Kind::Raster => Memory::Raster,
            Kind::Surface => Memory::Surface(Surface::new(&window, one.tau_us())),
            Kind::Voxel => Memory::Voxel { next: vec![0.0; len], begun: false },
        };
        let (filter, frame) = (one.filter.begin(sensor), vec![0.0; len]);
        let compress = one.compress;
        let (late, outside, steps, jumped) = (0, 0, 0, false);
        Ok(StepEncoder { filter, window, compress, step_us, end: None, frame, memory, late, outside, steps, jumped })
    }
    /// `[H, W, C]` of the arrays.
    pub fn shape(&self) -> [usize; 3] {
        let [h, w] = self.window.size();
        [h, w, CHANNELS]
    }
    /// Whether arrays hold zeros and ones, which a network takes as spikes; see [`Encoding::is_binary`].
    pub fn is_binary(&self) -> bool {
        matches!(self.memory, Memory::Raster)
    }
    /// Steps that are complete.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// Events that came after their step was complete.
    pub fn late(&self) -> u64 {
        self.late
    }
    /// Whether time jumped further ahead than [`MOST_EMPTY`] steps in what was pushed last, behind which nothing is taken.
    pub fn jumped(&self) -> bool {
        self.jumped
    }
    /// Events outside the sensor or the crop, which no array counts.
    pub fn outside(&self) -> u64 {
        self.outside
    }
    /// Takes the next events and hands every array they complete to `sink`, in order.
    ///
    /// # Errors
    /// A jump of more than [`MOST_EMPTY`] steps ahead, or that of `sink`; the events from there on are then not taken.
    pub fn push(&mut self, events: &[Event], sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.jumped = false;
        for e in events {
            if !self.filter.keep(e) {
                continue;
            }
            let (t, step) = (i128::from(e.t), i128::from(self.step_us));
            let mut end = *self.end.get_or_insert(t + step);
            if t - end > step * i128::from(MOST_EMPTY) {
                let jump = t - end;
                self.jumped = true;
                return Err(Error::shape(
                    "encode",
                    format!("time jumps by {jump} us to {} us, {} steps without events", e.t, jump / step),
                ));
            }
            while t >= end {
                self.complete(end, sink)?;
                end += step;
                self.end = Some(end);
            }
            let begin = end - step;
            self.late += u64::from(t < begin);
            let Some(i) = self.window.element(e) else {
                self.outside += 1;
                if let Memory::Voxel { begun, .. } = &mut self.memory {
                    *begun |= t > begin;
                }
                continue;
            };
            match &mut self.memory {
                Memory::Frames => self.frame[i] += 1.0,
                Memory::Raster => self.frame[i] = 1.0,
                Memory::Surface(s) => s.see(i, e.t),
                Memory::Voxel { next, begun } => {
                    let (_, share) = Bins::every(self.step_us).place(t - begin);
                    self.frame[i] += 1.0 - share;
                    next[i] += share;
                    *begun |= t > begin;
                }
            }
        }
        Ok(())
    }
    /// Takes the end of the stream: the step at hand, however short, is handed to `sink`, unless no event ever came; of a voxel grid
    /// also the bin behind the last events. The encoder is then as new, but for its counts.
    ///
    /// # Errors
    /// That of `sink`.
    pub fn finish(&mut self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.filter.restart();
        let Some(end) = self.end.take() else { return Ok(()) };
        let more = matches!(self.memory, Memory::Voxel { begun: true, .. });
        self.complete(end, sink)?;
        if more {
            self.complete(end + i128::from(self.step_us), sink)?;
        }
        if let Memory::Surface(s) = &mut self.memory {
            s.clear();
        }
        Ok(())
    }
    fn complete(&mut self, end: i128, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.steps += 1;
        if let Memory::Surface(s) = &self.memory {
            s.at(end, &mut self.frame);
        }
        self.compress.apply(&mut self.frame);
        let result = sink(&self.frame);
        self.frame.fill(0.0);
        if let Memory::Voxel { next, begun } = &mut self.memory {
            std::mem::swap(&mut self.frame, next);
            *begun = false;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::SplitBy;
    use crate::encode::tests::{any_encoding, any_events};
    use proptest::prelude::*;

    const SENSOR: Sensor = Sensor::new(6, 4);

    /// All frames, the pieces' and the last.
    fn run(encoder: &mut StepEncoder, events: &[Event], piece: usize) -> Vec<f32> {
        let mut out = Vec::new();
        let mut sink = |f: &[f32]| {
            out.extend_from_slice(f);
            Ok(())
        };
        events.chunks(piece).for_each(|part| encoder.push(part, &mut sink).unwrap());
        encoder.finish(&mut sink).unwrap();

        out
    }

    proptest! {
        /// Arrays are those of the whole recording, to the bit, whatever the pieces.
        #[test]
        fn pieces_do_not_matter(e in any_encoding(), events in any_events(), piece in 1usize..310, step in 1i64..900) {
            let mut encoder = StepEncoder::new(&e, SENSOR, step).unwrap();
            let whole = Encoding { duration_us: Some(step), max_steps: Some(10_000), ..e };
            let mut kept = events.clone();
            whole.filter.begin(SENSOR).retain(&mut kept);
            for _ in 0..2 {
                let before = encoder.steps();
                let got = run(&mut encoder, &events, piece);
                let want = if kept.is_empty() { vec![] } else { whole.encode(&kept, SENSOR) };
                prop_assert_eq!(got, want);
                prop_assert_eq!((encoder.steps() - before) as usize, if kept.is_empty() { 0 } else { whole.length(&kept) });
            }
        }

        /// Where a recording is a whole number of steps long, frames are also those of the recording cut by time.
        #[test]
        fn equal_durations_are_slices_by_time(mut events in any_events(), n in 1usize..12, step in 1i64..900) {
            let t0 = events.first().map_or(0, |e| e.t);
            events.retain(|e| e.t < t0 + n as i64 * step);
            events.insert(0, Event { t: t0, ..Event::default() });
            // A last event at the end of the last step makes the duration a multiple of n.
            events.push(Event { t: t0 + n as i64 * step, x: 100, y: 100, p: false });
            let by_time = Encoding { frames: n, split_by: SplitBy::Time, ..Encoding::default() };
            let by_step = Encoding { duration_us: Some(step), max_steps: Some(n), ..Encoding::default() };
            prop_assert_eq!(by_step.encode(&events, SENSOR), by_time.encode(&events, SENSOR));
        }
    }

    #[test]
    fn late_and_lost_events_are_counted() {
        let e = |t, x| Event { t, x, ..Event::default() };
        let mut encoder = StepEncoder::new(&Encoding::default(), SENSOR, 10).unwrap();
        let frames = run(&mut encoder, &[e(0, 0), e(11, 0), e(9, 0), e(12, 99)], 2);
        let sums: Vec<f32> = frames.chunks(6 * 4 * 2).map(|f| f.iter().sum()).collect();
        assert_eq!((sums, encoder.late(), encoder.outside(), encoder.steps()), (vec![1.0, 2.0], 1, 1, 2));
        encoder.finish(&mut |_| panic!("nothing came since")).unwrap();
    }

    #[test]
    fn jumps_are_refused() {
        let e = |t| Event { t, ..Event::default() };
        let mut encoder = StepEncoder::new(&Encoding::default(), SENSOR, 1).unwrap();
        let said = encoder.push(&[e(i64::MIN), e(i64::MAX)], &mut |_| Ok(())).unwrap_err().to_string();
        assert!(said.contains("time jumps by"), "{said}");
        assert!(StepEncoder::new(&Encoding::default(), SENSOR, 0).is_err());
        assert!(StepEncoder::new(&Encoding::default(), Sensor::default(), 5).is_err());
    }
}
