//! Opening and saving event files: the only I/O of [`crate::events`].

use super::columns::Order;
use super::{DecodeError, Decoder, Event, EventStream, FORMATS, Format, Sensor, npz, text};
use crate::files::write_unsynced;
use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// As much of a file as [`sniff`] looks at.
pub(super) const HEAD: usize = 1 << 16;
/// What is read at once.
const PIECE: usize = 1 << 20;

/// What a reader is told of a file besides its name; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Its format, where it is not to be told by the content.
    pub format: Option<&'static Format>,
    /// The order of the columns of a table without names.
    pub columns: Option<Order>,
    /// Which of several event streams: its name or its camera's.
    pub stream: Option<String>,
    /// Whether damage is an error.
    pub strict: bool,
}

/// The format of a file, by its first bytes (64 KiB or all of it); its name decides only where the content leaves it open.
pub fn sniff(head: &[u8], path: Option<&Path>) -> Option<&'static Format> {
    let extension = path.and_then(|p| p.extension()).map(|e| e.to_string_lossy().to_lowercase());
    // An archive that is named like a recording is none, but for those of NumPy.
    let may = |f: &Format| packed(head).is_none() || f.name == npz::FORMAT.name;
    let named = |f: &Format| extension.as_deref().is_some_and(|e| f.extensions.contains(&e)) && may(f);
    let head = &head[..head.len().min(HEAD)];
    FORMATS.iter().copied().find(|f| (f.sniff)(head, named(f)))
}

/// Whether a file is a recording by its content, whatever its name.
pub fn is_one(path: impl AsRef<Path>) -> bool {
    let mut head = Vec::new();
    let read = path.as_ref().is_file() && File::open(path).and_then(|f| f.take(HEAD as u64).read_to_end(&mut head)).is_ok();
    read && sniff(&head, None).is_some()
}

/// Reads an event file of any known format.
///
/// # Errors
/// A file that cannot be read, is empty, or is of no known format; one of which no event can be read for damage; with
/// `strict`, also one with any damage. See [`crate::events`] about damaged files.
pub fn open(path: impl AsRef<Path>, strict: bool) -> Result<EventStream> {
    open_with(path, &ReadOptions { strict, ..ReadOptions::default() })
}

/// As [`open`], told what the file does not say.
///
/// # Errors
/// As [`open`], and an option that means nothing to the file's format.
pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<EventStream> {
    let path = path.as_ref();
    let strict = options.strict;
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let mut piece = Vec::new();
    let mut next = |piece: &mut Vec<u8>| {
        piece.clear();
        (&mut file).take(PIECE as u64).read_to_end(piece).map_err(io)
    };
    if next(&mut piece)? == 0 {
        return Err(Error::format(path, 0, "the file is empty"));
    }
    let format = match options.format.or_else(|| sniff(&piece, Some(path))).or_else(|| table(&piece, options)) {
        Some(f) => f,
        None => return Err(Error::format(path, 0, packed(&piece).unwrap_or_else(|| unknown(path)))),
    };
    let mut decoder = (format.decoder)();
    ask(decoder.as_mut(), format, path, options)?;
    let mut events = Vec::new();
    let mut result = Ok(());
    while result.is_ok() && !piece.is_empty() {
        result = decoder.push(&piece, &mut events);
        next(&mut piece)?;
    }
    if result.is_ok() {
        result = decoder.finish(&mut events);
    }
    let mut stream = finish(path, format, events, decoder.as_ref(), result, strict)?;
    stream.warnings.extend(decoder.warnings());
    Ok(stream)
}

/// Text of whose columns the order is said is a table, whatever its values tell.
pub(super) fn table(head: &[u8], options: &ReadOptions) -> Option<&'static Format> {
    options.columns.filter(|_| text::is_text(head)).map(|_| &text::FORMAT)
}

/// Tells a decoder which columns and which stream are wanted.
pub(super) fn ask(decoder: &mut dyn Decoder, format: &Format, path: &Path, options: &ReadOptions) -> Result<()> {
    if options.columns.is_some_and(|order| !decoder.columns(order)) {
        return Err(Error::usage(format!("{}: {} files have no columns to order", path.display(), format.name)));
    }
    if options.stream.as_ref().is_some_and(|name| !decoder.stream(name)) {
        return Err(Error::usage(format!("{}: {} files have no streams to choose from", path.display(), format.name)));
    }
    Ok(())
}

fn finish(
    path: &Path,
    format: &'static Format,
    events: Vec<Event>,
    decoder: &dyn Decoder,
    result: Result<(), DecodeError>,
    strict: bool,
) -> Result<EventStream> {
    let mut warnings = Vec::new();
    if let Some(e) = decoder.skipped() {
        if strict || events.is_empty() {
            return Err(Error::format(path, e.offset, e.message));
        }
        warnings.push(e.to_string());
    }
    let damage = result.err();
    if let Some(e) = &damage {
        if strict || events.is_empty() {
            return Err(Error::format(path, e.offset, &e.message));
        }
        warnings.push(format!("{e}; the {} events before it are used", events.len()));
    }
    let seen = Sensor::around(&events);
    let declared = decoder.sensor();
    let mut sensor = declared.unwrap_or(seen);
    if seen.width > sensor.width || seen.height > sensor.height {
        let outside = events.iter().filter(|e| !sensor.holds(e)).count();
        let what = format!("{outside} events lie outside the sensor of {sensor} that the file declares");
        if strict {
            return Err(Error::format(path, 0, what));
        }
        warnings.push(what);
        sensor = Sensor::new(sensor.width.max(seen.width), sensor.height.max(seen.height));
    }
    let sensor_declared = declared.is_some();
    let (read_as, besides) = (decoder.read_as(), decoder.besides());
    Ok(EventStream { events, sensor, sensor_declared, format: format.name, read_as, besides, warnings, damage })
}

/// What is said of content that must be unpacked first; none of other content.
pub(super) fn packed(head: &[u8]) -> Option<String> {
    // A tar archive has its mark behind the first file's name and times.
    const KINDS: [(&str, usize, &[u8]); 10] = [
        ("zip", 0, b"PK\x03\x04"),
        ("zip", 0, b"PK\x05\x06"),
        ("gzip", 0, b"\x1f\x8b\x08"),
        ("bzip2", 0, b"BZh"),
        ("xz", 0, b"\xfd7zXZ\0"),
        ("zstd", 0, b"\x28\xb5\x2f\xfd"),
        ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
        ("rar", 0, b"Rar!\x1a\x07"),
        ("lz4", 0, b"\x04\x22\x4d\x18"),
        ("tar", 257, b"ustar"),
    ];
    let (kind, at, mark) = KINDS.iter().find(|(_, at, mark)| head.get(*at..).is_some_and(|h| h.starts_with(mark)))?;
    let mark: Vec<_> = mark.iter().map(|b| format!("{b:02x}")).collect();
    let place = if *at > 0 { format!(" at byte {at}") } else { String::new() };
    let a = if *kind == "xz" { "an" } else { "a" };
    Some(format!("this is {a} {kind} archive (magic {}{place}); unpack it first", mark.join(" ")))
}

fn unknown(path: &Path) -> String {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let named = |f: &Format, n: usize| {
        let mut usual = f.extensions.iter().take(n);
        usual.any(|e| Some(*e) == extension.as_deref())
    };
    // A format that is usually named so rather than one that may be.
    let first = FORMATS.iter().find(|f| named(f, 1));
    let expected = first.or_else(|| FORMATS.iter().find(|f| named(f, usize::MAX)));
    let known = || FORMATS.iter().map(|f| f.name).collect::<Vec<_>>().join(", ");
    match expected {
        Some(f) => format!("named like {} but its content is not of that format nor of another known one", f.about),
        None => format!("of no known event format; --format reads it as one of {}", known()),
    }
}

/// Writes a recording, whole or not at all.
///
/// # Errors
/// A format without a writer, events it cannot hold, or a file that cannot be written.
pub fn save(path: impl AsRef<Path>, stream: &EventStream, format: &Format) -> Result<()> {
    let path = path.as_ref();
    let Some(encode) = format.encode else {
        return Err(Error::usage(format!("there is no writer for {}", format.name)));
    };
    let bytes = encode(stream).map_err(|what| Error::format(path, 0, what))?;
    if bytes.is_empty() {
        return Err(Error::format(path, 0, format!("no events are an empty file in {}, which nothing can read", format.name)));
    }
    write_unsynced(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{aedat3, atis, npz};

    fn stream() -> EventStream {
        let events = (0..100).map(|i| Event { t: i * 500, x: i as u16 % 30, y: i as u16 % 20, p: i % 3 == 0 }).collect();
        EventStream::new(events, Sensor::new(34, 34))
    }

    #[test]
    fn what_is_saved_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        for (f, declared) in [(&aedat3::FORMAT, true), (&npz::FORMAT, true), (&atis::FORMAT, false)] {
            let path = dir.path().join("a").with_extension(f.extensions[0]);
            save(&path, &stream(), f).unwrap();
            let back = open(&path, true).unwrap();
            assert_eq!(back.events, stream().events, "{f:?}");
            assert_eq!((back.format, back.sensor_declared), (f.name, declared));
            assert_eq!(back.sensor == Sensor::new(34, 34), declared);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn archives_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let tar = [&[b'a'; 257][..], b"ustar\x0000", &[0; 248]].concat();
        for (name, bytes, said) in [
            ("a.csv.gz", b"\x1f\x8b\x08\0\0\0".to_vec(), "this is a gzip archive (magic 1f 8b 08); unpack it first"),
            ("a.bin", b"PK\x03\x04 no arrays in it, but something else".to_vec(), "a zip archive (magic 50 4b 03 04); unpack"),
            ("b.dat", b"PK\x03\x04".iter().chain(&[7; 300]).copied().collect(), "a zip archive"),
            ("a.tar", tar, "a tar archive (magic 75 73 74 61 72 at byte 257); unpack it first"),
            ("a.csv.bz2", b"BZh91AY&SY".to_vec(), "a bzip2 archive"),
            ("a.7z", b"7z\xbc\xaf\x27\x1c".to_vec(), "a 7z archive"),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let e = open(&path, false).unwrap_err().to_string();
            assert!(e.contains(&format!("{name}: byte 0: ")) && e.contains(said), "{e}");
        }
        // Archives of arrays are read.
        let path = dir.path().join("a.npz");
        save(&path, &stream(), &npz::FORMAT).unwrap();
        assert!(packed(&std::fs::read(&path).unwrap()).is_some() && open(&path, true).is_ok());
    }

    #[test]
    fn damage_warns_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let bytes = atis::FORMAT.encode.unwrap()(&stream()).unwrap();
        std::fs::write(&path, &bytes[..252]).unwrap();
        let s = open(&path, false).unwrap();
        assert_eq!((s.events.len(), s.warnings.len(), s.damage.map(|e| e.offset)), (50, 1, Some(250)));
        assert!(s.warnings[0].contains("byte 250") && s.warnings[0].contains("50 events"), "{}", s.warnings[0]);
        let e = open(&path, true).unwrap_err().to_string();
        assert!(e.contains("a.bin: byte 250: "), "{e}");

        std::fs::write(&path, b"").unwrap();
        assert!(open(&path, false).unwrap_err().to_string().contains("empty"));
        std::fs::write(&path, b"some text that is no recording").unwrap();
        let e = open(&path, false).unwrap_err().to_string();
        assert!(e.contains("named like ATIS"), "{e}");
        assert!(open(dir.path(), false).is_err() && open(dir.path().join("none"), false).is_err());
    }
}
