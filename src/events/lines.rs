//! Text headers in front of binary data, as several formats have: lines that begin with a mark (`#`, `%`).

use super::{DecodeError, Event};

/// A header line longer than this is none.
const LONGEST: usize = 1 << 16;

/// What stands at the beginning of some bytes.
pub(super) enum Line<'a> {
    /// Too little to tell.
    More,
    /// A header line (without its end), and how many bytes it takes with its end.
    Text(&'a [u8], usize),
    /// No header line: the binary data begin.
    Data,
}

/// The next header line. Binary data may begin with the mark too, so a line must be free of control characters.
pub(super) fn line(bytes: &[u8], mark: u8) -> Line<'_> {
    match bytes.first() {
        None => return Line::More,
        Some(&b) if b != mark => return Line::Data,
        Some(_) => {}
    }
    let head = &bytes[..bytes.len().min(LONGEST)];
    let control = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\r');
    match head.iter().position(control) {
        Some(end) if head[end] == b'\n' => Line::Text(head[..end].trim_ascii_end(), end + 1),
        Some(_) => Line::Data,
        None if bytes.len() >= LONGEST => Line::Data,
        None => Line::More,
    }
}

/// The header lines at the beginning of a file, and where its data begin.
pub(super) fn header(head: &[u8], mark: u8) -> (Vec<&[u8]>, usize) {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Line::Text(text, n) = line(&head[at..], mark) {
        lines.push(text);
        at += n;
    }
    (lines, at)
}

/// The word behind `key` in a line such as `% geometry 640x480`, whatever its capitals.
pub(super) fn value(line: &[u8], key: &str) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.trim_start_matches(['%', '#']).split_whitespace();
    let found = words.next()?.trim_end_matches(':').eq_ignore_ascii_case(key);
    found.then(|| words.collect::<Vec<_>>().join(" "))
}

/// Appends up to `n` events, which `write` puts into a slice from its start on; it returns how many.
pub(super) fn fill(out: &mut Vec<Event>, n: usize, write: impl FnOnce(&mut [Event]) -> usize) {
    let len = out.len();
    out.resize(len + n, Event::default());
    let done = write(&mut out[len..]).min(n);
    out.truncate(len + done);
}

/// The error of a file that ends within a record.
pub(super) fn cut(offset: u64, rest: usize, record: usize) -> DecodeError {
    DecodeError::new(offset, format!("the file ends after {rest} of an event's {record} bytes"))
}

/// Makes 64-bit times of 32-bit ones that start again at 0.
#[derive(Debug, Default)]
pub(super) struct Clock32 {
    last: u32,
    base: i64,
}

impl Clock32 {
    #[inline]
    pub fn time(&mut self, now: u32) -> i64 {
        if now < self.last {
            self.base += i64::from(self.last - now > 1 << 31) << 32;
        } else if now - self.last > 1 << 31 && self.base > 0 {
            // A straggler from before the wrap.
            self.base -= 1 << 32;
        }
        self.last = now;
        self.base + i64::from(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_data_begin() {
        let bytes = b"% Date 2020\n% geometry 640x480\r\n%\x01 data";
        let (lines, at) = header(bytes, b'%');
        assert_eq!((lines.len(), at), (2, 32));
        assert_eq!(value(lines[1], "Geometry").unwrap(), "640x480");
        assert!(matches!(line(b"% never ends", b'%'), Line::More));
    }

    #[test]
    fn clocks_wrap_and_step_back() {
        let mut c = Clock32::default();
        let times = [5, u32::MAX, 3, u32::MAX - 1, 7].map(|t| c.time(t));
        assert_eq!(times, [5, (1 << 32) - 1, (1 << 32) + 3, (1 << 32) - 2, (1 << 32) + 7]);
    }
}
