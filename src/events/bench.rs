//! How fast the decoders are.

use super::Format;
use std::time::{Duration, Instant};

/// The speed of a decoder, on one thread and from memory.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DecodeSpeed {
    /// The format's name.
    pub format: &'static str,
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Events decoded in a second, by the fastest of all passes.
    pub events_per_second: f64,
    /// Millions of bytes decoded in a second, by the same pass.
    pub megabytes_per_second: f64,
}

/// Decodes a file in memory again and again for about `time`; none where it cannot be decoded.
pub fn bench_decode(format: &'static Format, bytes: &[u8], time: Duration) -> Option<DecodeSpeed> {
    let mut events = Vec::new();
    let mut best = Duration::MAX;
    let begin = Instant::now();
    loop {
        events.clear();
        let pass = Instant::now();
        let mut decoder = (format.decoder)();
        for piece in bytes.chunks(1 << 20) {
            decoder.push(piece, &mut events).ok()?;
        }
        decoder.finish(&mut events).ok()?;
        best = best.min(pass.elapsed());
        if begin.elapsed() >= time {
            break;
        }
    }
    let seconds = best.as_secs_f64().max(1e-9);
    Some(DecodeSpeed {
        format: format.name,
        events: events.len() as u64,
        bytes: bytes.len() as u64,
        events_per_second: events.len() as f64 / seconds,
        megabytes_per_second: bytes.len() as f64 / seconds / 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, EventStream, FORMATS, Sensor};

    #[test]
    fn every_written_format_is_timed() {
        let events = (0..1000).map(|i| Event { t: i, x: (i % 30) as u16, y: (i / 40) as u16, p: true });
        let stream = EventStream::new(events.collect(), Sensor::new(34, 34));
        for f in FORMATS {
            let Some(encode) = f.encode else { continue };
            let speed = bench_decode(f, &encode(&stream).unwrap(), Duration::ZERO).unwrap();
            assert!(speed.events == 1000 && speed.events_per_second > 0.0, "{speed:?}");
        }
        assert!(bench_decode(&crate::events::dat::FORMAT, b"no recording", Duration::ZERO).is_none());
    }
}
