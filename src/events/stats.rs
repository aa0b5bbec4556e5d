//! Counts and sums of a recording, for people and for comparison with other readers.

use super::{EventStream, Sensor};

/// What `spikemix inspect` says of an event file; sums are saturated at the limits of their types.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct EventStats {
    /// Name of the format.
    pub format: &'static str,
    /// How the columns of a table and the unit of its times were told; left out where the format says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_as: Option<String>,
    /// How many events.
    pub events: u64,
    /// Columns of the sensor.
    pub width: u32,
    /// Rows of the sensor.
    pub height: u32,
    /// Time of the first event in the file, microseconds; none without events, as the next.
    pub t_first: Option<i64>,
    /// Time of the last event in the file, microseconds.
    pub t_last: Option<i64>,
    /// Sum of the times since the first event, microseconds.
    pub sum_t_minus_t0: i64,
    /// Sum of the columns.
    pub sum_x: u64,
    /// Sum of the rows.
    pub sum_y: u64,
    /// On events.
    pub n_on: u64,
    /// Largest column.
    pub x_max: Option<u16>,
    /// Largest row.
    pub y_max: Option<u16>,
    /// Events earlier than the one before them.
    pub backsteps: u64,
    /// From the earliest to the latest event, seconds.
    pub duration: f64,
    /// Events per second over that time; 0 where it is none.
    pub mean_rate: f64,
    /// What else is in the file that is no event; left out where there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub besides: Vec<String>,
    /// What was wrong with the file.
    pub warnings: Vec<String>,
}

impl EventStats {
    pub(super) fn of(stream: &EventStream) -> Self {
        let events = &stream.events;
        let Sensor { width, height } = stream.sensor;
        let t0 = events.first().map(|e| e.t);
        let sum: i128 = events.iter().map(|e| i128::from(e.t) - i128::from(t0.unwrap_or(0))).sum();
        let earliest = events.iter().map(|e| e.t).min();
        let latest = events.iter().map(|e| e.t).max();
        let duration = earliest.zip(latest).map_or(0.0, |(a, b)| (i128::from(b) - i128::from(a)) as f64 * 1e-6);
        EventStats {
            format: stream.format,
            read_as: stream.read_as.clone(),
            events: events.len() as u64,
            width,
            height,
            t_first: t0,
            t_last: events.last().map(|e| e.t),
            sum_t_minus_t0: sum.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            sum_x: events.iter().map(|e| u64::from(e.x)).sum(),
            sum_y: events.iter().map(|e| u64::from(e.y)).sum(),
            n_on: events.iter().filter(|e| e.p).count() as u64,
            x_max: events.iter().map(|e| e.x).max(),
            y_max: events.iter().map(|e| e.y).max(),
            backsteps: events.windows(2).filter(|w| w[1].t < w[0].t).count() as u64,
            duration,
            mean_rate: if duration > 0.0 { events.len() as f64 / duration } else { 0.0 },
            besides: stream.besides.clone(),
            warnings: stream.warnings.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Event, EventStream, Sensor};

    #[test]
    fn counts() {
        let e = |t, x, y, p| Event { t, x, y, p };
        let s = EventStream::new(vec![e(10, 1, 2, true), e(5, 3, 4, false), e(30, 0, 1, true)], Sensor::new(8, 9));
        let s = s.stats();
        assert_eq!((s.t_first, s.t_last, s.sum_t_minus_t0, s.backsteps), (Some(10), Some(30), 15, 1));
        assert_eq!((s.sum_x, s.sum_y, s.n_on, s.x_max, s.y_max), (4, 7, 2, Some(3), Some(4)));
        assert!((s.duration - 25e-6).abs() < 1e-12);
        assert_eq!(EventStream::default().stats().t_first, None);
    }
}
