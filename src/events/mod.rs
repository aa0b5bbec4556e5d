//! Events, and the files they come in.
//!
//! An event is a pixel that changed: time in microseconds, column, row, brighter or darker. [`open`] reads any file whose
//! format is in [`FORMATS`], told by its content, and [`save`] writes one. The decoders themselves do no I/O: bytes are
//! pushed in pieces of any size, events come out ([`Decoder`]), so a socket or an archive serves as well as a file.
//!
//! # A damaged file
//! By default the events before the damage are kept and [`EventStream::warnings`] says what is missing, with the byte
//! offset; `strict` makes it an error. A file of which nothing can be read is always an error.
//!
//! That a file is cut off shows wherever its format allows it. ATIS, DAT, EVT2, EVT3, Event Stream and AEDAT 2 neither say how many
//! events there are nor end with a mark, nor do AEDAT 3.1 behind a packet and text behind a row: cut between two events such a file is
//! like one that was recorded for less long.
//!
//! # How to add a format
//! Write `src/events/<name>.rs` with a [`Decoder`], an encoder if there is to be a writer, and a `pub static FORMAT:
//! Format`; name it in [`FORMATS`]. What walks over [`FORMATS`] (sniffing, the fuzzing and round-trip tests, `spikemix
//! inspect`) then covers it. [`Carry`] keeps records that straddle two pushes.

pub mod aedat2;
pub mod aedat3;
pub mod aedat4;
pub mod atis;
mod bench;
pub mod columns;
mod convert;
pub mod dat;
pub mod es;
mod evt;
pub mod evt2;
pub mod evt3;
mod file;
mod filter;
pub mod hdf5;
mod lines;
mod lz4;
pub mod mat;
pub mod npy;
pub mod npz;
mod numbers;
mod parts;
mod reader;
pub mod rosbag;
mod stats;
pub mod text;
pub mod transform;

pub use bench::{DecodeSpeed, bench_decode};
pub use convert::{ConvertReport, convert, written_as};
pub use file::{ReadOptions, is_one, open, open_with, save, sniff};
pub use filter::{Filter, Filtering};
pub use numbers::Numbers;
pub use parts::Parts;
pub use reader::Reader;
pub use stats::EventStats;

use std::fmt;

/// The formats known, in the order in which they are tried; those without a magic number come last.
pub static FORMATS: &[&Format] = &[
    &aedat2::FORMAT,
    &aedat3::FORMAT,
    &aedat4::FORMAT,
    &es::FORMAT,
    &evt3::FORMAT,
    &evt3::EXPELLIARMUS,
    &evt2::FORMAT_21,
    &evt2::FORMAT,
    &dat::FORMAT,
    &rosbag::FORMAT,
    &npz::FORMAT,
    &npy::FORMAT,
    &mat::FORMAT,
    &hdf5::FORMAT,
    &text::FORMAT,
    &atis::FORMAT,
];

/// A pixel that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Event {
    /// Time in microseconds.
    pub t: i64,
    /// Column, from the left.
    pub x: u16,
    /// Row, from the top; in AEDAT 2 files from below ([`aedat2`]).
    pub y: u16,
    /// True where it became brighter (on), false where darker (off).
    pub p: bool,
}

/// The size of a pixel array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Sensor {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Sensor {
    /// A sensor of `width` columns and `height` rows.
    pub const fn new(width: u32, height: u32) -> Self {
        Sensor { width, height }
    }
    /// The smallest sensor that holds all `events`; 0 by 0 without any.
    pub fn around(events: &[Event]) -> Self {
        let (x, y) = events.iter().fold((0, 0), |(x, y), e| (e.x.max(x), e.y.max(y)));
        match events.is_empty() {
            true => Sensor::default(),
            false => Sensor::new(u32::from(x) + 1, u32::from(y) + 1),
        }
    }
    /// Whether the event lies on the array.
    pub fn holds(&self, e: &Event) -> bool {
        u32::from(e.x) < self.width && u32::from(e.y) < self.height
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventStream {
    /// The events, in the order of the file.
    pub events: Vec<Event>,
    /// The pixel array: as the file declares it, else the smallest that holds the events.
    pub sensor: Sensor,
    /// Whether the file (or the maker of this stream) declared the sensor.
    pub sensor_declared: bool,
    /// The name of the format it was read from; empty for one that was made.
    pub format: &'static str,
    /// How the columns of a table and the unit of its times were told; none where the format says it.
    pub read_as: Option<String>,
    /// What else is in the file that is no event and was not read: frames, IMU samples.
    pub besides: Vec<String>,
    /// What was wrong with the file, one sentence each, with byte offsets.
    pub warnings: Vec<String>,
    /// Where the file is cut off or so damaged that what follows was lost; it is among the warnings too.
    pub damage: Option<DecodeError>,
}

impl EventStream {
    /// A recording made by a program.
    pub fn new(events: Vec<Event>, sensor: Sensor) -> Self {
        EventStream { events, sensor, sensor_declared: true, ..EventStream::default() }
    }
    /// Counts the times from the earliest event on, which becomes 0; how many microseconds were taken off. None, and nothing changed,
    /// where the times then would not fit into 64 bits.
    pub fn rebase(&mut self) -> Option<i64> {
        let first = self.events.iter().map(|e| e.t).min().unwrap_or(0);
        let last = self.events.iter().map(|e| e.t).max().unwrap_or(0);
        last.checked_sub(first)?;
        self.events.iter_mut().for_each(|e| e.t -= first);
        Some(first)
    }
    /// Puts the events in order of time, keeping the order of those of one microsecond; true if it changed anything.
    pub fn sort(&mut self) -> bool {
        let sorted = self.events.is_sorted_by_key(|e| e.t);
        if !sorted {
            self.events.sort_by_key(|e| e.t);
        }
        !sorted
    }
    /// Whether row 0 is the lowest and not the topmost, as in [`aedat2`].
    pub fn rows_from_below(&self) -> bool {
        self.format == aedat2::FORMAT.name
    }
    /// Counts and sums of the recording.
    pub fn stats(&self) -> EventStats {
        EventStats::of(self)
    }
}

/// A format of event files.
pub struct Format {
    /// A short name: `aedat3`, `atis`, `npz`.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Usual file name extensions, in lower case and without the dot; the first is the one to write.
    pub extensions: &'static [&'static str],
    /// Whether a file that begins with these bytes (the first 64 KiB, or all of it) is of this format. The flag says
    /// whether the file's name has one of the extensions.
    pub sniff: fn(&[u8], bool) -> bool,
    /// A fresh decoder.
    pub decoder: fn() -> Box<dyn Decoder>,
    /// The whole file for a recording, if this crate writes the format; the error says what the format cannot hold.
    pub encode: Option<Encode>,
    /// Whether the writer's files declare the sensor's size.
    pub keeps_sensor: bool,
    /// Whether files begin with bytes that mark this format alone, so that nothing behind them matters to `sniff`.
    pub marked: bool,
}

/// Makes a file of a recording, or says what the format cannot hold.
pub type Encode = fn(&EventStream) -> Result<Vec<u8>, String>;

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name)
    }
}

/// The format of that name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name == name)
}

/// Bytes in, events out; no I/O.
pub trait Decoder: Send {
    /// Takes the next bytes of the file, in pieces of any size, and appends the events they complete to `out`.
    ///
    /// # Errors
    /// Bytes the format does not allow. What was appended before stays valid; the decoder is spent.
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError>;
    /// Takes the end of the file.
    ///
    /// # Errors
    /// The file ends within something.
    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError>;
    /// The pixel array, where the bytes so far declare it.
    fn sensor(&self) -> Option<Sensor> {
        None
    }
    /// The first damage that was passed over, with how much more there was: rows of a text that are no events.
    fn skipped(&self) -> Option<DecodeError> {
        None
    }
    /// Tells the order of the columns of a table without names, before anything is pushed; false where the format has none.
    fn columns(&mut self, _order: columns::Order) -> bool {
        false
    }
    /// Chooses one of several event streams by its name or its camera's, before anything is pushed; false where the format
    /// has none.
    fn stream(&mut self, _name: &str) -> bool {
        false
    }
    /// How a table was read whose columns and unit of time had to be told.
    fn read_as(&self) -> Option<String> {
        None
    }
    /// What else the bytes so far held that is no event and was not read, such as `12 frame packets`.
    fn besides(&self) -> Vec<String> {
        Vec::new()
    }
    /// What a reader of the bytes so far should know although nothing is damaged: what was left out or rounded.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What is wrong with a file, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {message}")]
pub struct DecodeError {
    /// Counted from the first byte of the file.
    pub offset: u64,
    /// What was found there.
    pub message: String,
}

impl DecodeError {
    /// An error at byte `offset`.
    pub fn new(offset: u64, message: impl Into<String>) -> Self {
        DecodeError { offset, message: message.into() }
    }
}

/// Keeps what of a push was not yet consumed, for decoders whose records straddle pushes.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    rest: Vec<u8>,
    offset: u64,
}

impl Carry {
    /// Shows `bytes`, behind what was left over, to `consume`, which gets their offset in the file and returns how many
    /// it is done with.
    ///
    /// # Errors
    /// Those of `consume`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        consume: impl FnOnce(&[u8], u64) -> Result<usize, DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            let done = consume(bytes, self.offset)?.min(bytes.len());
            self.offset += done as u64;
            self.rest.extend_from_slice(&bytes[done..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let done = consume(&self.rest, self.offset)?.min(self.rest.len());
            self.offset += done as u64;
            self.rest.drain(..done);
        }
        Ok(())
    }
    /// Where in the file the unconsumed bytes begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }
    /// The unconsumed bytes.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }
}

/// Decodes a whole file in memory with `format`.
///
/// # Errors
/// As [`Decoder`]; the events before the damage are lost, [`open`] keeps them.
pub fn decode(format: &Format, bytes: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let (mut decoder, mut out) = ((format.decoder)(), Vec::new());
    decoder.push(bytes, &mut out)?;
    decoder.finish(&mut out)?;
    decoder.skipped().map_or(Ok(out), Err)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `bytes` in pieces of `piece` bytes; events and how it ended.
    pub fn in_pieces(format: &Format, bytes: &[u8], piece: usize) -> (Vec<Event>, Result<(), DecodeError>) {
        let (mut decoder, mut out) = ((format.decoder)(), Vec::new());
        for chunk in bytes.chunks(piece.max(1)) {
            if let Err(e) = decoder.push(chunk, &mut out) {
                return (out, Err(e));
            }
        }
        let end = decoder.finish(&mut out);
        (out, end)
    }

    /// Recordings whose coordinates and times are below the limits.
    pub fn streams(x: u16, y: u16, t: i64) -> impl Strategy<Value = EventStream> {
        let event = (0..t, 0..x, 0..y, any::<bool>()).prop_map(|(t, x, y, p)| Event { t, x, y, p });
        prop::collection::vec(event, 0..200).prop_map(move |events| EventStream::new(events, Sensor::new(x.into(), y.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    /// Sorted, so that every format can hold it.
    fn sorted(mut stream: EventStream) -> EventStream {
        stream.sort();
        stream
    }

    fn encoded(format: &Format, stream: &EventStream) -> Vec<u8> {
        format.encode.unwrap()(stream).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// No decoder panics, hangs or makes events from nothing.
        #[test]
        fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4000), piece in 1usize..5000) {
            for f in FORMATS {
                let (events, _) = in_pieces(f, &bytes, piece);
                prop_assert!(events.len() <= bytes.len() * 1100, "{}", f.name);
                (f.sniff)(&bytes, true);
            }
        }

        /// Nor with a real file some of whose bytes were changed, or its end cut off.
        #[test]
        fn mutated_files_are_survived(
            stream in streams(34, 34, 400_000),
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            cut in any::<prop::sample::Index>(),
            piece in 1usize..5000,
        ) {
            for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
                let mut bytes = encoded(f, &stream);
                if bytes.is_empty() { continue }
                for (at, v) in &hits {
                    let i = at.index(bytes.len());
                    bytes[i] = *v;
                }
                let _ = in_pieces(f, &bytes, piece);
                bytes.truncate(cut.index(bytes.len()));
                let _ = in_pieces(f, &bytes, piece);
                (f.sniff)(&bytes, true);
            }
        }

        /// What is written is read, in pieces of any size.
        #[test]
        fn round_trip(stream in streams(128, 128, 5_000_000_000), piece in 1usize..3000) {
            for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
                // Some formats cannot hold large steps back in time, or times beyond 32 bits.
                let Ok(bytes) = f.encode.unwrap()(&stream) else {
                    prop_assert!(["atis", "dat", "evt3"].contains(&f.name), "{}", f.name);
                    continue;
                };
                let (events, end) = in_pieces(f, &bytes, piece);
                prop_assert_eq!(end, Ok(()), "{}", f.name);
                prop_assert_eq!(&events, &stream.events, "{}", f.name);
            }
        }

        /// As above, with times in order, for every format that is written.
        #[test]
        fn sorted_round_trip(stream in streams(255, 239, 20_000_000).prop_map(sorted), piece in 1usize..3000) {
            for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
                let (events, end) = in_pieces(f, &encoded(f, &stream), piece);
                prop_assert_eq!(end, Ok(()), "{}", f.name);
                prop_assert_eq!(&events, &stream.events, "{}", f.name);
            }
        }

        /// The events before a cut are those of the whole file.
        #[test]
        fn a_cut_file_yields_its_beginning(stream in streams(34, 34, 400_000), cut in any::<prop::sample::Index>()) {
            for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
                let bytes = encoded(f, &stream);
                if bytes.is_empty() { continue }
                let (events, _) = in_pieces(f, &bytes[..cut.index(bytes.len())], 1000);
                prop_assert!(stream.events.starts_with(&events), "{}", f.name);
            }
        }
    }

    /// A recording as a camera makes them: both polarities, many pixels, times in order.
    fn plain(n: u32) -> EventStream {
        let event =
            |i: u32| Event { t: i64::from(i) * 37, x: (i * 7 % 120) as u16, y: (i * 13 % 90) as u16, p: i.is_multiple_of(3) };
        EventStream::new((0..n).map(event).collect(), Sensor::new(120, 90))
    }

    /// As [`evt2`] without the header that its writer makes.
    fn headless(stream: &EventStream) -> Vec<u8> {
        let bytes = encoded(&evt2::FORMAT, stream);
        let end = b"% end\n";
        let at = bytes.windows(end.len()).position(|w| w == end).unwrap();
        bytes[at + end.len()..].to_vec()
    }

    #[test]
    fn files_are_told_without_their_names() {
        let told = |bytes: &[u8], name: Option<&str>| sniff(bytes, name.map(std::path::Path::new)).map(|f| f.name);
        for n in [500, 30_000] {
            for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
                assert_eq!(told(&encoded(f, &plain(n)), None), Some(f.name));
            }
            assert_eq!(told(&headless(&plain(n)), None), Some("evt2"));
        }
        // Of so few records the name must say what they are, and of those that are not quite in order.
        for (few, name, format) in [(encoded(&atis::FORMAT, &plain(9)), "a.bs2", "atis"), (headless(&plain(9)), "a.raw", "evt2")]
        {
            assert_eq!((told(&few, None), told(&few, Some(name))), (None, Some(format)));
        }
        let mut stream = plain(500);
        stream.events[100].t -= 50;
        let back = encoded(&atis::FORMAT, &stream);
        assert_eq!((told(&back, None), told(&back, Some("a.bin"))), (None, Some("atis")));
        // A cut end says nothing against what comes before it: who pipes the file in is told where it is damaged.
        let cut = &encoded(&atis::FORMAT, &plain(500))[..2498];
        assert_eq!((told(cut, None), told(cut, Some("a.bin"))), (Some("atis"), Some("atis")));
    }

    /// Nor does anything look like an event file by chance: noise of any length, and what counts up or stays alike.
    #[test]
    fn nothing_else_is_told_for_events() {
        let mut rng = crate::rng::Rng::new(5).stream("sniff");
        for i in 0..4000 {
            let n = [320, 340, 1000, 65_536][i % 4];
            let words = (0..n / 8 + 1).flat_map(|_| rng.u64().to_le_bytes());
            let bytes: Vec<u8> = words.take(n).collect();
            assert_eq!(sniff(&bytes, None).map(|f| f.name), None, "noise {i}");
        }
        let n = 20_000u32;
        let plain: [(&str, Vec<u8>); 9] = [
            ("zeros", vec![0; 5000]),
            ("ones", vec![0xff; 5000]),
            ("0x80", vec![0x80; 5000]),
            ("a ramp", (0..n).map(|i| (i / 100) as u8).collect()),
            ("a fast ramp", (0..n).map(|i| i as u8).collect()),
            ("counted, little end first", (0..n).flat_map(|i| i.to_le_bytes()).collect()),
            ("counted, big end first", (0..n).flat_map(|i| i.to_be_bytes()).collect()),
            ("counted in five bytes", (0..n).flat_map(|i| u64::from(i).to_be_bytes()[3..].to_vec()).collect()),
            ("small floats", (0..n).flat_map(|i| (i as f32).sin().to_le_bytes()).collect()),
        ];
        for (what, bytes) in plain {
            assert_eq!(sniff(&bytes, None).map(|f| f.name), None, "{what}");
        }
    }

    #[test]
    fn names_and_extensions_are_sound() {
        for f in FORMATS {
            assert_eq!(format(f.name).unwrap().name, f.name);
            assert!(!f.extensions.is_empty() && !f.about.is_empty());
        }
    }
}
