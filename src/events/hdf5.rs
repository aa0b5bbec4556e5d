//! HDF5 files: event arrays, and the spike trains of SHD and SSC.
//!
//! Events are the first group (the root first, then by name, three levels deep) with vectors named like t, x, y and p, or the
//! first vector of compound elements, N x 4 or 4 x N matrix of them: `raw_events/{t,x,y,p}`, DSEC's and MVSEC's layouts,
//! Prophesee's `CD/events` where it is not compressed by their own codec, MATLAB 7.3 (ST-MNIST's `spiketrain` too). Where several
//! groups have events (the cameras of a stereo recording) the others are named, and [`Decoder::stream`] chooses the first whose path is
//! or holds the name given: `davis/right/events`, or `right`. Deflate, LZF, shuffle,
//! Fletcher, scale-offset, n-bit and SZIP filters are read; of others the error says the name and a way round. Spike trains come by [`spike_trains`].
//!
//! The sensor's size is that of the root's attributes `geometry`, `width` and `height`, `sensor_size` or `sensor_resolution`.
//!
//! Of a file that is cut off, or whose chunks are damaged, the events come out whose columns are all there: those before the end of
//! an array in one piece, those in whole chunks before the first that is not; and the spike trains before the first whose times, units
//! or label are not there. An array whose header or index is lost is lost. What is said of a cut is where the file ends and how long its
//! superblock says that it was.

use super::columns::{By, Order};
use super::mat::{self, Matrix};
use super::numbers::{self, Kind, Numbers, Told};
use super::{DecodeError, Decoder, Event, Format, Sensor};
use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::messages::{HdfMessage, layout::DataLayout};
use hdf5_reader::{ByteOrder, Dataset, Datatype, FilterRegistry, Hdf5File, OpenOptions};

/// The format.
pub static FORMAT: Format = Format {
    name: "hdf5",
    about: "HDF5 of events (t, x, y, p), MATLAB 7.3",
    extensions: &["h5", "hdf5", "mat"],
    sniff: |head, _| head.starts_with(MAGIC) || head.get(512..).is_some_and(|h| h.starts_with(MAGIC)),
    decoder: || Box::<Hdf5Decoder>::default(),
    encode: None,
    keeps_sensor: false,
    marked: true,
};

const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";
/// No more is read of one array than a file could hold of it deflated.
const MOST_INFLATED: usize = 1032;
/// The number under which h5py's LZF filter is registered.
const LZF: u16 = 32000;
/// Two bytes of LZF make at most 264.
const MOST_LZF: usize = 132;
/// How deep groups are searched.
const DEEPEST: usize = 3;
/// How many groups are searched.
const MOST_GROUPS: usize = 1000;

/// Where a set of spike trains has their times.
const TIMES: &str = "spikes/times";

/// The spikes of one sample of a set of spike trains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpikeTrain {
    /// When, in seconds.
    pub times: Vec<f32>,
    /// Which unit, from 0.
    pub units: Vec<u16>,
}

/// A set of spike trains as SHD and SSC are published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpikeTrains {
    /// The samples.
    pub trains: Vec<SpikeTrain>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// Why no more samples could be read, where the file is cut off or damaged.
    pub damage: Option<DecodeError>,
}

/// Reads `spikes/times`, `spikes/units` and `labels` of a file in memory; of a damaged one the samples before the damage.
///
/// # Errors
/// A sentence on what is missing or damaged, and where the file ends, where there is no whole sample.
pub fn spike_trains(file: Vec<u8>) -> Result<SpikeTrains, DecodeError> {
    let len = file.len() as u64;
    let mut out = SpikeTrains::default();
    match guarded(|| trains(file, &mut out)) {
        Err(what) if out.trains.is_empty() => Err(DecodeError::new(len, what)),
        result => {
            out.damage = result.err().map(|what| DecodeError::new(len, what));
            Ok(out)
        }
    }
}

/// Whether a file in memory is laid out as a set of spike trains, whole or damaged.
pub fn holds_spike_trains(file: Vec<u8>) -> bool {
    guarded(|| open(file)?.dataset(TIMES).map(|_| ()).map_err(|e| e.to_string())).is_ok()
}

/// Runs `read`. The container's reader is not ours; should damaged bytes make it panic, that is an error like any other.
fn guarded(read: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    result.unwrap_or_else(|_| Err("a damaged HDF5 file".into())).map_err(|e| explained(&e))
}

fn trains(bytes: Vec<u8>, out: &mut SpikeTrains) -> Result<(), String> {
    let len = bytes.len() as u64;
    let file = open(bytes)?;
    let cut = cut(&file, len);
    let mut damage = None;
    let found = samples(&file, &mut damage, out);
    // Where a file is cut, whatever else is wrong comes of it.
    cut.or(damage).or(found.err()).map_or(Ok(()), Err)
}

/// The samples up to the first that is not whole.
fn samples(file: &Hdf5File, damage: &mut Option<String>, out: &mut SpikeTrains) -> Result<(), String> {
    let dataset = |name: &str| {
        file.dataset(name).map_err(|e| match &e {
            Error::Context { source, .. } if matches!(**source, Error::DatasetNotFound(_)) => {
                format!("a set of spike trains without `{name}`")
            }
            _ => e.to_string(),
        })
    };
    let labels = vector(file, &dataset("labels")?, damage)?;
    let times = Sequences::new(file, dataset(TIMES)?, damage)?;
    let units = Sequences::new(file, dataset("spikes/units")?, damage)?;
    let n = [times.len(), units.len(), labels.len()];
    if damage.is_none() && n != [n[0]; 3] {
        return Err(format!("{} times, {} units and {} labels", n[0], n[1], n[2]));
    }
    // A damaged file may name one long sequence for every sample.
    let mut left = file.storage().len();
    for i in 0..n.into_iter().min().unwrap_or(0) {
        let (t, u) = (times.read(i, &mut left)?, units.read(i, &mut left)?);
        let units: Option<Vec<u16>> = (0..u.len()).map(|k| u.whole(k)?.try_into().ok()).collect();
        let times: Vec<f32> = (0..t.len()).filter_map(|k| t.get(k)).map(|t| t as f32).collect();
        let label = labels.whole(i).and_then(|l| u32::try_from(l).ok());
        let (Some(units), Some(label), true) = (units, label, t.len() == u.len()) else {
            return Err(format!("sample {i}: its times, units and label do not fit"));
        };
        out.trains.push(SpikeTrain { times, units });
        out.labels.push(label);
    }
    Ok(())
}

fn open(bytes: Vec<u8>) -> Result<Hdf5File, String> {
    let most = bytes.len().saturating_mul(MOST_INFLATED).min(1 << 36);
    let mut filters = FilterRegistry::new();
    filters.register(LZF, Box::new(|filter, data, _| unpack_lzf(&filter.client_data, data)));
    let options = OpenOptions::default()
        .with_filter_registry(filters)
        .with_max_chunk_bytes(most.min(1 << 28))
        .with_max_read_bytes(most)
        .with_max_object_header_bytes(bytes.len().min(1 << 24));
    // No more than the superblock is read here.
    Hdf5File::from_vec_with_options(bytes, options).map_err(|e| match e {
        Error::UnexpectedEof { .. } => "the file is cut off here, within its superblock".into(),
        e => e.to_string(),
    })
}

/// h5py's LZF filter: the third of its parameters is the length of a chunk.
fn unpack_lzf(parameters: &[u32], data: &[u8]) -> Result<Vec<u8>, Error> {
    let most = data.len().saturating_mul(MOST_LZF);
    let len = parameters.get(2).map_or(most, |&n| most.min(n as usize));
    lzf::decompress(data, len).map_err(|e| Error::FilterError(format!("LZF: {e:?}")))
}

/// The filters that are met but not read, by their registered numbers.
const UNREAD: [(&str, &str); 5] =
    [("36559", "Prophesee's ECF codec"), ("32001", "Blosc"), ("32026", "Blosc 2"), ("32015", "Zstandard"), ("307", "bzip2")];

/// What a reader can do about an error of the container's reader.
fn explained(e: &str) -> String {
    // Which says one thing three times.
    let e = e.replace("decompression error: DEFLATE decompression failed: deflate decompression error", "damaged deflate data");
    match e.split_once("unsupported filter: filter id ") {
        None => e,
        Some((place, id)) => {
            let name = UNREAD.iter().find(|u| u.0 == id).map_or("a codec", |u| u.1);
            format!(
                "{place}compressed by {name} (HDF5 filter {id}), which is not read; where its plugin is installed, \
                 `h5repack -f GZIP=4 IN OUT` makes a file that is"
            )
        }
    }
}

/// The kind of numbers of a type.
fn kind(t: &Datatype) -> Option<Kind> {
    let (float, signed, size, order) = match t {
        Datatype::FixedPoint { size, signed, byte_order } => (false, *signed, *size, byte_order),
        Datatype::FloatingPoint { size, byte_order } => (true, true, *size, byte_order),
        Datatype::Bitfield { size, byte_order } => (false, false, *size, byte_order),
        Datatype::Enum { base, .. } => return kind(base),
        _ => return None,
    };
    let known = if float { [2, 4, 8].contains(&size) } else { (1..=8).contains(&size) };
    known.then_some(Kind { float, signed, size: size.into(), big: *order == ByteOrder::BigEndian })
}

/// The bytes of an array, as far as they are there, and how many elements that are; why not all are there is put into `damage`.
fn raw(file: &Hdf5File, d: &Dataset, damage: &mut Option<String>) -> Result<(Vec<u8>, usize), String> {
    let whole = || {
        let n = usize::try_from(d.num_elements().map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        d.read_raw_bytes().map(|bytes| (bytes, n)).map_err(|e| e.to_string())
    };
    whole().or_else(|e| {
        let size = d.raw_element_size().map_err(|e| e.to_string())?;
        let bytes = beginning(file, d, size).unwrap_or_default();
        damage.get_or_insert(e);
        let n = bytes.len() / size.max(1);
        Ok((bytes, n))
    })
}

/// The numbers of an array, as [`raw`].
fn vector(file: &Hdf5File, d: &Dataset, damage: &mut Option<String>) -> Result<Numbers, String> {
    let kind = kind(d.dtype()).ok_or_else(|| format!("{} holds no numbers", d.name()))?;
    let (bytes, n) = raw(file, d, damage)?;
    Ok(kind.read(&bytes, 0, kind.size, n))
}

/// An array of sequences of unequal length: references into heaps elsewhere in the file.
struct Sequences {
    dataset: Dataset,
    kind: Kind,
    references: Vec<u8>,
}

impl Sequences {
    fn new(file: &Hdf5File, dataset: Dataset, damage: &mut Option<String>) -> Result<Self, String> {
        let Datatype::VarLen { base, .. } = dataset.dtype() else {
            return Err(format!("{} holds no sequences of unequal length", dataset.name()));
        };
        let kind = kind(base).ok_or_else(|| format!("{} holds no numbers", dataset.name()))?;
        let (references, _) = raw(file, &dataset, damage)?;
        Ok(Sequences { dataset, kind, references })
    }
    fn len(&self) -> usize {
        self.references.len() / self.dataset.vlen_reference_size()
    }
    /// Sequence `i`, whose bytes are taken from those that are `left`.
    fn read(&self, i: usize, left: &mut u64) -> Result<Numbers, String> {
        let size = self.dataset.vlen_reference_size();
        let reference = &self.references[i * size..(i + 1) * size];
        let bytes = self.dataset.resolve_vlen_reference_bytes(reference, self.kind.size).map_err(|e| e.to_string())?;
        let enough = left.checked_sub(bytes.len() as u64);
        *left = enough.ok_or_else(|| format!("{} has sequences of more bytes than the file", self.dataset.name()))?;
        Ok(self.kind.read(&bytes, 0, self.kind.size, bytes.len() / self.kind.size))
    }
}

/// Decoder of events in HDF5 files.
#[derive(Debug, Default)]
pub struct Hdf5Decoder {
    bytes: Vec<u8>,
    order: Option<Order>,
    stream: Option<String>,
    sensor: Option<Sensor>,
    told: Told,
}

/// A file in which events are looked for, and what was met on the way.
struct Search {
    file: Hdf5File,
    order: Option<Order>,
    /// Which of several streams.
    stream: Option<String>,
    left: usize,
    seen: Vec<String>,
    /// The path of the stream that was taken, and of others like it.
    taken: Option<String>,
    others: Vec<String>,
    sensor: Option<Sensor>,
    told: Told,
    /// Why an array is not all there.
    damage: Option<String>,
}

impl Search {
    fn raw(&mut self, d: &Dataset) -> Result<(Vec<u8>, usize), String> {
        raw(&self.file, d, &mut self.damage)
    }

    /// Whether the stream at `path` is to be read; else, if it is like the one that was, it is noted.
    fn takes(&mut self, path: &str) -> bool {
        let asked = self.stream.as_deref().is_none_or(|name| {
            let name = name.trim_matches('/');
            format!("/{path}/").contains(&format!("/{name}/"))
        });
        if asked && self.taken.is_none() {
            self.taken = Some(path.to_owned());
            return true;
        }
        self.others.push(path.to_owned());
        false
    }

    fn columns(&mut self, [t, x, y, p]: [&Numbers; 4], order: &Order, out: &mut Vec<Event>) -> Result<(), String> {
        numbers::events([t, x, y, p], (order, By::Names), self.order, out, &mut self.told)
    }

    /// Reads the events among the arrays of the group at `path`, or notes that there are some.
    fn group_events(&mut self, path: &str, arrays: &[Dataset], out: &mut Vec<Event>) -> Result<(), String> {
        let names = arrays.iter().map(|d| last(d.name()));
        if let Some(order) = Order::named(names) {
            if self.takes(path) {
                let [t, x, y, p] = order.at.map(|i| vector(&self.file, &arrays[i], &mut self.damage));
                self.columns([&t?, &x?, &y?, &p?], &order, out)?;
            }
            return Ok(());
        }
        for d in arrays {
            let path = join(path, last(d.name()));
            if let (Datatype::Compound { fields, .. }, [_]) = (d.dtype(), d.shape())
                && let Some(order) = Order::named(fields.iter().map(|f| f.name.as_str()))
            {
                if !self.takes(&path) {
                    continue;
                }
                let (bytes, n) = self.raw(d)?;
                let size = d.raw_element_size().map_err(|e| e.to_string())?;
                let mut columns = <[Numbers; 4]>::default();
                for (column, &i) in columns.iter_mut().zip(&order.at) {
                    let kind = kind(&fields[i].datatype).ok_or("compound elements without numbers")?;
                    *column = kind.read(&bytes, fields[i].byte_offset as usize, size, n);
                }
                let [t, x, y, p] = &columns;
                self.columns([t, x, y, p], &order, out)?;
                continue;
            }
            let (Some(kind), &[rows, columns]) = (kind(d.dtype()), d.shape()) else { continue };
            let train = last(d.name()) == "spiketrain" && columns == 101;
            if !train && rows != 4 && columns != 4 {
                continue;
            }
            // A table is known for events by its values, which are read of one stream only; others like it bear its name.
            if let Some(taken) = &self.taken {
                if last(taken) == last(&path) {
                    self.others.push(path);
                }
                continue;
            }
            let others = self.others.len();
            if !self.takes(&path) {
                // Any four columns may lie beside events.
                if !last(&path).contains("event") {
                    self.others.truncate(others);
                }
                continue;
            }
            let (bytes, n) = self.raw(d)?;
            let found = if train {
                self.sensor = Some(mat::TOUCH);
                // MATLAB's columns are rows here.
                let data = kind.read(&bytes, 0, kind.size, n);
                mat::spike_train(&Matrix { name: "spiketrain".into(), shape: vec![101, rows as usize], data }, out)
            } else {
                // From column to column, and from row to row.
                let (rows, steps) = if columns == 4 { (n / 4, [1, 4]) } else { (columns as usize, [columns as usize, 1]) };
                let column = |c: usize| kind.read(&bytes, (c * kind.size).saturating_mul(steps[0]), steps[1] * kind.size, rows);
                mat::four(&[0, 1, 2, 3].map(column), self.order, out, &mut self.told)
            };
            if found.is_err() && out.is_empty() {
                // A table of something else.
                (self.taken, self.told) = (None, Told::default());
            } else {
                found?;
            }
        }
        Ok(())
    }

    fn group(&mut self, path: &str, group: &Group, depth: usize, out: &mut Vec<Event>) -> Result<(), String> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        // One member that lies behind the end of a cut file hides all: those that usually hold events are then asked for by name.
        let (groups, arrays) = group.members().or_else(|e| {
            let groups: Vec<Group> = GROUPS.iter().filter_map(|n| group.group(n).ok()).collect();
            let arrays: Vec<Dataset> = ARRAYS.iter().filter_map(|n| group.dataset(n).ok()).collect();
            if groups.is_empty() && arrays.is_empty() {
                return Err(e.to_string());
            }
            // Said even where the file has its length: what was not listed may have been events too.
            self.damage.get_or_insert_with(|| e.to_string());
            Ok((groups, arrays))
        })?;
        self.group_events(path, &arrays, out)?;
        let names = arrays.iter().map(|d| format!("{} {:?}", join(path, last(d.name())), d.shape()));
        self.seen.extend(names.take(20usize.saturating_sub(self.seen.len())));
        if depth < DEEPEST {
            for g in &groups {
                let result = self.group(&join(path, last(g.name())), g, depth + 1, out);
                // What cannot be read behind the events does not matter to them.
                if self.taken.is_none() {
                    result?;
                }
            }
        }
        Ok(())
    }

    fn events(&mut self, out: &mut Vec<Event>) -> Result<(), String> {
        let root = self.file.root_group().map_err(|e| e.to_string())?;
        self.group("", &root, 0, out)?;
        let others = self.others.join(", ");
        match (&self.taken, &self.stream) {
            (Some(_), Some(_)) => return Ok(()),
            (Some(taken), None) => {
                if !others.is_empty() {
                    let note = format!("events of `{taken}`; there are others, which --stream chooses: {others}");
                    self.told.notes.push(note);
                }
                return Ok(());
            }
            (None, Some(name)) if !others.is_empty() => {
                return Err(format!("no event stream `{name}`; there are {others}"));
            }
            _ => {}
        }
        if self.file.dataset(TIMES).is_ok() {
            return Err("a set of spike trains (as SHD and SSC), not one recording".into());
        }
        let seen = std::mem::take(&mut self.seen);
        let seen: Vec<Matrix> = seen.into_iter().map(|name| Matrix { name, ..Matrix::default() }).collect();
        // Nothing to find among empty variables: the sentence that says what there is.
        mat::find(&seen, None, out, &mut Told::default())
    }
}

/// What groups that hold events are usually called.
const GROUPS: [&str; 8] = ["events", "raw_events", "CD", "dvs", "davis", "prophesee", "left", "right"];
/// And what arrays are.
const ARRAYS: [&str; 15] =
    ["events", "t", "x", "y", "p", "ts", "xs", "ys", "ps", "time", "timestamp", "timestamps", "pol", "polarity", "polarities"];

/// The path of `name` in the group at `path`.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// Says that a file of `len` bytes was longer; none where it is not cut off.
fn cut(file: &Hdf5File, len: u64) -> Option<String> {
    let whole = file.superblock().eof_address;
    (whole > len).then(|| format!("the file is cut off here; its superblock says that it has {whole} bytes"))
}

fn read(bytes: Vec<u8>, d: &mut Hdf5Decoder, out: &mut Vec<Event>) -> Result<(), String> {
    let len = bytes.len() as u64;
    let file = open(bytes)?;
    let cut = cut(&file, len);
    let mut s = Search {
        file,
        order: d.order,
        stream: d.stream.take(),
        left: MOST_GROUPS,
        seen: Vec::new(),
        taken: None,
        others: Vec::new(),
        sensor: None,
        told: Told::default(),
        damage: None,
    };
    let found = s.events(out);
    if let (None, Some((sensor, whence))) = (s.sensor, declared(&s.file, out)) {
        s.sensor = Some(sensor);
        s.told.read_as = s.told.read_as.map(|told| format!("{told}; sensor by {whence}"));
    }
    (d.told, d.sensor) = (s.told, s.sensor);
    // Where a file is cut, whatever else is wrong comes of it.
    cut.or(s.damage).or(found.err()).map_or(Ok(()), Err)
}

/// The sensor's size by the root's attributes, and by which: the text `geometry` (Prophesee's `1280x720`), `width` and `height`, or two
/// numbers, which some write as width and height and others (e2vid's `sensor_resolution`) as height and width. Those are taken only where
/// the events fit one way alone.
fn declared(file: &Hdf5File, events: &[Event]) -> Option<(Sensor, String)> {
    let attributes = file.root_group().ok()?.attributes().ok()?;
    let named = |name: &str| attributes.iter().find(|a| a.name == name);
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let a = named(name)?;
        let kind = kind(&a.datatype)?;
        let found = kind.read(&a.raw_data, 0, kind.size, 3);
        (0..found.len()).map(|i| u32::try_from(found.whole(i)?).ok().filter(|n| (1..=1 << 16).contains(n))).collect()
    };
    let text = named("geometry").and_then(|a| a.read_string().ok());
    if let Some((w, h)) = text.as_deref().and_then(|t| t.trim_matches(['\0', ' ']).split_once('x'))
        && let (Ok(w @ 1..=65_536), Ok(h @ 1..=65_536)) = (w.parse(), h.parse())
    {
        return Some((Sensor::new(w, h), "the attribute `geometry`".into()));
    }
    if let (Some([w]), Some([h])) = (numbers("width").as_deref(), numbers("height").as_deref()) {
        return Some((Sensor::new(*w, *h), "the attributes `width` and `height`".into()));
    }
    let seen = Sensor::around(events);
    let fits = |w: u32, h: u32| seen.width <= w && seen.height <= h;
    ["geometry", "sensor_size", "sensor_resolution"].iter().find_map(|name| {
        let [a, b] = numbers(name)?[..] else { return None };
        let (sensor, order) = match (fits(a, b), fits(b, a)) {
            (true, both) if !both || a == b => (Sensor::new(a, b), "width and height"),
            (false, true) => (Sensor::new(b, a), "height and width"),
            _ => return None,
        };
        Some((sensor, format!("the attribute `{name}`, {order}")))
    })
}

/// What is there of an array's beginning, in whole elements (rows of a table); none where its kind of storage does not let it be
/// told.
fn beginning(file: &Hdf5File, d: &Dataset, size: usize) -> Option<Vec<u8>> {
    let header = file.get_or_parse_header(d.address()).ok()?;
    let layout = header.messages.iter().find_map(|m| match m {
        HdfMessage::DataLayout(l) => Some(&l.layout),
        _ => None,
    })?;
    match layout {
        DataLayout::Compact { .. } => None,
        DataLayout::Contiguous { address, size } => {
            let there = file.storage().len().checked_sub(*address)?.min(*size);
            file.storage().read_range(*address, usize::try_from(there).ok()?).ok().map(|b| b.to_vec())
        }
        DataLayout::Chunked { .. } => whole_chunks(d, size),
    }
}

/// The rows before the first chunk that is not there; none of an array that is neither a vector nor a table of four columns.
fn whole_chunks(d: &Dataset, size: usize) -> Option<Vec<u8>> {
    // Along which axis the rows stand, and along which the columns. MATLAB keeps a vector as one row.
    let (along, across) = match *d.shape() {
        [_] => (0, None),
        [1, _] => (1, None),
        [_, 1 | 4] => (0, Some(1)),
        _ => return None,
    };
    let pair = |of: &[u64], without: usize| -> Option<[usize; 2]> {
        let at = |axis: usize| usize::try_from(*of.get(axis)?).ok();
        Some([at(along)?, across.map_or(Some(without), at)?])
    };
    let [rows, columns] = pair(d.shape(), 1)?;
    let (mut out, mut next) = (Vec::new(), [0, 0]);
    // They come row by row of the table of chunks.
    for chunk in d.iter_chunks().ok()? {
        let Ok(chunk) = chunk else { break };
        let (at, [height, width]) = (pair(chunk.offsets(), 0)?, pair(chunk.shape(), 1)?);
        if at != next {
            break;
        }
        let n = height.min(rows.saturating_sub(at[0]));
        out.resize((at[0] + n) * columns * size, 0);
        let len = width.min(columns.saturating_sub(at[1])) * size;
        for r in 0..n {
            let (from, to) = (r * width * size, ((at[0] + r) * columns + at[1]) * size);
            out.get_mut(to..to + len)?.copy_from_slice(chunk.bytes().get(from..from + len)?);
        }
        next = if at[1] + width < columns { [at[0], at[1] + width] } else { [at[0] + height, 0] };
    }
    out.truncate(next[0].min(rows) * columns * size);
    Some(out)
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Decoder for Hdf5Decoder {
    fn columns(&mut self, order: Order) -> bool {
        self.order = Some(order);
        true
    }

    fn push(&mut self, bytes: &[u8], _: &mut Vec<Event>) -> Result<(), DecodeError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), DecodeError> {
        let bytes = std::mem::take(&mut self.bytes);
        let n = bytes.len() as u64;
        // A container with an index: there is no one place to point at but its end.
        guarded(|| read(bytes, self, out)).map_err(|e| DecodeError::new(n, e))
    }

    fn sensor(&self) -> Option<Sensor> {
        self.sensor
    }

    fn stream(&mut self, name: &str) -> bool {
        self.stream = Some(name.to_owned());
        true
    }

    fn skipped(&self) -> Option<DecodeError> {
        self.told.skipped(0)
    }

    fn read_as(&self) -> Option<String> {
        self.told.read_as.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.told.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    #[test]
    fn damage_is_said_once() {
        let mut bytes = include_bytes!("../../tests/data/cut_tiles.h5").to_vec();
        // A tile behind the header of its zlib stream.
        let at = bytes.windows(2).position(|w| w == b"\x78\x5e").unwrap();
        bytes[at + 2..at + 12].fill(0xff);
        let said = decode(&FORMAT, &bytes).unwrap_err();
        assert_eq!(said.message, "events: damaged deflate data");
    }

    #[test]
    fn what_is_no_hdf5_is_refused() {
        for bytes in [&b""[..], MAGIC, &[MAGIC, &[0xff; 600]].concat()] {
            assert!(decode(&FORMAT, bytes).is_err());
            assert!(spike_trains(bytes.to_vec()).is_err());
        }
    }
}
