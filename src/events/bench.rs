//! How fast the decoders are.

use super::{EventStream, FORMATS, Format};
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

/// Decodes `stream`, encoded in each format that has a writer and can hold it, for about `time` each.
pub fn bench_decode(stream: &EventStream, time: Duration) -> Vec<DecodeSpeed> {
    FORMATS
        .iter()
        .filter_map(|f| {
            let bytes = f.encode?(stream).ok()?;
            bench_decode_bytes(f, &bytes, time)
        })
        .collect()
}

/// Decodes a file in memory again and again for about `time`; none where it cannot be decoded.
pub fn bench_decode_bytes(format: &'static Format, bytes: &[u8], time: Duration) -> Option<DecodeSpeed> {
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
    use crate::events::{Event, Sensor};

    #[test]
    fn every_written_format_is_timed() {
        let events = (0..1000).map(|i| Event { t: i, x: (i % 30) as u16, y: (i / 40) as u16, p: true });
        let stream = EventStream::new(events.collect(), Sensor::new(34, 34));
        let speeds = bench_decode(&stream, Duration::ZERO);
        let written = FORMATS.iter().filter(|f| f.encode.is_some()).count();
        assert_eq!(speeds.len(), written);
        assert!(speeds.iter().all(|s| s.events == 1000 && s.events_per_second > 0.0));
    }
}
