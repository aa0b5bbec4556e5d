//! AEDAT 4, as iniVation's DV writes it.
//!
//! A line `#!AER-DAT4.0`; a header, which is a FlatBuffers table with the compression, the place of an index at the end and
//! an XML text that describes the streams; then packets of a stream's number (32 bits), a size (32 bits) and that many
//! bytes: a FlatBuffers table, alone or within an LZ4 or Zstandard frame. Of event packets (`EVTS`) the table holds one
//! vector of 16-byte events; frames, motion and triggers are skipped by their size.
//!
//! A file may hold several event streams (a stereo pair). The first is read, and a warning names the others;
//! [`streams`] lists them and [`Decoder::stream`] chooses one by its name.
//!
//! A file that is cut off is told by its packet's size, by its index, or by the place the header says the index to be at. Of one
//! without an index (the header says -1 where the recorder was interrupted, and our own writer names none) that is cut between two packets
//! nothing tells.
//!
//! The tables have so few fields that they are read here directly, with every offset checked; nothing is generated.

use super::{Carry, DecodeError, Decoder, Event, EventStream, Format, Sensor, lz4};
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// The format.
pub static FORMAT: Format = Format {
    name: "aedat4",
    about: "AEDAT 4 (iniVation DV; none, LZ4 and Zstandard compression)",
    extensions: &["aedat4", "aedat"],
    sniff: |head, _| head.starts_with(MAGIC),
    decoder: || Box::<Aedat4Decoder>::default(),
    encode: Some(encode),
    keeps_sensor: true,
    marked: true,
};

const MAGIC: &[u8] = b"#!AER-DAT4.0\r\n";
const EVENTS: &[u8] = b"EVTS";
/// A header larger than this is none.
const LARGEST_HEADER: usize = 1 << 24;
/// A packet that unpacks to more than this is refused: 16 million events.
const LARGEST_PACKET: u64 = 1 << 28;
/// An index larger than this is not looked at.
const LARGEST_INDEX: usize = 1 << 26;

/// A stream of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Its number in the file's packets.
    pub id: i32,
    /// Its name, such as `events`.
    pub name: String,
    /// The camera it is of.
    pub source: String,
    /// What its packets hold: `EVTS`, `FRME`, `IMUS`, `TRIG`.
    pub kind: String,
    /// The pixel array, where it says it.
    pub sensor: Option<Sensor>,
}

/// The streams that the beginning of a file declares (64 KiB are enough by far).
///
/// # Errors
/// No AEDAT 4 header.
pub fn streams(head: &[u8]) -> Result<Vec<Stream>, DecodeError> {
    let mut decoder = Aedat4Decoder::default();
    decoder.push(head, &mut Vec::new())?;
    match decoder.state {
        State::Start | State::Header => Err(DecodeError::new(0, "the header is cut off")),
        _ => Ok(decoder.streams),
    }
}

/// Decoder of AEDAT 4.
#[derive(Debug, Default)]
pub struct Aedat4Decoder {
    carry: Carry,
    state: State,
    asked: Option<String>,
    streams: Vec<Stream>,
    compression: Compression,
    /// Where the packets end and the index begins.
    end: Option<u64>,
    chosen: Option<i32>,
    packets: u64,
    buffer: Vec<u8>,
    index: Vec<u8>,
    /// Packets of other streams that were passed over.
    others: BTreeMap<i32, u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Header,
    Packet,
    /// Bytes of an event packet to come.
    Body(usize),
    /// Bytes to go without looking at them.
    Skip(u64),
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Compression {
    #[default]
    None,
    Lz4,
    Zstd,
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    let b = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u16_at(b: &[u8], at: usize) -> Option<usize> {
    let b = b.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([b[0], b[1]]).into())
}

/// The root table of a FlatBuffer whose size stands before it: where it lies.
fn root(b: &[u8]) -> Option<usize> {
    Some(4 + u32_at(b, 4)? as usize)
}

/// Where field `i` of a table lies, if it is there.
fn field(b: &[u8], table: usize, i: usize) -> Option<usize> {
    let vtable = usize::try_from(table as i64 - i64::from(u32_at(b, table)? as i32)).ok()?;
    let size = u16_at(b, vtable)?;
    let entry = 4 + 2 * i;
    if entry + 2 > size {
        return None;
    }
    match u16_at(b, vtable + entry)? {
        0 => None,
        offset => Some(table + offset),
    }
}

/// The elements of a vector to which the field at `at` points: where they lie and how many.
fn vector(b: &[u8], at: usize) -> Option<(usize, usize)> {
    let at = at.checked_add(u32_at(b, at)? as usize)?;
    Some((at + 4, u32_at(b, at)? as usize))
}

/// The streams that the header's XML describes: nodes `outInfo` / number / `info` with attributes.
fn parse_streams(xml: &str) -> Vec<Stream> {
    let mut path: Vec<&str> = Vec::new();
    let mut streams: Vec<Stream> = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap_or((tag, ""));
        let value = |key: &str| {
            let rest = &tag[tag.find(&format!("{key}=\""))? + key.len() + 2..];
            rest.split('"').next()
        };
        if tag.starts_with("node ") {
            let name = value("name").unwrap_or_default();
            if path.last() == Some(&"outInfo")
                && let Ok(id) = name.parse()
            {
                streams.push(Stream { id, ..Stream::default() });
            }
            if !tag.ends_with('/') && path.len() < 64 {
                path.push(name);
            }
        } else if tag == "/node" {
            path.pop();
        } else if tag.starts_with("attr ") {
            let Some(stream) = streams.last_mut() else {
                continue;
            };
            let size = stream.sensor.get_or_insert_default();
            match value("key") {
                Some("originalOutputName") => stream.name = text.to_owned(),
                Some("typeIdentifier") => stream.kind = text.to_owned(),
                Some("source") => stream.source = text.to_owned(),
                Some("sizeX") => size.width = text.parse().unwrap_or(0),
                Some("sizeY") => size.height = text.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    for s in &mut streams {
        s.sensor = s.sensor.filter(|s| s.width > 0 && s.height > 0);
    }
    streams
}

/// Unpacks a frame into `out`, as far as it goes.
fn unpack(compression: Compression, packed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.clear();
    match compression {
        Compression::None => out.extend_from_slice(packed),
        Compression::Lz4 => lz4::unpack(packed, LARGEST_PACKET, out)?,
        Compression::Zstd => {
            let frame = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| format!("Zstandard: {e}"))?;
            frame.take(LARGEST_PACKET).read_to_end(out).map_err(|e| format!("Zstandard: {e}"))?;
        }
    }
    Ok(())
}

impl Aedat4Decoder {
    fn header(&mut self, b: &[u8], offset: u64) -> Result<(), DecodeError> {
        let bad = |what: &str| DecodeError::new(offset, what);
        let table = root(b).ok_or_else(|| bad("no header table"))?;
        if u32_at(b, table).is_none() {
            return Err(bad("the header table lies outside the header"));
        }
        let compression = field(b, table, 0).and_then(|at| u32_at(b, at)).unwrap_or(0);
        self.compression = match compression {
            0 => Compression::None,
            1 | 2 => Compression::Lz4,
            3 | 4 => Compression::Zstd,
            n => return Err(bad(&format!("unknown compression {n}"))),
        };
        self.end = field(b, table, 1)
            .and_then(|at| Some((u32_at(b, at)?, u32_at(b, at + 4)?)))
            .map(|(low, high)| u64::from(high) << 32 | u64::from(low))
            .filter(|&end| end as i64 > 0);
        if let Some((at, n)) = field(b, table, 2).and_then(|at| vector(b, at)) {
            let xml = at.checked_add(n).and_then(|end| b.get(at..end));
            self.streams = parse_streams(&String::from_utf8_lossy(xml.unwrap_or_default()));
        }
        let mut events = self.streams.iter().filter(|s| s.kind.as_bytes() == EVENTS);
        if let Some(asked) = &self.asked {
            let called = |s: &&Stream| s.name == *asked || s.source == *asked || s.id.to_string() == *asked;
            let known = || {
                let all = self.streams.iter().filter(|s| s.kind.as_bytes() == EVENTS);
                all.map(|s| format!("{} `{}` of {}", s.id, s.name, s.source)).collect::<Vec<_>>().join(", ")
            };
            self.chosen = match events.find(called) {
                Some(s) => Some(s.id),
                None => {
                    let what = format!("no event stream `{asked}`; there are {}", known());
                    return Err(bad(&what));
                }
            };
        } else {
            self.chosen = events.next().map(|s| s.id);
            if self.chosen.is_none() && !self.streams.is_empty() {
                let kinds: Vec<&str> = self.streams.iter().map(|s| s.kind.as_str()).collect();
                let what = format!("a recording without events ({})", kinds.join(", "));
                return Err(bad(&what));
            }
        }
        Ok(())
    }

    /// Takes an event packet.
    fn packet(&mut self, packed: &[u8], offset: u64, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let error = |what: String| DecodeError::new(offset, format!("packet {}: {what}", self.packets));
        let mut buffer = std::mem::take(&mut self.buffer);
        // What is damaged begins well as a rule.
        let end = unpack(self.compression, packed, &mut buffer).map_err(error);
        let taken = self.table(&buffer, end.is_err(), offset, out);
        self.buffer = buffer;
        end.and(taken)
    }

    /// Takes the events of an unpacked packet, as far as it goes where it is known to be `damaged`.
    fn table(&mut self, unpacked: &[u8], damaged: bool, offset: u64, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let error = |what: String| DecodeError::new(offset, format!("packet {}: {what}", self.packets));
        if unpacked.len() as u64 >= LARGEST_PACKET {
            return Err(error("unpacks to more than 256 MiB".into()));
        }
        if self.chosen.is_none() {
            // A file that does not describe its streams: any packet of events will do.
            if unpacked.get(8..12) != Some(EVENTS) {
                return Ok(());
            }
        }
        let table = root(unpacked).filter(|&t| u32_at(unpacked, t).is_some());
        let table = table.ok_or_else(|| error("no table of events".into()))?;
        if let Some(at) = field(unpacked, table, 0) {
            let (at, n) = vector(unpacked, at).ok_or_else(|| error("no vector of events".into()))?;
            let bytes = unpacked.get(at..).unwrap_or_default();
            let (events, _) = bytes.as_chunks::<16>();
            let here = n.min(events.len());
            out.extend(events[..here].iter().map(event));
            if here < n && !damaged {
                return Err(error(format!("{here} of the {n} events it declares")));
            }
        }
        self.packets += 1;
        Ok(())
    }

    fn step(&mut self, bytes: &[u8], offset: u64, out: &mut Vec<Event>) -> Result<Option<usize>, DecodeError> {
        match self.state {
            State::Start => {
                let n = bytes.len().min(MAGIC.len());
                if bytes[..n] != MAGIC[..n] {
                    return Err(DecodeError::new(offset, "no `#!AER-DAT4.0` line"));
                }
                if n < MAGIC.len() {
                    return Ok(None);
                }
                self.state = State::Header;
                Ok(Some(n))
            }
            State::Header => {
                let Some(size) = u32_at(bytes, 0) else {
                    return Ok(None);
                };
                let size = size as usize + 4;
                if size > LARGEST_HEADER {
                    return Err(DecodeError::new(offset, format!("a header of {size} bytes")));
                }
                let Some(header) = bytes.get(..size) else {
                    return Ok(None);
                };
                self.header(header, offset)?;
                self.state = State::Packet;
                Ok(Some(size))
            }
            State::Packet => {
                if self.end.is_some_and(|end| offset >= end) {
                    self.state = State::End;
                    return Ok(Some(0));
                }
                let (Some(id), Some(size)) = (u32_at(bytes, 0), u32_at(bytes, 4)) else {
                    return Ok(None);
                };
                if size > i32::MAX as u32 {
                    let what = format!("a packet of {} bytes", size as i32);
                    return Err(DecodeError::new(offset, what));
                }
                let wanted = self.chosen.is_none_or(|c| c == id as i32);
                if !wanted {
                    *self.others.entry(id as i32).or_default() += 1;
                }
                self.state = match wanted {
                    true => State::Body(size as usize),
                    false => State::Skip(size.into()),
                };
                Ok(Some(8))
            }
            State::Body(size) => {
                let Some(packet) = bytes.get(..size) else {
                    return Ok(None);
                };
                self.packet(packet, offset, out)?;
                self.state = State::Packet;
                Ok(Some(size))
            }
            State::Skip(left) => {
                let n = left.min(bytes.len() as u64);
                self.state = match left - n {
                    0 => State::Packet,
                    _ if n == 0 => return Ok(None),
                    left => State::Skip(left),
                };
                Ok(Some(n as usize))
            }
            State::End => {
                let room = LARGEST_INDEX + 1 - self.index.len();
                self.index.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Ok((!bytes.is_empty()).then_some(bytes.len()))
            }
        }
    }

    /// Whether the index at the end, a table like any other, is there as a whole.
    fn has_whole_index(&self) -> bool {
        let mut table = Vec::new();
        let unpacked = unpack(self.compression, &self.index, &mut table).is_ok();
        self.index.len() > LARGEST_INDEX || unpacked && u32_at(&table, 0).is_some_and(|n| table.len() as u64 >= u64::from(n) + 4)
    }
}

#[inline]
fn event(b: &[u8; 16]) -> Event {
    let t = i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    Event { t, x: u16::from_le_bytes([b[8], b[9]]), y: u16::from_le_bytes([b[10], b[11]]), p: b[12] != 0 }
}

impl Decoder for Aedat4Decoder {
    fn stream(&mut self, name: &str) -> bool {
        self.asked = Some(name.to_owned());
        true
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, offset| {
            let mut done = 0;
            while let Some(n) = self.step(&bytes[done..], offset + done as u64, out)? {
                done += n;
            }
            Ok(done)
        });
        self.carry = carry;
        result
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        if let State::Body(_) = self.state {
            let rest = self.carry.rest().to_vec();
            // The error is that the file ends here.
            let _ = self.packet(&rest, self.carry.offset(), out);
        }
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        let error = |what: String| Err(DecodeError::new(at, what));
        match self.state {
            State::Start | State::Header => error("the file ends within its header".into()),
            State::Packet if rest == 0 => match self.end {
                Some(end) => error(format!("the file ends here; its header says that its index begins at byte {end}")),
                None => Ok(()),
            },
            State::Packet => error(format!("the file ends after {rest} of a packet header's 8 bytes")),
            State::Body(size) => error(format!("the file ends after {rest} of a packet's {size} bytes")),
            State::Skip(left) => error(format!("the file ends {left} bytes before its last packet does")),
            State::End if self.has_whole_index() => Ok(()),
            State::End => error(format!("the file ends within its index, {} bytes behind the last packet", self.index.len())),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        let chosen = self.streams.iter().find(|s| Some(s.id) == self.chosen)?;
        chosen.sensor
    }

    fn besides(&self) -> Vec<String> {
        let not_events = |id: i32| self.streams.iter().find(|s| s.id == id && s.kind.as_bytes() != EVENTS);
        let others = self.others.iter().filter_map(|(id, n)| Some((not_events(*id)?, n)));
        others.map(|(s, n)| format!("{n} packet{} of `{}` ({})", if *n == 1 { "" } else { "s" }, s.name, s.kind)).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let others: Vec<String> = self
            .streams
            .iter()
            .filter(|s| s.kind.as_bytes() == EVENTS && Some(s.id) != self.chosen)
            .map(|s| format!("{} (`{}` of {})", s.id, s.name, s.source))
            .collect();
        match others.is_empty() || self.asked.is_some() {
            true => Vec::new(),
            false => vec![format!("one of several event streams is read; left out: {}", others.join(", "))],
        }
    }
}

/// Events to a packet of the writer's.
const PACKET: usize = 8192;

/// The file for a recording, its packets compressed by LZ4.
///
/// # Errors
/// Coordinates above 32767.
fn encode(stream: &EventStream) -> Result<Vec<u8>, String> {
    if let Some(e) = stream.events.iter().find(|e| e.x > 0x7fff || e.y > 0x7fff) {
        return Err(format!("an event at ({}, {}): AEDAT 4 holds coordinates up to 32767", e.x, e.y));
    }
    // Readers insist on a size, so without a declared one it is the smallest that holds the events.
    let Sensor { width, height } = stream.sensor;
    let size = format!("<attr key=\"sizeX\" type=\"int\">{width}</attr><attr key=\"sizeY\" type=\"int\">{height}</attr>");
    let xml = format!(
        "<dv version=\"2.0\"><node name=\"outInfo\" path=\"/mainloop/Recorder/outInfo/\">\
         <node name=\"0\" path=\"/mainloop/Recorder/outInfo/0/\">\
         <attr key=\"compression\" type=\"string\">LZ4</attr>\
         <attr key=\"originalModuleName\" type=\"string\">spikemix</attr>\
         <attr key=\"originalOutputName\" type=\"string\">events</attr>\
         <attr key=\"typeDescription\" type=\"string\">Array of events (polarity ON/OFF).</attr>\
         <attr key=\"typeIdentifier\" type=\"string\">EVTS</attr>\
         <node name=\"info\" path=\"/mainloop/Recorder/outInfo/0/info/\">{size}\
         <attr key=\"source\" type=\"string\">spikemix</attr></node></node></node></dv>"
    );
    let mut out = MAGIC.to_vec();
    // Size, root, name; the table's layout (10 bytes, 2 of padding); the table: compression at 4, text at 8.
    let mut header = Vec::new();
    for v in [0u32, 20] {
        header.extend(v.to_le_bytes());
    }
    header.extend(b"IOHE");
    for v in [10u16, 12, 4, 0, 8, 0] {
        header.extend(v.to_le_bytes());
    }
    for v in [12u32, 1, 4, xml.len() as u32] {
        header.extend(v.to_le_bytes());
    }
    header.extend(xml.bytes());
    header.resize((header.len() + 1).next_multiple_of(4), 0);
    let n = header.len() as u32 - 4;
    header[..4].copy_from_slice(&n.to_le_bytes());
    out.extend(header);
    for events in stream.events.chunks(PACKET) {
        let n = events.len();
        let mut packet = Vec::with_capacity(32 + 16 * n);
        for v in [28 + 16 * n as u32, 16] {
            packet.extend(v.to_le_bytes());
        }
        packet.extend(EVENTS);
        for v in [6u16, 8, 4, 0] {
            packet.extend(v.to_le_bytes());
        }
        for v in [8u32, 4, n as u32] {
            packet.extend(v.to_le_bytes());
        }
        for e in events {
            packet.extend(e.t.to_le_bytes());
            packet.extend(e.x.to_le_bytes());
            packet.extend(e.y.to_le_bytes());
            packet.extend([u8::from(e.p), 0, 0, 0]);
        }
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        let packed = frame.write_all(&packet).map_err(|e| e.to_string());
        let packed = packed.and_then(|()| frame.finish().map_err(|e| e.to_string()))?;
        out.extend(0u32.to_le_bytes());
        out.extend((packed.len() as u32).to_le_bytes());
        out.extend(packed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn stream(n: u16) -> EventStream {
        let events = (0..n).map(|i| Event { t: 1_600_000_000_000_000 + i64::from(i), x: i % 30, y: i % 20, p: i % 3 == 0 });
        EventStream::new(events.collect(), Sensor::new(30, 20))
    }

    #[test]
    fn streams_are_described_and_chosen() {
        let s = stream(20_000);
        let bytes = encode(&s).unwrap();
        let found = streams(&bytes[..2000]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].sensor), ("events", Some(s.sensor)));
        let mut d = (FORMAT.decoder)();
        assert!(d.stream("events"));
        let mut out = Vec::new();
        d.push(&bytes, &mut out).unwrap();
        assert_eq!((out.len(), d.sensor()), (20_000, Some(s.sensor)));
        let mut d = (FORMAT.decoder)();
        d.stream("left");
        let e = d.push(&bytes, &mut Vec::new()).unwrap_err();
        assert!(e.message.contains("no event stream `left`"), "{e}");
    }

    #[test]
    fn zstandard_is_read() {
        let s = stream(0);
        let mut bytes = encode(&s).unwrap();
        let at = bytes.windows(4).position(|w| w == [12, 0, 0, 0]).unwrap();
        bytes[at + 4] = 3;
        let mut packet = Vec::new();
        for v in [28 + 16u32, 16] {
            packet.extend(v.to_le_bytes());
        }
        packet.extend(EVENTS);
        for v in [6u16, 8, 4, 0] {
            packet.extend(v.to_le_bytes());
        }
        for v in [8u32, 4, 1] {
            packet.extend(v.to_le_bytes());
        }
        packet.extend([7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 1, 0, 0, 0]);
        let packed = ruzstd::encoding::compress_to_vec(packet.as_slice(), ruzstd::encoding::CompressionLevel::Uncompressed);
        bytes.extend(0u32.to_le_bytes());
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        let e = Event { t: 7, x: 3, y: 4, p: true };
        assert_eq!(in_pieces(&FORMAT, &bytes, 77), (vec![e], Ok(())));
    }

    /// Of a file with an index every cut is told: within it, where it should begin, between two packets.
    #[test]
    fn an_index_tells_a_cut() {
        let s = stream(10_000);
        let mut bytes = encode(&s).unwrap();
        // The place of the index is put behind the header, to which the table's second field then points.
        let (start, table) = (MAGIC.len(), MAGIC.len() + 24);
        let size = u32_at(&bytes, start).unwrap();
        let at = start + 4 + size as usize;
        bytes[start..start + 4].copy_from_slice(&(size + 8).to_le_bytes());
        bytes[table - 12 + 6..table - 12 + 8].copy_from_slice(&((at - table) as u16).to_le_bytes());
        let index = bytes.len() + 8;
        bytes.splice(at..at, (index as u64).to_le_bytes());
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        frame.write_all(&[[4, 0, 0, 0], [1, 2, 3, 4]].concat()).unwrap();
        bytes.extend(frame.finish().unwrap());
        let end = |n: usize| {
            let (events, end) = in_pieces(&FORMAT, &bytes[..n], 1000);
            (events.len(), end.map_err(|e| e.message))
        };
        assert_eq!(end(bytes.len()), (10_000, Ok(())));
        for n in index..bytes.len() {
            let said = format!("the file ends within its index, {} bytes behind the last packet", n - index);
            assert_eq!(end(n), (10_000, Err(said)));
        }
        let packet = at + 8 + 8 + u32_at(&bytes, at + 8 + 4).unwrap() as usize;
        let said = format!("the file ends here; its header says that its index begins at byte {index}");
        assert_eq!(end(packet), (8192, Err(said)));
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let bytes = encode(&stream(10_000)).unwrap();
        let (events, end) = in_pieces(&FORMAT, &bytes[..bytes.len() - 3], 1000);
        // Of the last packet, a frame of LZ4, only the end mark is not whole.
        assert_eq!(events.len(), 10_000);
        assert!(end.unwrap_err().message.contains("of a packet's"));
        let (events, end) = in_pieces(&FORMAT, &bytes[..bytes.len() - 300], 1000);
        assert!(events.len() == 8192 && end.is_err());
        assert!(decode(&FORMAT, b"#!AER-DAT3").is_err() && decode(&FORMAT, &bytes[..300]).is_err());
        let mut huge = MAGIC.to_vec();
        huge.extend([0xff; 40]);
        assert!(decode(&FORMAT, &huge).unwrap_err().message.contains("header of"));
    }
}
