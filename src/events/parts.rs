//! Parts of a long recording, read without the rest.

use super::{DecodeError, Decoder, Event};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes between two marks.
const PIECE: u64 = 1 << 18;

/// A file of which parts in time are read. It is decoded once, to mark where the decoder stood every 256 KiB; a part then
/// costs what the marks around it enclose.
pub struct Parts<D> {
    path: PathBuf,
    marks: Vec<Mark<D>>,
    /// What was wrong with the file.
    pub warnings: Vec<String>,
    /// Where it is cut off or so damaged that what follows was lost; it is among the warnings too.
    pub damage: Option<DecodeError>,
}

struct Mark<D> {
    offset: u64,
    decoder: D,
    /// The latest of the events before it.
    latest: i64,
    /// The earliest of those behind it.
    earliest: i64,
}

impl<D: Decoder + Clone + Default> Parts<D> {
    /// Marks a file.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged before its first event; with `strict`, also one with any damage.
    pub fn open(path: &Path, strict: bool) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut file = File::open(path).map_err(io)?;
        let (mut decoder, mut marks, mut warnings, mut damage) = (D::default(), Vec::<Mark<D>>::new(), Vec::new(), None);
        let (mut piece, mut events, mut n, mut offset, mut latest) = (Vec::new(), Vec::new(), 0, 0, i64::MIN);
        loop {
            piece.clear();
            (&mut file).take(PIECE).read_to_end(&mut piece).map_err(io)?;
            marks.push(Mark { offset, decoder: decoder.clone(), latest, earliest: i64::MAX });
            let end = match piece.is_empty() {
                true => decoder.finish(&mut events),
                false => decoder.push(&piece, &mut events),
            };
            if let Some(mark) = marks.last_mut() {
                mark.earliest = events.iter().map(|e: &Event| e.t).min().unwrap_or(i64::MAX);
            }
            latest = events.iter().map(|e| e.t).fold(latest, i64::max);
            n += events.len();
            offset += piece.len() as u64;
            events.clear();
            if let Err(e) = end {
                if strict || n == 0 {
                    return Err(Error::format(path, e.offset, e.message));
                }
                warnings.push(format!("{e}; the {n} events before it are used"));
                damage = Some(e);
                break;
            }
            if piece.is_empty() {
                break;
            }
        }
        if let Some(e) = decoder.skipped() {
            if strict {
                return Err(Error::format(path, e.offset, e.message));
            }
            warnings.push(e.to_string());
        }
        warnings.extend(decoder.warnings());
        let mut earliest = i64::MAX;
        for mark in marks.iter_mut().rev() {
            earliest = earliest.min(mark.earliest);
            mark.earliest = earliest;
        }
        Ok(Parts { path: path.to_path_buf(), marks, warnings, damage })
    }

    /// The events from `begin` on and before `end`, microseconds, in the order of the file.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub fn read(&self, begin: i64, end: i64) -> Result<Vec<Event>> {
        let io = |e| Error::io(&self.path, e);
        let from = self.marks.partition_point(|m| m.latest < begin).saturating_sub(1);
        let to = self.marks.partition_point(|m| m.earliest < end);
        let (Some(first), Some(last)) = (self.marks.get(from), self.marks.get(to).or(self.marks.last())) else {
            return Ok(Vec::new());
        };
        let mut decoder = first.decoder.clone();
        let mut file = File::open(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(first.offset)).map_err(io)?;
        let mut bytes = Vec::new();
        // Behind the last mark there is at most one more piece.
        let n = last.offset.saturating_sub(first.offset) + if to < self.marks.len() { 0 } else { PIECE };
        file.take(n).read_to_end(&mut bytes).map_err(io)?;
        let mut events = Vec::new();
        // Damage is in the warnings already; the events before it are good.
        let _ = decoder.push(&bytes, &mut events);
        events.retain(|e| (begin..end).contains(&e.t));
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::super::aedat3::{self, Aedat3Decoder};
    use super::super::{EventStream, Sensor};
    use super::*;

    #[test]
    fn parts_are_those_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.aedat");
        // Times that step back by up to 900 us.
        let events: Vec<Event> = (0..120_000i64).map(|i| Event { t: i * 10 - i % 7 * 150 + 1000, x: 1, y: 2, p: true }).collect();
        let bytes = aedat3::FORMAT.encode.unwrap()(&EventStream::new(events.clone(), Sensor::new(9, 9))).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let parts = Parts::<Aedat3Decoder>::open(&path, true).unwrap();
        assert!(parts.marks.len() > 3);
        for (begin, end) in
            [(0, 5), (0, 4000), (333_333, 444_444), (1_190_000, 9_999_999), (700_000, 700_000), (i64::MIN, i64::MAX)]
        {
            let want: Vec<Event> = events.iter().filter(|e| (begin..end).contains(&e.t)).copied().collect();
            assert_eq!(parts.read(begin, end).unwrap(), want, "{begin}..{end}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(Parts::<Aedat3Decoder>::open(&path, true).is_err());
        let parts = Parts::<Aedat3Decoder>::open(&path, false).unwrap();
        assert_eq!((parts.warnings.len(), parts.read(0, i64::MAX).unwrap().len()), (1, 119_999));
    }
}
