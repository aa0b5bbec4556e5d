//! Frames of a fixed duration from events that arrive in pieces of any size.

use super::{Encoding, Kind, Window, frame};
use crate::events::{Event, Filtering, Sensor};
use crate::{Error, Result};

/// The most empty steps in a row. Where a clock jumps further, frames would be made for hours that nobody recorded.
pub const MOST_EMPTY: i64 = 100_000;

/// Cuts a stream of events into steps of equal duration and encodes each as `[H, W, C]`.
///
/// Step i holds the events that pass the encoding's filter from `t0 + i step_us` until before `t0 + (i + 1) step_us`, t0 the time of the first; steps without
/// events are frames of zeros. The frames do not depend on the pieces the events come in, and are those of [`slices`](super::slices) by
/// time where the recording is a whole number of steps long. An event that is older than the step at hand is counted in that step, and
/// counted as [`late`](StepEncoder::late).
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
    channels: usize,
    step_us: i64,
    /// When the step at hand ends; none before the first event. Wide, so that no time overflows.
    end: Option<i128>,
    frame: Vec<f32>,
    late: u64,
    outside: u64,
    steps: u64,
}

impl StepEncoder {
    /// For events of `sensor`; the encoding's `frames` and `split_by` play no part.
    ///
    /// # Errors
    /// A step of no duration, or frames that are empty or too large.
    pub fn new(encoding: &Encoding, sensor: Sensor, step_us: i64) -> Result<Self> {
        if step_us < 1 {
            return Err(Error::config("step-us", format!("{step_us} is not a duration in microseconds: at least 1")));
        }
        let one = Encoding { frames: 1, ..encoding.clone() };
        one.check(sensor)?;
        // What an array holds of a step's events alone; anything that looks further back needs its own encoder.
        match encoding.kind {
            Kind::Frame => {}
        }
        Ok(StepEncoder {
            filter: one.filter.begin(sensor),
            window: one.window(sensor),
            channels: one.channels(),
            step_us,
            end: None,
            frame: vec![0.0; one.shape(sensor).iter().product()],
            late: 0,
            outside: 0,
            steps: 0,
        })
    }
    /// `[H, W, C]` of the frames.
    pub fn shape(&self) -> [usize; 3] {
        let [h, w] = self.window.size();
        [h, w, self.channels]
    }
    /// Steps that are complete.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// Events that came after their step was complete.
    pub fn late(&self) -> u64 {
        self.late
    }
    /// Events outside the sensor or the crop, which no frame counts.
    pub fn outside(&self) -> u64 {
        self.outside
    }
    /// Takes the next events and hands every frame they complete to `sink`, in order.
    ///
    /// # Errors
    /// A jump of more than [`MOST_EMPTY`] steps ahead, or that of `sink`; the events from there on are then not taken.
    pub fn push(&mut self, events: &[Event], sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        for e in events {
            if !self.filter.keep(e) {
                continue;
            }
            let (t, step) = (i128::from(e.t), i128::from(self.step_us));
            let mut end = *self.end.get_or_insert(t + step);
            if t - end > step * i128::from(MOST_EMPTY) {
                let jump = t - end;
                return Err(Error::shape(
                    "encode",
                    format!("time jumps by {jump} us to {} us, {} steps without events", e.t, jump / step),
                ));
            }
            while t >= end {
                self.complete(sink)?;
                end += step;
                self.end = Some(end);
            }
            self.late += u64::from(t < end - step);
            match self.window.place(e) {
                Some(place) => self.frame[place * frame::CHANNELS + usize::from(e.p)] += 1.0,
                None => self.outside += 1,
            }
        }
        Ok(())
    }
    /// Takes the end of the stream: the step at hand, however short, is handed to `sink`, unless no event ever came. The encoder is
    /// then as new, but for its counts.
    ///
    /// # Errors
    /// That of `sink`.
    pub fn finish(&mut self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        match self.end.take() {
            Some(_) => self.complete(sink),
            None => Ok(()),
        }
    }
    fn complete(&mut self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.steps += 1;
        let result = sink(&self.frame);
        self.frame.fill(0.0);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::SplitBy;
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
        assert_eq!(encoder.steps() as usize * encoder.shape().iter().product::<usize>(), out.len());
        out
    }

    proptest! {
        /// Frames are those of the whole recording cut by time, whatever the pieces.
        #[test]
        fn pieces_do_not_matter(
            mut events in prop::collection::vec((0i64..5000, 0u16..7, 0u16..5, any::<bool>()), 0..300),
            piece in 1usize..310,
            n in 1usize..12,
            step in 1i64..900,
            start in -3_000_000_000i64..3_000_000_000,
            small in any::<bool>(),
        ) {
            // Exactly n steps: the first event at the start, the last just before the end.
            events.extend([(0, 0, 0, true), (n as i64 * step - 1, 1, 1, false)]);
            events.retain(|e| e.0 < n as i64 * step);
            events.sort();
            let events: Vec<_> = events.into_iter().map(|(t, x, y, p)| Event { t: start + t, x, y, p }).collect();
            let encoding = Encoding { frames: n, split_by: SplitBy::Time, size: small.then_some([2, 3]), ..Encoding::default() };
            let got = run(&mut StepEncoder::new(&encoding, SENSOR, step).unwrap(), &events, piece);
            // A last event at the end of the last step would make the duration a multiple of n.
            let mut whole = events.clone();
            whole.push(Event { t: start + n as i64 * step, x: 100, y: 100, p: false });
            prop_assert_eq!(got, encoding.encode(&whole, SENSOR));
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
