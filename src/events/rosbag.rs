//! ROS 1 bags of events: `dvs_msgs/EventArray`, and `event_camera_msgs/EventPacket` of EVT3.
//!
//! A bag is a line `#ROSBAG V2.0` and records of a header (fields `name=value`) and data; chunks (op 5) hold further
//! records, stored or packed by LZ4, among them messages (op 2) of connections (op 7) that name the type. The first topic
//! of events is read; a warning names others. The records of a stored chunk are read as they come, and those of a packed one from as many
//! whole blocks as there are, so that those before the end of a file that is cut off are used. A bag that is cut between two records is
//! told by where its header says the index to be, unless the bag was never closed.

use super::evt::Words;
use super::evt3::Evt3;
use super::{Carry, DecodeError, Decoder, Event, Format, Sensor, lz4};

/// The format.
pub static FORMAT: Format = Format {
    name: "rosbag",
    about: "ROS 1 bag of dvs_msgs/EventArray or EVT3 packets",
    extensions: &["bag"],
    sniff: |head, _| head.starts_with(MAGIC),
    decoder: || Box::<BagDecoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

const MAGIC: &[u8] = b"#ROSBAG V2.0\n";
/// A record of more bytes than this is refused, and a chunk that unpacks to more; a stored chunk is never in memory as a whole.
const LARGEST: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Array,
    Packet,
}

/// Decoder of bags.
#[derive(Debug, Default)]
pub struct BagDecoder {
    carry: Carry,
    begun: bool,
    /// Bytes to go of the stored chunk whose records are being read; 0 outside one.
    stored: u64,
    /// The connection read, its topic and type.
    chosen: Option<(u32, String, Message)>,
    others: Vec<String>,
    sensor: Option<Sensor>,
    words: Evt3,
    /// Where the index begins and how many chunks it lists, as the bag's header says; zeros of a bag that was not closed.
    index: (u64, u32),
    /// Chunks that the index listed so far.
    listed: u32,
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    let b = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// The field of that name in a record's header.
fn field<'a>(mut header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    loop {
        let n = u32_at(header, 0)? as usize;
        let (name_here, value) = {
            let f = header.get(4..n.checked_add(4)?)?;
            let split = f.iter().position(|&b| b == b'=')?;
            (&f[..split], &f[split + 1..])
        };
        if name_here == name.as_bytes() {
            return Some(value);
        }
        header = &header[n + 4..];
    }
}

/// Reads the fields of a message one behind the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n)?;
        self.0 = b;
        Some(a)
    }
    fn u32(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }
    fn text(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()?;
        self.take(n as usize)
    }
    /// The message's header, then height and width.
    fn sensor(&mut self) -> Option<Sensor> {
        self.take(12)?;
        self.text()?;
        let height = self.u32()?;
        let width = self.u32()?;
        Some(Sensor { width, height })
    }
}

impl BagDecoder {
    /// Reads the records in `bytes`, of a packed chunk all; how many bytes they are. An error comes with the place of its record.
    fn records(&mut self, bytes: &[u8], packed: bool, out: &mut Vec<Event>) -> Result<usize, (usize, String)> {
        let mut done = 0;
        loop {
            let (rest, inside) = (&bytes[done..], packed || self.stored > 0);
            let most = if self.stored > 0 { self.stored } else { LARGEST };
            let fits = |bytes: u64| match bytes <= most {
                true => Ok(()),
                false if inside => Err((done, "a chunk ends within a record".into())),
                false => Err((done, format!("a record of {bytes} bytes"))),
            };
            let Some(n) = u32_at(rest, 0) else { break };
            fits(8 + u64::from(n))?;
            let n = n as usize;
            let (Some(header), Some(m)) = (rest.get(4..4 + n), u32_at(rest, 4 + n)) else { break };
            let op = field(header, "op").and_then(|v| v.first().copied());
            if op == Some(5) && !inside && field(header, "compression") == Some(b"none") {
                self.stored = m.into();
                done += 8 + n;
                continue;
            }
            fits(8 + n as u64 + u64::from(m))?;
            let end = 8 + n + m as usize;
            let Some(data) = rest.get(8 + n..end) else { break };
            let read = match op {
                Some(5) if !inside => self.chunk(header, data, out),
                Some(7) => {
                    self.connection(header, data);
                    Ok(())
                }
                Some(2) => self.message(header, data, out),
                Some(3) if !inside => {
                    let position = field(header, "index_pos").and_then(|v| Some(u64::from_le_bytes(v.try_into().ok()?)));
                    let chunks = field(header, "chunk_count").and_then(|v| u32_at(v, 0));
                    self.index = (position.unwrap_or(0), chunks.unwrap_or(0));
                    Ok(())
                }
                Some(6) if !inside => {
                    self.listed += 1;
                    Ok(())
                }
                Some(_) => Ok(()),
                None => Err("a record without an op".into()),
            };
            read.map_err(|e| (done, e))?;
            done += end;
            self.stored = self.stored.saturating_sub(end as u64);
        }
        match packed && done < bytes.len() {
            true => Err((done, "a chunk ends within a record".into())),
            false => Ok(done),
        }
    }

    /// Reads a chunk that is packed.
    fn chunk(&mut self, header: &[u8], data: &[u8], out: &mut Vec<Event>) -> Result<(), String> {
        match field(header, "compression").unwrap_or_default() {
            b"lz4" => {
                let mut bytes = Vec::new();
                let end = lz4::unpack(data, LARGEST, &mut bytes);
                // Those of the blocks before damage are read.
                let read = self.records(&bytes, true, out);
                end.and(read.map(|_| ()).map_err(|e| e.1))
            }
            other => {
                let other = String::from_utf8_lossy(other);
                Err(format!("a chunk compressed by {other}; none and lz4 are read"))
            }
        }
    }

    /// Reads what is there of a packed chunk within which the file ends.
    fn cut_chunk(&mut self, record: &[u8], out: &mut Vec<Event>) -> Option<()> {
        let n = u32_at(record, 0)? as usize;
        let (header, data) = (record.get(4..4 + n)?, record.get(8 + n..)?);
        if self.stored == 0 && field(header, "op")?.first() == Some(&5) {
            // The error is that the file ends here.
            let _ = self.chunk(header, data, out);
        }
        Some(())
    }

    fn connection(&mut self, header: &[u8], data: &[u8]) {
        let message = match field(data, "type") {
            Some(b"dvs_msgs/EventArray" | b"prophesee_event_msgs/EventArray") => Message::Array,
            Some(b"event_camera_msgs/EventPacket") => Message::Packet,
            _ => return,
        };
        let Some(id) = field(header, "conn").and_then(|v| u32_at(v, 0)) else {
            return;
        };
        let topic = field(header, "topic").unwrap_or_default();
        let topic = String::from_utf8_lossy(topic).into_owned();
        match &self.chosen {
            None => self.chosen = Some((id, topic, message)),
            Some((_, chosen, _)) => {
                if *chosen != topic && !self.others.contains(&topic) && self.others.len() < 20 {
                    self.others.push(topic);
                }
            }
        }
    }

    fn message(&mut self, header: &[u8], data: &[u8], out: &mut Vec<Event>) -> Result<(), String> {
        let conn = field(header, "conn").and_then(|v| u32_at(v, 0));
        let Some((_, _, message)) = self.chosen.as_ref().filter(|c| Some(c.0) == conn) else {
            return Ok(());
        };
        let mut fields = Fields(data);
        let cut = "a message ends too early";
        self.sensor = Some(fields.sensor().ok_or(cut)?);
        match message {
            Message::Array => {
                let n = fields.u32().ok_or(cut)? as usize;
                let (events, _) = fields.0.as_chunks::<13>();
                let events = events.get(..n).ok_or(cut)?;
                out.extend(events.iter().map(|b| {
                    let time = |at: usize| i64::from(u32_at(b, at).unwrap_or(0));
                    Event {
                        t: time(4) * 1_000_000 + time(8) / 1000,
                        x: u16::from_le_bytes([b[0], b[1]]),
                        y: u16::from_le_bytes([b[2], b[3]]),
                        p: b[12] != 0,
                    }
                }));
            }
            Message::Packet => {
                fields.take(16).ok_or(cut)?;
                let encoding = fields.text().ok_or(cut)?;
                if encoding != b"evt3" {
                    let encoding = String::from_utf8_lossy(encoding).into_owned();
                    return Err(format!("packets of encoding `{encoding}`; evt3 is read"));
                }
                fields.take(1).ok_or(cut)?;
                self.words.words(fields.text().ok_or(cut)?, out);
            }
        }
        Ok(())
    }

    fn consume(&mut self, bytes: &[u8], offset: u64, out: &mut Vec<Event>) -> Result<usize, DecodeError> {
        let mut done = 0;
        if !self.begun {
            let n = bytes.len().min(MAGIC.len());
            if bytes[..n] != MAGIC[..n] {
                return Err(DecodeError::new(offset, "does not begin with `#ROSBAG V2.0`"));
            }
            if n < MAGIC.len() {
                return Ok(0);
            }
            self.begun = true;
            done = n;
        }
        let at = offset + done as u64;
        let n = self.records(&bytes[done..], false, out);
        Ok(done + n.map_err(|(n, e)| DecodeError::new(at + n as u64, e))?)
    }
}

impl Decoder for BagDecoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let mut carry = std::mem::take(&mut self.carry);
        let result = carry.feed(bytes, |bytes, at| self.consume(bytes, at, out));
        self.carry = carry;
        result
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let carry = std::mem::take(&mut self.carry);
        self.cut_chunk(carry.rest(), out);
        self.carry = carry;
        let (at, rest) = (self.carry.offset(), self.carry.rest().len());
        match (self.begun, rest, &self.chosen) {
            (false, ..) => Err(DecodeError::new(at, "the file ends within its first line")),
            (_, 1.., _) => Err(DecodeError::new(at, "the file ends within a record")),
            _ if self.stored > 0 => {
                Err(DecodeError::new(at, format!("the file ends {} bytes before its last chunk does", self.stored)))
            }
            _ if self.index.0 > at => Err(DecodeError::new(
                at,
                format!("the file ends here; its header says that its index begins at byte {}", self.index.0),
            )),
            _ if self.index.0 > 0 && self.listed < self.index.1 => {
                let what = format!("the file ends within its index, which lists {} of {} chunks", self.listed, self.index.1);
                Err(DecodeError::new(at, what))
            }
            (_, _, None) => {
                let what = "a bag without dvs_msgs/EventArray or event_camera_msgs/EventPacket";
                Err(DecodeError::new(at, what))
            }
            _ => Ok(()),
        }
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn warnings(&self) -> Vec<String> {
        match (&self.chosen, self.others.is_empty()) {
            (Some((_, topic, _)), false) => {
                vec![format!("the events of topic {topic} are read; left out: {}", self.others.join(", "))]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, testing::in_pieces};
    use super::*;

    fn rec(fields: &[(&str, &[u8])], data: &[u8]) -> Vec<u8> {
        let mut header = Vec::new();
        for (k, v) in fields {
            header.extend(((k.len() + 1 + v.len()) as u32).to_le_bytes());
            header.extend([k.as_bytes(), b"=", v].concat());
        }
        let (n, m) = (header.len() as u32, data.len() as u32);
        [&n.to_le_bytes()[..], &header, &m.to_le_bytes(), data].concat()
    }

    const CONNECTION: [u8; 4] = [0; 4];

    fn connection() -> Vec<u8> {
        let kind = rec(&[("type", b"dvs_msgs/EventArray")], &[]);
        rec(&[("op", &[7]), ("topic", b"/dvs"), ("conn", &CONNECTION)], &kind[4..kind.len() - 4])
    }

    /// A message of one event, at `x` and one second and a microsecond.
    fn message(x: u8) -> Vec<u8> {
        let mut message = vec![0; 12];
        for v in [0u32, 20, 30, 1] {
            message.extend(v.to_le_bytes());
        }
        message.extend([x, 0, 9, 0, 1, 0, 0, 0, 0xe8, 3, 0, 0, 1]);
        rec(&[("op", &[2]), ("conn", &CONNECTION)], &message)
    }

    fn chunk(compression: &str, records: &[Vec<u8>]) -> Vec<u8> {
        rec(&[("op", &[5]), ("compression", compression.as_bytes())], &records.concat())
    }

    fn bag(compression: &str) -> Vec<u8> {
        [MAGIC, &rec(&[("op", &[3])], b"    "), &chunk(compression, &[connection(), message(7)])].concat()
    }

    #[test]
    fn event_arrays() {
        let want = vec![Event { t: 1_000_001, x: 7, y: 9, p: true }];
        for piece in [1, 10, 1000] {
            assert_eq!(in_pieces(&FORMAT, &bag("none"), piece), (want.clone(), Ok(())));
        }
        assert!(decode(&FORMAT, &bag("bz2")).unwrap_err().message.contains("bz2"));
        let bytes = bag("none");
        assert!(decode(&FORMAT, &bytes[..bytes.len() - 1]).unwrap_err().message.contains("within a record"));
    }

    /// A bag that is cut between two records is told by what its header says of the index; one that was not closed is not.
    #[test]
    fn cut_between_records() {
        let of = |position: u64, chunks: u32| {
            let header =
                rec(&[("op", &[3]), ("index_pos", &position.to_le_bytes()), ("chunk_count", &chunks.to_le_bytes())], b" ");
            [MAGIC, &header].concat()
        };
        let chunks = [chunk("none", &[connection(), message(1)]), chunk("none", &[message(2)])];
        let listed = rec(&[("op", &[6])], b"chunk");
        let at = of(0, 2).len() + chunks.concat().len();
        let end = |head: &[u8], parts: &[&[u8]]| {
            let (events, end) = in_pieces(&FORMAT, &[head, &parts.concat()].concat(), 50);
            (events.len(), end.map_err(|e| e.to_string()))
        };
        let (head, [one, two]) = (of(at as u64, 2), &chunks);
        assert_eq!(end(&head, &[one, two, &connection(), &listed, &listed]), (2, Ok(())));
        assert_eq!(end(&of(0, 0), &[one]), (1, Ok(())));
        let said = format!("the file ends here; its header says that its index begins at byte {at}");
        assert_eq!(end(&head, &[one]), (1, Err(format!("byte {}: {said}", head.len() + one.len()))));
        assert_eq!(end(&head, &[]), (0, Err(format!("byte {}: {said}", head.len()))));
        for n in 0..2 {
            let index = listed.repeat(n);
            let said = format!("byte {}: the file ends within its index, which lists {n} of 2 chunks", at + index.len());
            assert_eq!(end(&head, &[one, two, &index]), (2, Err(said)));
        }
    }

    /// Of a stored chunk that is cut off the records before the cut are read, wherever it is; one that is too short for its records
    /// is told from that.
    #[test]
    fn cut_chunks() {
        let event = |x: u8| Event { t: 1_000_001, x: x.into(), y: 9, p: true };
        let head = [MAGIC, &rec(&[("op", &[3])], b"    ")].concat();
        let index = rec(&[("op", &[4])], b"index");
        let whole = [&head, &chunk("none", &[connection(), message(1), message(2)]), &index, &chunk("none", &[message(3)])];
        let whole: Vec<u8> = whole.into_iter().flatten().copied().collect();
        let len = message(1).len();
        let second = whole.len() - len - (chunk("none", &[]).len() + index.len()) - len;
        for piece in [1, 9, 10_000] {
            let ends = |n: usize| in_pieces(&FORMAT, &whole[..n], piece);
            assert_eq!(ends(whole.len()), (vec![event(1), event(2), event(3)], Ok(())));
            for n in second + 1..second + len {
                let said = DecodeError::new(second as u64, "the file ends within a record");
                assert_eq!(ends(n), (vec![event(1)], Err(said)), "{n}");
            }
            let said = DecodeError::new(second as u64, format!("the file ends {len} bytes before its last chunk does"));
            assert_eq!(ends(second), (vec![event(1)], Err(said)));
        }
        // The chunk's own length is wrong.
        let at = head.len() + chunk("none", &[]).len() - 4;
        let long = connection().len() + 2 * len;
        for (less, read) in [(1, 1), (len - 1, 1), (len + 3, 0), (len + 5, 0)] {
            let mut short = whole.clone();
            short[at..at + 4].copy_from_slice(&((long - less) as u32).to_le_bytes());
            for piece in [1, 10_000] {
                let (events, end) = in_pieces(&FORMAT, &short, piece);
                let want = (second - (1 - read) * len) as u64;
                assert_eq!((events.len(), end), (read, Err(DecodeError::new(want, "a chunk ends within a record"))), "{less}");
            }
        }
        // Of a packed chunk the whole blocks: here of 64 KiB each, about half of the records.
        let many: Vec<Vec<u8>> = [connection()].into_iter().chain((0..2000).map(|i| message(i as u8))).collect();
        let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(
            lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB),
            Vec::new(),
        );
        std::io::Write::write_all(&mut frame, &many.concat()).unwrap();
        let packed = [&head[..], &chunk("lz4", &[frame.finish().unwrap()])].concat();
        let all: Vec<Event> = (0..2000).map(|i| event(i as u8)).collect();
        for piece in [100, 1 << 20] {
            assert_eq!(in_pieces(&FORMAT, &packed, piece), (all.clone(), Ok(())));
            let (found, end) = in_pieces(&FORMAT, &packed[..packed.len() - 50], piece);
            assert_eq!(end, Err(DecodeError::new(head.len() as u64, "the file ends within a record")));
            assert!(all.starts_with(&found) && (500..2000).contains(&found.len()), "{}", found.len());
        }
        let endless = [&head[..], &[0xff; 4]].concat();
        assert!(decode(&FORMAT, &endless).unwrap_err().message.contains("a record of 4294967303 bytes"));
    }
}
