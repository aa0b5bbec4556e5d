//! Events from anything that can be read, as the bytes arrive: a file, standard input, a socket.

use super::{Decoder, Event, FORMATS, Format, ReadOptions, Sensor, file, sniff};
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// As much as is waited for before the format is told, where it bears no mark.
const HEAD: usize = 1 << 16;
/// As much of it as a header of lines is looked for in.
const LINES: usize = 1 << 12;

/// Decodes a stream of bytes piece by piece. Damage is treated as by [`open`](super::open): the events before it are kept and there is a
/// [warning](Reader::warnings), unless `strict`.
pub struct Reader<R> {
    input: R,
    name: PathBuf,
    format: &'static Format,
    decoder: Box<dyn Decoder>,
    /// What was read to tell the format.
    head: Vec<u8>,
    buffer: Vec<u8>,
    strict: bool,
    events: u64,
    ended: bool,
    warnings: Vec<String>,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which errors call `name`. Without a format the first bytes are waited for that tell it: those that mark it,
    /// or of a format without a mark (ATIS, text, what lacks its header) 64 KiB; such a stream is decoded as it comes only with one.
    ///
    /// # Errors
    /// Input that cannot be read, is empty, or is of no known format.
    pub fn new(mut input: R, name: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        let (name, strict) = (name.as_ref().to_path_buf(), options.strict);
        let mut head = Vec::new();
        let format = match options.format {
            Some(f) => f,
            None => {
                let mut told = None;
                while told.is_none() && head.len() < HEAD {
                    let from = head.len();
                    head.resize(HEAD, 0);
                    let n = some(&mut input, &mut head[from..]).map_err(|e| Error::io(&name, e));
                    head.truncate(from + *n.as_ref().unwrap_or(&0));
                    if n? == 0 {
                        break;
                    }
                    told = marked(&head);
                }
                if head.is_empty() {
                    return Err(Error::format(&name, 0, "it is empty"));
                }
                told.or_else(|| sniff(&head, Some(&name))).or_else(|| file::table(&head, options)).ok_or_else(|| {
                    let known: Vec<_> = FORMATS.iter().map(|f| f.name).collect();
                    let unknown = || format!("of no known event format; --format reads it as one of {}", known.join(", "));
                    Error::format(&name, 0, file::packed(&head).unwrap_or_else(unknown))
                })?
            }
        };
        let mut decoder = (format.decoder)();
        file::ask(decoder.as_mut(), format, &name, options)?;
        let (buffer, warnings) = (vec![0; HEAD], Vec::new());
        Ok(Reader { input, name, format, decoder, head, buffer, strict, events: 0, ended: false, warnings })
    }
    /// The format.
    pub fn format(&self) -> &'static Format {
        self.format
    }
    /// The pixel array, where the bytes so far declare it.
    pub fn sensor(&self) -> Option<Sensor> {
        self.decoder.sensor()
    }
    /// What was wrong with the bytes so far, or left out of them, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let skipped = self.decoder.skipped().map(|e| e.to_string());
        self.warnings.iter().cloned().chain(skipped).chain(self.decoder.warnings()).collect()
    }
    /// Appends the events of the next bytes that are there to `out`, maybe none; false at the end.
    ///
    /// # Errors
    /// Input that cannot be read; damage before any event, or any damage where `strict`.
    pub fn read(&mut self, out: &mut Vec<Event>) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let before = out.len();
        let bytes = if self.head.is_empty() {
            let n = some(&mut self.input, &mut self.buffer).map_err(|e| Error::io(&self.name, e))?;
            &self.buffer[..n]
        } else {
            self.head.as_slice()
        };
        self.ended = bytes.is_empty();
        let result = if self.ended { self.decoder.finish(out) } else { self.decoder.push(bytes, out) };
        self.head = Vec::new();
        self.events += (out.len() - before) as u64;
        let skipped = self.decoder.skipped().filter(|_| self.strict || self.ended && self.events == 0);
        if let Err(e) = result.and(skipped.map_or(Ok(()), Err)) {
            if self.strict || self.events == 0 {
                return Err(Error::format(&self.name, e.offset, e.message));
            }
            self.warnings.push(format!("{e}; the {} events before it are used", self.events));
            self.ended = true;
        }
        Ok(!self.ended)
    }
}

/// What is there to be read; nothing at the end.
fn some(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The format of a file that begins so, whatever follows; none where that may matter. A header of lines (Prophesee's) is asked when it is
/// over and the two bytes behind it are there, which tell DAT from others; one without an end line is waited for.
fn marked(head: &[u8]) -> Option<&'static Format> {
    const END: &[u8] = b"\n% end\n";
    let mark = || FORMATS.iter().find(|f| f.marked && (f.sniff)(head, false)).copied();
    let header_over = || {
        let lines = &head[..head.len().min(LINES)];
        let end = lines.windows(END.len()).position(|w| w == END);
        head.starts_with(b"%") && end.is_some_and(|at| head.len() >= at + END.len() + 2)
    };
    // What is not over is not sniffed at again and again.
    mark().or_else(|| header_over().then(|| sniff(head, None))?.filter(|f| f.name != super::text::FORMAT.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventStream, aedat3, atis, npz};

    /// Hands out its bytes a few at a time.
    struct Drip<'a>(&'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(buffer.len()).min(7);
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn all<R: Read>(mut r: Reader<R>) -> Result<(Vec<Event>, Vec<String>)> {
        let mut out = Vec::new();
        while r.read(&mut out)? {}
        assert!(!r.read(&mut out)?);
        Ok((out, r.warnings()))
    }

    /// Hands out its bytes a few at a time, and no more than it has: what reads on would wait for ever.
    struct Live<'a>(Drip<'a>);
    impl Read for Live<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("it waits")),
                n => Ok(n),
            }
        }
    }

    fn told(format: Option<&'static Format>, strict: bool) -> ReadOptions {
        ReadOptions { format, strict, ..ReadOptions::default() }
    }

    /// What is marked begins with its first events, and is then what the whole is told for; the rest is not guessed from a part.
    #[test]
    fn live_streams_are_told_early() {
        let events: Vec<_> = (0..200).map(|i| Event { t: i * 10, x: i as u16 % 30, y: i as u16 % 7, p: i % 3 == 0 }).collect();
        let stream = EventStream::new(events, Sensor::new(34, 34));
        for f in FORMATS.iter().filter(|f| f.encode.is_some()) {
            let bytes = f.encode.unwrap()(&stream).unwrap();
            let early = Reader::new(Live(Drip(&bytes)), "standard input", &told(None, true));
            let known = f.marked || ["evt2", "evt3"].contains(&f.name);
            assert_eq!(early.as_ref().ok().map(|r| r.format.name), known.then_some(f.name), "{f:?}");
            for n in 0..bytes.len() {
                let told = marked(&bytes[..n]).map(|f| f.name);
                assert!(told.is_none() || told == sniff(&bytes, None).map(|f| f.name), "{f:?} {n}");
            }
        }
        let bytes = aedat3::FORMAT.encode.unwrap()(&stream).unwrap();
        let mut r = Reader::new(Live(Drip(&bytes)), "x", &told(None, true)).unwrap();
        let mut out = Vec::new();
        while out.is_empty() {
            r.read(&mut out).unwrap();
        }
        assert_eq!(out, stream.events[..out.len()]);
        let said = Reader::new(&b"\x1f\x8b\x08\0"[..], "x", &told(None, false)).err().unwrap().to_string();
        assert!(said.contains("this is a gzip archive"), "{said}");
    }

    #[test]
    fn pieces_damage_and_unknown_bytes() {
        let events: Vec<_> = (0..300).map(|i| Event { t: i * 10, x: i as u16 % 30, y: 3, p: i % 2 == 0 }).collect();
        let stream = EventStream::new(events.clone(), Sensor::new(34, 34));
        for f in [&atis::FORMAT, &npz::FORMAT] {
            let bytes = f.encode.unwrap()(&stream).unwrap();
            let file = format!("a.{}", f.extensions[0]);
            for format in [None, Some(f)] {
                let r = Reader::new(Drip(&bytes), &file, &told(format, true)).unwrap();
                assert_eq!(r.format().name, f.name);
                assert_eq!(all(r).unwrap().0, events);
            }
        }
        let bytes = atis::FORMAT.encode.unwrap()(&stream).unwrap();
        let cut = |n: usize, strict| all(Reader::new(&bytes[..n], "x", &told(Some(&atis::FORMAT), strict))?);
        let (some, warnings) = cut(252, false).unwrap();
        assert_eq!((some, warnings.len()), (events[..50].to_vec(), 1));
        assert!(warnings[0].contains("byte 250"));
        assert!(cut(252, true).unwrap_err().to_string().starts_with("x: byte 250: "));
        assert!(cut(3, false).is_err());
        assert!(Reader::new(&b""[..], "x", &told(None, false)).err().unwrap().to_string().contains("empty"));
        let said = Reader::new(&b"some text\n"[..], "x", &told(None, false)).err().unwrap().to_string();
        assert!(said.contains("no known event format; --format") && said.contains("atis"), "{said}");
    }
}
