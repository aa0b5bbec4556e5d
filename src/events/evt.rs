//! What Prophesee's RAW files share: a header of lines that begin with `%`, and clocks whose upper part comes seldom.
//!
//! `% evt 3.0`, or `% format EVT3;height=720;width=1280`, says the encoding; `% geometry 640x480`, `format`, or else the
//! name of the camera's plugin, the sensor. `% end` may end the header.

use super::lines::{self, Line};
use super::{Carry, DecodeError, Decoder, Event, Sensor};

/// An encoding of RAW files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Evt2,
    Evt21,
    Evt3,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The encoding.
    pub version: Option<Version>,
    /// The encoding's name in the file.
    pub named: String,
    /// Whether the two halves of 64-bit words are swapped (EVT2.1).
    pub swapped: bool,
    /// The sensor.
    pub sensor: Option<Sensor>,
    /// The plugin's sensor, used where nothing better is said.
    plugin: Option<Sensor>,
    /// A line `% end` was seen.
    ended: bool,
    /// Header lines seen.
    lines: usize,
}

/// Words in the names of plugins and cameras, and their sensors; the first found counts.
const PLUGINS: [(&str, Sensor); 8] = [
    ("gen41", Sensor::new(1280, 720)),
    ("gen4", Sensor::new(1280, 720)),
    ("imx636", Sensor::new(1280, 720)),
    ("imx646", Sensor::new(1280, 720)),
    ("gen31", Sensor::new(640, 480)),
    ("gen3", Sensor::new(640, 480)),
    ("genx320", Sensor::new(320, 320)),
    ("gen320", Sensor::new(320, 320)),
];

impl Header {
    /// Takes a line.
    fn line(&mut self, text: &[u8]) {
        self.lines += 1;
        let value = |key| lines::value(text, key);
        if let Some(v) = value("evt") {
            self.encoding(&v);
        }
        if let Some(v) = value("format") {
            let mut parts = v.split(';');
            self.encoding(parts.next().unwrap_or_default());
            let (mut width, mut height) = (None, None);
            for part in parts {
                match part.trim().split_once('=') {
                    Some(("width", w)) => width = w.parse().ok(),
                    Some(("height", h)) => height = h.parse().ok(),
                    Some(("endianness", e)) => self.swapped = e == "legacy",
                    _ => {}
                }
            }
            self.sensor = width.zip(height).map(|(w, h)| Sensor::new(w, h)).or(self.sensor);
        }
        if let Some(v) = value("geometry") {
            let size = v.split_once('x');
            let sensor = size.and_then(|(w, h)| Some(Sensor::new(w.parse().ok()?, h.parse().ok()?)));
            self.sensor = sensor.or(self.sensor);
        }
        if let Some(v) = value("plugin_name").or_else(|| value("sensor_name")) {
            let v = v.to_lowercase();
            let known = PLUGINS.iter().find(|p| v.contains(p.0)).map(|p| p.1);
            self.plugin = known.or(self.plugin);
        }
        self.ended |= text.trim_ascii_start() == b"% end" || text == b"%end";
    }

    fn encoding(&mut self, name: &str) {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        self.version = match digits.as_str() {
            "2" | "20" => Some(Version::Evt2),
            "21" => Some(Version::Evt21),
            "3" | "30" => Some(Version::Evt3),
            _ => None,
        };
        self.named = name.to_owned();
    }

    pub fn sensor(&self) -> Option<Sensor> {
        self.sensor.or(self.plugin)
    }

    /// Consumes header lines; how many bytes, and whether the data begin there.
    pub fn consume(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut done = 0;
        while !self.ended {
            match lines::line(&bytes[done..], b'%') {
                Line::More => return (done, false),
                // Words may look like a line's beginning, but not with a space behind it.
                Line::Text(text, n) if text.get(1).is_none_or(|b| *b == b' ') || text == b"%end" => {
                    self.line(text);
                    done += n;
                }
                Line::Text(..) | Line::Data => break,
            }
        }
        (done, true)
    }

    /// The header of a file, by its beginning.
    pub fn of(head: &[u8]) -> Option<(Header, usize)> {
        let mut header = Header::default();
        let (at, _) = header.consume(head);
        (header.lines > 0).then_some((header, at))
    }
}

/// Whether a file begins with the header of that encoding. Old files do not say it; they are EVT2.
pub(super) fn is(head: &[u8], version: Version) -> bool {
    let Some((header, _)) = Header::of(head) else {
        return false;
    };
    match header.version {
        Some(v) => v == version,
        None => version == Version::Evt2 && header.named.is_empty() && header.plugin.is_some(),
    }
}

/// The words of an encoding.
pub(super) trait Words: Default + Send + std::fmt::Debug {
    /// Bytes of a word.
    const SIZE: usize;
    /// The encoding.
    const VERSION: Version;
    /// Takes what the header says.
    fn begin(&mut self, _header: &Header) {}
    /// Decodes whole words.
    fn words(&mut self, bytes: &[u8], out: &mut Vec<Event>);
    /// Events before the first word that tells the time; they are left out.
    fn timeless(&self) -> u64;
}

/// Decoder of a RAW file.
#[derive(Debug, Default)]
pub(super) struct RawDecoder<W> {
    carry: Carry,
    header: Header,
    begun: bool,
    words: W,
}

impl<W: Words> RawDecoder<W> {
    /// With words that were told something.
    pub fn of(words: W) -> Self {
        RawDecoder { words, ..RawDecoder::default() }
    }

    fn consume(&mut self, bytes: &[u8], offset: u64, out: &mut Vec<Event>) -> Result<usize, DecodeError> {
        let mut done = 0;
        if !self.begun {
            (done, self.begun) = self.header.consume(bytes);
            if !self.begun {
                return Ok(done);
            }
            let other = match self.header.version {
                Some(v) => v != W::VERSION,
                None => !self.header.named.is_empty(),
            };
            if other {
                let what = format!("the header calls the encoding `{}`, which is not the one expected", self.header.named);
                return Err(DecodeError::new(offset + done as u64, what));
            }
            self.words.begin(&self.header);
        }
        let whole = (bytes.len() - done) / W::SIZE * W::SIZE;
        self.words.words(&bytes[done..done + whole], out);
        Ok(done + whole)
    }
}

impl<W: Words> Decoder for RawDecoder<W> {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, at| self.consume(bytes, at, out));
        self.carry = carry;
        result
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), DecodeError> {
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        if !self.begun && rest > 0 {
            return Err(DecodeError::new(at, "the file ends within its header"));
        }
        match rest {
            0 => Ok(()),
            n => {
                let size = W::SIZE;
                let what = format!("the file ends after {n} of a word's {size} bytes");
                Err(DecodeError::new(at, what))
            }
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.header.sensor()
    }

    fn warnings(&self) -> Vec<String> {
        match self.words.timeless() {
            0 => Vec::new(),
            n => vec![format!("{n} events before the first word that tells the time are left out")],
        }
    }
}

/// The upper part of a clock, of `bits` bits; the lower part of `low` bits comes with each event.
#[derive(Debug, Default)]
pub(super) struct High {
    last: Option<u32>,
    wraps: i64,
}

impl High {
    /// Takes the upper part; the time in microseconds at which it begins. A step down by more than half of all is a wrap.
    pub fn set(&mut self, now: u32, bits: u32, low: u32) -> i64 {
        if let Some(last) = self.last {
            let half = 1 << (bits - 1);
            if last > now && last - now > half {
                self.wraps += 1;
            } else if now > last && now - last > half && self.wraps > 0 {
                self.wraps -= 1;
            }
        }
        self.last = Some(now);
        (self.wraps << bits | i64::from(now)) << low
    }
    /// Whether any upper part was seen.
    pub fn known(&self) -> bool {
        self.last.is_some()
    }
}

/// The next upper part to write on the way from `last` to `high`, so that every reader sees each wrap: up to half of the
/// range at once, but over its end in a step of one.
pub(super) fn climb(last: i64, high: i64, bits: u32) -> i64 {
    let end = last | ((1 << bits) - 1);
    if high <= last || last == end {
        return high.min(last + 1);
    }
    high.min(end).min(last + step(bits))
}

/// The largest step of an upper part that is read as it is meant.
pub(super) const fn step(bits: u32) -> i64 {
    (1 << (bits - 1)) - 1
}

/// The header this crate's writers make.
pub(super) fn write_header(evt: &str, format: &str, sensor: Option<Sensor>) -> Vec<u8> {
    let mut out = format!("% evt {evt}\n");
    match sensor {
        Some(Sensor { width, height }) => {
            out += &format!("% format {format};height={height};width={width}\n");
            out += &format!("% geometry {width}x{height}\n");
        }
        None => out += &format!("% format {format}\n"),
    }
    out += "% end\n";
    out.into_bytes()
}

/// Refuses what neither EVT2 nor EVT3 hold: coordinates above 2047 and times outside 0..2^43 microseconds.
pub(super) fn check(i: usize, e: &Event) -> Result<(), String> {
    if e.x > 2047 || e.y > 2047 {
        let (x, y) = (e.x, e.y);
        return Err(format!("event {i} at ({x}, {y}): EVT2 and EVT3 files hold coordinates up to 2047"));
    }
    if !(0..1 << 43).contains(&e.t) {
        return Err(format!("event {i} at {} us: EVT2 and EVT3 files hold times from 0 to 2^43 us", e.t));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let of = |text: &str| Header::of(text.as_bytes()).unwrap().0;
        let h = of("% format EVT21;endianness=legacy;height=720;width=1280\n% end\n% no line");
        assert!(h.swapped && h.version == Some(Version::Evt21) && h.lines == 2);
        assert_eq!(h.sensor(), Some(Sensor::new(1280, 720)));
        let h = of("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n");
        assert_eq!(h.sensor(), Some(Sensor::new(640, 480)));
        assert!(is(b"% plugin_name hal_plugin_gen31_fx3\n\0\0", Version::Evt2));
        assert!(!is(b"% evt 4.0\n\0\0", Version::Evt2) && !is(b"% Version 2\n\x0c\x08", Version::Evt2));
        assert!(Header::of(b"%x").is_none());
    }

    #[test]
    fn clocks_wrap() {
        let mut h = High::default();
        let t: Vec<_> = [4094, 1, 4095, 2, 3].map(|v| h.set(v, 12, 12) >> 12).into();
        assert_eq!(t, [4094, 4097, 4095, 4098, 4099]);
    }
}
