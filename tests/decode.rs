//! Every recording of `counts.tsv` whose format is known decodes to the counts independent readers found.
//!
//! The recordings lie in `SPIKEMIX_DATA` (default `../shared/data`, else none of this runs).

use libtest_mimic::{Failed, Trial};
use spikemix::data::{DatasetSpec, Recording, Split};
use spikemix::events::columns::Order;
use spikemix::events::{EventStream, ReadOptions};
use spikemix::{data, events};
use std::path::{Path, PathBuf};

/// The folder of recordings.
pub fn data_dir() -> PathBuf {
    match std::env::var_os("SPIKEMIX_DATA") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// A trial per row of `counts.tsv`; ignored where the format has no decoder yet or there are no recordings.
pub fn trials() -> Vec<Trial> {
    let dir = data_dir();
    let Ok(table) = std::fs::read_to_string(dir.join("counts.tsv")) else {
        return vec![Trial::test("decode::recordings", || Ok(())).with_ignored_flag(true)];
    };
    let mut trials: Vec<_> = table
        .lines()
        .skip(1)
        .filter_map(|row| row.split_once('\t').map(|(file, rest)| (file.to_owned(), rest.to_owned())))
        .map(|(file, rest)| {
            let path = dir.join(&file);
            let head = head(&path);
            let known = events::sniff(&head, Some(&path)).is_some();
            Trial::test(format!("decode::{file}"), move || row(&path, &rest)).with_ignored_flag(!known)
        })
        .collect();
    // Hand-made files whose every valid bit is clear; the README of the recordings says how many events each holds.
    for (file, events) in [("aedat1_for_testing", 12), ("aedat2_led", 18), ("aedat3_fluorescent", 5)] {
        let path = dir.join(format!("formats/aedat31_{file}.aedat"));
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::{file}"), move || {
            let stream = events::open(&path, true).map_err(|e| e.to_string())?;
            same("events", stream.events.len(), events)
        });
        trials.push(trial.with_ignored_flag(missing));
    }
    for line in include_str!("data/peers.tsv").lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let path = dir.join("formats").join(columns[0]);
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::peer_{}", columns[0]), move || peer(&path, &columns));
        trials.push(trial.with_ignored_flag(missing));
    }
    let nmnist = dir.join("nmnist");
    let missing = !nmnist.is_dir();
    let trial = Trial::test("decode::nmnist", move || whole_nmnist(&nmnist));
    trials.push(trial.with_ignored_flag(missing));
    let checks: [(&str, &str, Check); 13] = [
        ("npy_is_evt3", "evt3_hd_decoded.npy", npy_is_evt3),
        ("hdf5_is_text", "raw_events.hdf5", hdf5_is_text),
        ("mat_st_mnist", "stmnist.mat", st_mnist),
        ("rosbag", "ros1_eventpacket_evt3.bag", rosbag),
        ("headless_evt2", "evt2_words_no_header.bin", headless_evt2),
        ("cochlea_is_refused", "aedat2_cochlea_vowels.aedat", cochlea),
        ("header_only", "aedat2_header_only.aedat", header_only),
        ("aedat4_empty_stereo", "empty_stereo.aedat4", empty_stereo),
        ("es_generic_is_refused", "generic.es", generic_es),
        ("text_seconds", "raw_events.txt", text_seconds),
        ("text_terminator", "mnist_dvs_window.txt", text_terminator),
        ("conversions", "davis346_small_lz4.aedat4", conversions),
        ("conversions_dat", "ncars.dat", conversions),
    ];
    for (name, file, check) in checks {
        let path = dir.join("formats").join(file);
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::{name}"), move || check(&path));
        trials.push(trial.with_ignored_flag(missing));
    }
    let sets = [
        ("nmnist", "nmnist", [1000, 100]),
        ("dvs128_objects", "dvs128_objects", [844, 470]),
        ("evtouch", "evtouch_objects", [576, 144]),
        ("auditory_cortex", "auditory_cortex", [3240, 378]),
        ("ecg_qtdb", "ecg_qtdb", [618, 141]),
        ("mnist", "mnist", [60_000, 10_000]),
        ("dvs_sign", "dvs_sign", [600, 150]),
    ];
    for (name, folder, counts) in sets {
        // The signs are published packed; unpack them somewhere and say where.
        let path = match std::env::var_os("SPIKEMIX_DVS_SIGN") {
            Some(dir) if name == "dvs_sign" => dir.into(),
            _ => dir.join(folder),
        };
        let missing = !path.is_dir();
        let trial = Trial::test(format!("decode::dataset_{name}"), move || dataset(name, &path, counts));
        trials.push(trial.with_ignored_flag(missing));
    }
    let formats = dir.join("formats");
    let missing = !formats.is_dir();
    let all = dir.clone();
    trials.push(Trial::test("decode::told_by_content", move || told_by_content(&all)).with_ignored_flag(missing));
    trials.push(Trial::test("decode::hdf5_lzf", lzf));
    trials.push(Trial::test("decode::cut_spike_trains", cut_spike_trains));
    trials.push(Trial::test("decode::mutated_spike_trains", mutated_spike_trains));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    // How many events there are, and how many of the cuts leave some of them.
    for (dir, file, whole, some) in [
        (&own, "cut_contiguous.h5", 1000, 0.05),
        (&own, "cut_tiles.h5", 1000, 0.5),
        (&own, "cut_beside.h5", 1000, 0.1),
        (&own, "cut_rows.mat", 1000, 0.03),
        (&own, "lzf.h5", 300, 0.05),
        (&formats, "raw_events.hdf5", 17, 0.0),
        (&formats, "stmnist.mat", 2_346, 0.5),
    ] {
        let path = dir.join(file);
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::cut_{file}"), move || cut_off(&path, whole, some));
        trials.push(trial.with_ignored_flag(missing));
    }
    trials.push(Trial::test("decode::hdf5_of_two_cameras", two_cameras));
    trials.push(Trial::test("decode::hdf5_damaged_beside_events", damaged_beside));
    trials.push(Trial::test("decode::hdf5_says_its_sensor", hdf5_sensor));
    for (file, index) in [("davis346_small_lz4.aedat4", 428_314), ("ros1_eventpacket_evt3.bag", 2_315_444)] {
        let path = formats.join(file);
        let missing = !path.exists();
        let trial = Trial::test(format!("decode::cut_{file}"), move || cut_near_index(&path, index));
        trials.push(trial.with_ignored_flag(missing));
    }
    let cut = formats.clone();
    trials.push(Trial::test("decode::gestures_are_cut", move || gestures(&cut)).with_ignored_flag(missing));
    let trial = Trial::test("decode::mutated_recordings", move || mutated(&formats));
    trials.push(trial.with_ignored_flag(missing));
    trials
}

/// Every file without its name is what it is with it, the two formats without a magic number included, and none else is taken for them.
fn told_by_content(dir: &Path) -> Result<(), Failed> {
    let (mut folders, mut told) = (vec![dir.to_path_buf()], [0, 0]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let atis = path.parent().is_some_and(|p| p.ancestors().any(|a| a.ends_with("nmnist")))
                || name.starts_with("ncaltech101")
                || name == "nmnist.bin";
            let head = head(&path);
            let found = events::sniff(&head, None).map(|f| f.name);
            let want = if atis { Some("atis") } else { events::sniff(&head, Some(&path)).map(|f| f.name) };
            // Text that is no table is told by its name too.
            if want != Some("text") || found.is_some() {
                same(&path.display().to_string(), found, want)?;
            }
            told[0] += usize::from(found == Some("atis"));
            // As its camera's software writes it, and without the header.
            if let Some(end) = header_end(&head).filter(|_| found == Some("evt2")) {
                let words = &std::fs::read(&path)?[end..];
                same(&path.display().to_string(), events::sniff(words, None).map(|f| f.name), Some("evt2"))?;
                told[1] += 1;
            }
        }
    }
    same("files without a magic number", told, [1102, 3])
}

/// Where the lines that begin with `%` end.
fn header_end(head: &[u8]) -> Option<usize> {
    let mut at = 0;
    while head[at..].starts_with(b"% ") {
        at += 1 + head[at..].iter().position(|b| *b == b'\n')?;
    }
    Some(at)
}

/// Wherever a file of spike trains is cut off, the samples before the cut come out, and one sentence says so and how long it was.
fn cut_spike_trains() -> Result<(), Failed> {
    // Labels are written last in the first file, in the second before several heaps of samples.
    for (name, samples) in [("shd.h5", 12), ("cut_trains.h5", 40)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let bytes = std::fs::read(path)?;
        let whole = events::hdf5::spike_trains(bytes.clone())?;
        let said = (whole.trains.len(), whole.labels[11], &whole.damage);
        same("samples", said, (samples, 11, &None))?;
        let mut most = 0;
        for n in (8..bytes.len()).step_by(7) {
            let found = events::hdf5::spike_trains(bytes[..n].to_vec());
            let (samples, e) = match found {
                Ok(found) => {
                    let n = found.trains.len();
                    same(
                        "samples before the cut",
                        (&found.trains[..], &found.labels[..]),
                        (&whole.trains[..n], &whole.labels[..n]),
                    )?;
                    (n, found.damage.ok_or_else(|| format!("{n} bytes are whole"))?)
                }
                Err(e) => (0, e),
            };
            most = most.max(samples);
            same("byte", e.offset, n as u64)?;
            same(&n.to_string(), Some(e.message), hdf5_cut(n, &bytes))?;
        }
        same(&format!("{name}: {most} samples before a cut"), most > samples / 2, true)?;
    }
    Ok(())
}

/// What is said of the first `n` bytes of an HDF5 file; none of other formats, and where nothing tells yet that it is one.
fn hdf5_cut(n: usize, whole: &[u8]) -> Option<String> {
    let at = [0, 512].into_iter().find(|at| whole[*at..].starts_with(b"\x89HDF") && n >= at + 8)?;
    // The superblock's length goes by its version.
    let superblock = if whole[at + 8] < 2 { 96 } else { 48 };
    Some(match n < at + superblock {
        true => "the file is cut off here, within its superblock".into(),
        false => format!("the file is cut off here; its superblock says that it has {} bytes", whole.len()),
    })
}

/// The folder holds what the manifest says, checksums too, and a sample of each class can be read; of the signs all.
fn dataset(name: &str, dir: &Path, counts: [usize; 2]) -> Result<(), Failed> {
    let report = data::check(name, dir, None, name == "dvs_sign")?;
    let found: Vec<_> = report.parts.iter().map(|p| p.samples).collect();
    same(&format!("{:?}", report.problems), found, counts.to_vec())?;
    let probed = report.parts.iter().all(|p| p.read >= p.classes.len() && p.read > 1);
    // Only two classes are the commonest of an ECG.
    same("probed", probed || name == "ecg_qtdb", true)?;
    // Of N-MNIST a part is here.
    let known = |p: &String| p.contains("are published");
    let problems: Vec<_> = report.problems.iter().filter(|p| !known(p)).collect();
    same("problems", problems, vec![])?;
    if name == "mnist" {
        same("checksums", report.checksums.len(), 4)?;
    }
    if name == "dvs_sign" {
        // The README of the recordings: 5 to 128 thousand events each, and six files with a mangled row.
        let events: Vec<_> = report.parts.iter().filter_map(|p| p.events).collect();
        same(
            &format!("{events:?}"),
            events.iter().all(|[least, most]| (4_500..128_500).contains(least) && *most < 128_500),
            true,
        )?;
        same("mangled", report.warnings.iter().filter(|w| w.contains("byte 0: row 1: ")).count(), 6)?;
        same("read", report.parts.iter().map(|p| p.read).sum::<usize>(), 750)?;
    }
    if name == "ecg_qtdb" {
        let s = data::ecg_qtdb::read(&dir.join("QTDB_test.mat"))?;
        same("steps", (s.steps, s.channels, s.y.len()), (1301, 4, 141 * 1301))?;
        let spec =
            |split: Option<&str>| DatasetSpec { dir: Some(dir.into()), split: split.map(Into::into), ..DatasetSpec::new(name) };
        for (split, without) in [(None, 19_056), (Some("published"), 0)] {
            let test = data::open(&spec(split), Split::Test)?;
            let labels = (0..test.len()).flat_map(|i| test.step_labels(i).unwrap_or_default());
            same("steps without a class", labels.filter(|l| *l == data::NO_CLASS).count(), without)?;
        }
    }
    Ok(())
}

/// h5py's LZF filter behind shuffle; and what is said of a filter that is not read.
fn lzf() -> Result<(), Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lzf.h5");
    let event = |i: i64| events::Event { t: i * 10, x: (i % 7) as u16, y: (i % 5) as u16, p: i % 2 == 1 };
    same("events", events::open(&path, true)?.events, (0..300).map(event).collect())?;
    let mut bytes = std::fs::read(&path)?;
    for i in 0..bytes.len() - 8 {
        if bytes[i..i + 2] == 32000u16.to_le_bytes() {
            bytes[i..i + 2].copy_from_slice(&36559u16.to_le_bytes());
        }
    }
    let said = events::decode(&events::hdf5::FORMAT, &bytes).err().map_or(String::new(), |e| e.message);
    same(&said, said.contains("events: compressed by Prophesee's ECF codec (HDF5 filter 36559)"), true)
}

/// A file with an index at its end, cut by a few bytes or where the index begins, is refused when strict, and else all events are there.
fn cut_near_index(path: &Path, index: usize) -> Result<(), Failed> {
    let (bytes, whole) = (std::fs::read(path)?, events::open(path, true)?.events);
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(path.file_name().unwrap_or_default());
    for n in (1..9).map(|n| bytes.len() - n).chain([index, index + 1]) {
        std::fs::write(&file, &bytes[..n])?;
        let e = events::open(&file, true).err().ok_or(format!("{n} bytes are whole"))?.to_string();
        same(&e, e.contains("the file ends within"), true)?;
        let some = events::open(&file, false)?;
        same(&format!("{n}: {:?}", some.warnings), (some.events == whole, some.warnings.len()), (true, 1))?;
    }
    Ok(())
}

/// Wherever a container is cut off: no panic; the more bytes the more events, the first of the file; refused when strict.
fn cut_off(path: &Path, whole: usize, some: f64) -> Result<(), Failed> {
    let events = events::open(path, true)?.events;
    same("events", events.len(), whole)?;
    let bytes = std::fs::read(path)?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join(path.file_name().unwrap_or_default());
    let (mut most, mut with, mut cuts) = (0, 0.0, 0.0);
    for n in (1..bytes.len()).step_by(13) {
        std::fs::write(&file, &bytes[..n])?;
        let strict = events::open(&file, true).err().map_or(String::new(), |e| e.to_string());
        let place = strict.strip_prefix(&format!("{}: byte ", file.display()));
        let byte = place.and_then(|p| p.split_once(": ")?.0.parse::<usize>().ok());
        same(&format!("{n}: {strict}"), byte.is_some_and(|b| b <= n), true)?;
        if let Some(said) = hdf5_cut(n, &bytes) {
            same("said", &strict, &format!("{}: byte {n}: {said}", file.display()))?;
        }
        let found = match events::open(&file, false) {
            Ok(s) => {
                same(&format!("{n}: {:?}", s.warnings), s.warnings.len(), 1)?;
                same("said", s.warnings[0].ends_with(&format!("; the {} events before it are used", s.events.len())), true)?;
                s.events
            }
            Err(e) => {
                same("what is said", e.to_string(), strict)?;
                Vec::new()
            }
        };
        same(&format!("{n}: {} events after {most}", found.len()), found.len() >= most && events.starts_with(&found), true)?;
        most = found.len();
        (with, cuts) = (with + f64::from(u8::from(most > 0)), cuts + 1.0);
    }
    same(&format!("{with} of {cuts} cuts leave events"), with >= some * cuts, true)
}

/// DVS128 Gesture's layout with the hand-made samples: gestures are what their label files say of the recordings.
fn gestures(formats: &Path) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let samples =
        [("aedat1_for_testing", "user03_led"), ("aedat2_led", "user23_lab"), ("aedat3_fluorescent", "user24_fluorescent")];
    for (from, to) in samples {
        for end in [".aedat", "_labels.csv"] {
            std::fs::copy(formats.join(format!("aedat31_{from}{end}")), dir.path().join(format!("{to}{end}")))?;
        }
    }
    let spec = DatasetSpec { dir: Some(dir.path().into()), strict: true, ..DatasetSpec::new("dvs128_gesture") };
    // Class and events, counted by a script from the first time on and before the second.
    let train = vec![(0, 3), (4, 3), (10, 0), (1, 1), (2, 1), (7, 3), (6, 3)];
    for (part, want) in [(Split::Train, train), (Split::Test, vec![(3, 0), (5, 3)])] {
        let dataset = data::open(&spec, part)?;
        // Backwards: recordings may be asked for in any order.
        let mut got = Vec::new();
        for i in (0..dataset.len()).rev() {
            let Recording::Events(s) = dataset.load(i)? else {
                return Err("no events".into());
            };
            got.insert(0, (dataset.label(i), s.events.len()));
        }
        same(part.name(), got, want)?;
    }
    Ok(())
}

/// Event for event what a public reader made of the file; `data/peers.py` wrote the table and says how the hash is made.
fn peer(path: &Path, columns: &[&str]) -> Result<(), Failed> {
    let [_, reader, options, n, hash] = *columns else {
        return Err(format!("no row of five columns: {columns:?}").into());
    };
    let format = options.strip_prefix("format=").and_then(events::format);
    let s = events::open_with(path, &ReadOptions { format, strict: true, ..ReadOptions::default() })?;
    same(reader, s.events.len().to_string(), n.to_string())?;
    let [a, b, c, d] = [0x9e37_79b9_7f4a_7c15u64, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x27d4_eb2f_1656_67c5];
    let of = |e: &events::Event| {
        let t = (e.t as u64).wrapping_mul(a);
        let place = u64::from(e.x).wrapping_mul(b).wrapping_add(u64::from(e.y).wrapping_mul(c));
        t.wrapping_add(place).wrapping_add(u64::from(e.p).wrapping_mul(d))
    };
    let sum = s.events.iter().zip(1u64..).fold(0u64, |sum, (e, i)| sum.wrapping_add(of(e).wrapping_mul(i)));
    same(reader, format!("{sum:016x}"), hash.to_string())
}

/// Numbers below one that is given, the same in each run.
fn generator() -> impl FnMut(usize) -> usize {
    let mut seed = 1u64;
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n.max(1)
    }
}

/// The file with bytes changed, and perhaps its end cut off.
fn mutant(whole: &[u8], random: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..random(20) {
        // Headers and tables stand at the beginning more often than not.
        let n = if random(2) == 0 { bytes.len().min(600) } else { bytes.len() };
        let (i, v) = (random(n), random(256));
        bytes[i] = v as u8;
    }
    if random(3) == 0 {
        bytes.truncate(random(bytes.len()));
    }
    bytes
}

/// Sets of spike trains likewise; and one whose samples are all said to be the longest, of which more than the file holds is not made.
fn mutated_spike_trains() -> Result<(), Failed> {
    let (data, mut random) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), generator());
    for name in ["shd.h5", "cut_trains.h5"] {
        let whole = std::fs::read(data.join(name))?;
        for _ in 0..400 {
            let bytes = mutant(&whole, &mut random);
            let n = bytes.len();
            let spikes = events::hdf5::spike_trains(bytes).map_or(0, |s| s.trains.iter().map(|t| t.times.len()).sum());
            same("no more spikes than bytes", spikes <= n, true)?;
        }
    }
    let hostile = events::hdf5::spike_trains(std::fs::read(data.join("one_train.h5"))?)?;
    let damage = hostile.damage.ok_or("a file that says more than it holds is not damaged")?;
    same("samples", hostile.trains.len(), 1)?;
    same("damage", damage.message.as_str(), "units has sequences of more bytes than the file")
}

/// Every recording with bytes changed and its end cut off: any result but a panic or events from nothing.
fn mutated(dir: &Path) -> Result<(), Failed> {
    let mut random = generator();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let mut whole = std::fs::read(&path)?;
        let Some(format) = events::sniff(&whole, Some(&path)) else {
            continue;
        };
        whole.truncate(60_000);
        for _ in 0..60 {
            let bytes = mutant(&whole, &mut random);
            let (mut decoder, mut out) = ((format.decoder)(), Vec::new());
            let pieces = 1 + random(70_000);
            let pushed = bytes.chunks(pieces).try_for_each(|p| decoder.push(p, &mut out));
            if pushed.is_ok() {
                decoder.finish(&mut out).ok();
            }
            if out.len() > bytes.len() * 1100 {
                return Err(format!("{}: {} events", path.display(), out.len()).into());
            }
        }
    }
    Ok(())
}

type Check = fn(&Path) -> Result<(), Failed>;

/// 119,317 events, t 963,215..3,910,802, 320 x 320, says the README of the recordings.
fn headless_evt2(path: &Path) -> Result<(), Failed> {
    let s = events::open(path, true)?.stats();
    same("format", s.format, "evt2")?;
    same("events", s.events, 119_317)?;
    same("times", (s.t_first, s.t_last), (Some(963_215), Some(3_910_802)))?;
    same("sensor", s.width <= 320 && s.height <= 320, true)
}

fn refused(path: &Path, word: &str) -> Result<(), Failed> {
    match events::open(path, false) {
        Ok(s) => Err(format!("{} events", s.events.len()).into()),
        Err(e) => same(&e.to_string(), e.to_string().contains(word), true),
    }
}

fn cochlea(path: &Path) -> Result<(), Failed> {
    refused(path, "not of a camera")
}

fn generic_es(path: &Path) -> Result<(), Failed> {
    refused(path, "generic")
}

fn header_only(path: &Path) -> Result<(), Failed> {
    let s = events::open(path, true)?;
    same("events", s.events.len(), 0)?;
    same("sensor", s.sensor, events::Sensor::new(346, 260))
}

fn empty_stereo(path: &Path) -> Result<(), Failed> {
    let s = events::open(path, true)?;
    same("events", (s.events.len(), s.warnings.len()), (0, 1))?;
    same("sensor", s.sensor, events::Sensor::new(100, 100))?;
    let streams = events::aedat4::streams(&std::fs::read(path)?).map_err(|e| e.to_string())?;
    let cameras: Vec<_> = streams.iter().map(|s| s.source.as_str()).collect();
    same("cameras", cameras, vec!["test_1", "test_2"])?;
    let right = ReadOptions { stream: Some("test_2".into()), strict: true, ..ReadOptions::default() };
    let s = events::open_with(path, &right)?;
    same("warnings", s.warnings.len(), 0)
}

fn tyxp() -> ReadOptions {
    ReadOptions { columns: Order::parse("tyxp"), strict: true, ..ReadOptions::default() }
}

fn by_expelliarmus() -> ReadOptions {
    ReadOptions { format: Some(&events::evt3::EXPELLIARMUS), strict: true, ..ReadOptions::default() }
}

/// Rows `t y x p`, as the HDF5 file of the same events shows; the order cannot be told from the values.
fn text_seconds(path: &Path) -> Result<(), Failed> {
    let s = events::open_with(path, &tyxp())?;
    let (first, last) = (s.events[1], s.events[16]);
    same("events", s.events.len(), 17)?;
    same("second", (first.t, first.x, first.y, first.p), (780, 59, 158, false))?;
    same("last", (last.t, last.x, last.y), (5748, 74, 181))
}

/// The array that expelliarmus made of the EVT3 file, and the file itself.
fn npy_is_evt3(path: &Path) -> Result<(), Failed> {
    let array = events::open(path, true)?;
    let raw = path.with_file_name("evt3_hd.raw");
    let as_it = events::open_with(&raw, &by_expelliarmus())?;
    same("equal", array.events == as_it.events, true)?;
    let ours = events::open(&raw, true)?.events;
    let but_time = |e: &events::Event| (e.x, e.y, e.p);
    let equal = array.events.iter().map(but_time).eq(ours.iter().map(but_time));
    same("places and polarities", equal, true)
}

fn hdf5_is_text(path: &Path) -> Result<(), Failed> {
    let text = events::open_with(path.with_extension("txt"), &tyxp())?;
    same("events", events::open(path, true)?.events, text.events)
}

/// 2346 columns of one touch each, by SciPy from 0.19662648 s to 0.89574499 s.
fn st_mnist(path: &Path) -> Result<(), Failed> {
    let s = events::open(path, true)?;
    same("sensor", s.sensor, events::Sensor::new(10, 10))?;
    let s = s.stats();
    same("events", s.events, 2346)?;
    same("times", (s.t_first, s.t_last), (Some(196_626), Some(895_745)))
}

fn rosbag(path: &Path) -> Result<(), Failed> {
    let s = events::open(path, true)?;
    same("sensor", s.sensor, events::Sensor::new(640, 480))?;
    let s = s.stats();
    // As a few lines of Python that follow the format find.
    same("events", (s.events, s.backsteps), (343_474, 0))?;
    same("times", (s.t_first, s.t_last), (Some(7_139_845), Some(9_218_023)))?;
    same("sums", (s.sum_x, s.sum_y, s.n_on), (116_731_888, 80_879_209, 125_183))
}

/// 10,000 rows or so of 200 ms, `x y t p`, and a terminator at 200,010 us.
fn text_terminator(path: &Path) -> Result<(), Failed> {
    let rows = std::fs::read_to_string(path)?.lines().count();
    let s = events::open(path, true)?;
    same("events", s.events.len(), rows - 1)?;
    same("last", s.events.last().map(|e| (e.x, e.y, e.t)), Some((90, 86, 199_956)))?;
    same("warned", s.warnings.len(), 1)
}

/// The first camera's events are read, and the other's named; a table as MATLAB stores it lies on its side.
fn two_cameras() -> Result<(), Failed> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let read = |stream: Option<&str>| {
        let options = ReadOptions { stream: stream.map(String::from), strict: true, ..ReadOptions::default() };
        events::open_with(own.join("stereo.h5"), &options)
    };
    let x = |s: &EventStream| s.events.iter().map(|e| e.x).max();
    let left = read(None)?;
    same("left", (left.events.len(), x(&left), left.events.last().map(|e| e.t)), (200, Some(6), Some(1990)))?;
    let said = "events of `davis/left/events`; there are others, which --stream chooses: davis/right/events";
    same("named", &left.warnings[..], &[said.to_string()][..])?;
    for name in ["right", "davis/right/events"] {
        let right = read(Some(name))?;
        same("right", (right.events.len(), x(&right), right.warnings.len()), (200, Some(7), 0))?;
    }
    let e = read(Some("middle")).err().ok_or("read")?.to_string();
    same(&e, e.contains("no event stream `middle`; there are davis/left/events, davis/right/events"), true)?;
    let table = events::open(own.join("table.mat"), true)?;
    let ons = table.events.iter().filter(|e| e.p).count();
    same("table", (table.events.len(), ons, table.events.last().map(|e| e.t)), (200, 100, Some(1990)))?;
    same("told", table.warnings.iter().any(|w| w.contains("1 is taken for off")), true)
}

/// An array beside the events whose header is damaged, in a file of its whole length: the events are read, and what could not be is said.
fn damaged_beside() -> Result<(), Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cut_beside.h5");
    let (mut bytes, whole) = (std::fs::read(&path)?, events::open(path, true)?.events);
    // `t_offset`, the last array, has its header here: version 1 and 5 messages, now of a version that is none.
    let at = 18_048;
    same("header", &bytes[at..at + 4], &[1, 0, 5, 0])?;
    bytes[at] = 77;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.h5");
    std::fs::write(&file, &bytes)?;
    let said = format!("byte {}: child 't_offset' at 0x4680: unsupported object header version 77", bytes.len());
    let seen = events::open(&file, false)?;
    same("events", seen.events == whole, true)?;
    same("warnings", seen.warnings, vec![format!("{said}; the 1000 events before it are used")])?;
    let strict = events::open(&file, true).err().ok_or("read")?.to_string();
    same("strict", strict, format!("{}: {said}", file.display()))
}

/// By which of the root's attributes a file says its sensor: one after the other is given a name that says nothing.
fn hdf5_sensor() -> Result<(), Failed> {
    let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sensor.h5"))?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.h5");
    for (sensor, told, next) in [
        ([40, 31], Some("the attribute `geometry`"), ("geometry", "geometr-")),
        ([41, 32], Some("the attributes `width` and `height`"), ("height", "heigh-")),
        ([42, 33], Some("the attribute `sensor_size`, width and height"), ("sensor_size", "sensor_siz-")),
        ([43, 34], Some("the attribute `sensor_resolution`, height and width"), ("sensor_resolution", "sensor_resolutio-")),
        // Nothing, and two numbers that could be either.
        ([37, 30], None, ("either_resolution", "sensor_resolution")),
        ([37, 30], None, ("", "")),
    ] {
        std::fs::write(&file, &bytes)?;
        let s = events::open(&file, true)?;
        same("sensor", (s.sensor, s.sensor_declared), (events::Sensor::new(sensor[0], sensor[1]), told.is_some()))?;
        let how = s.read_as.unwrap_or_default();
        same("told", how.split_once("; sensor by ").map(|h| h.1), told)?;
        let (from, to) = next;
        let at = bytes.windows(from.len() + 1).position(|w| w[..from.len()] == *from.as_bytes() && w[from.len()] == 0);
        let at = at.ok_or(from)?;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    Ok(())
}

/// To every format that can hold it, and back; counted from the first event, times fit all.
fn conversions(path: &Path) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut rebased = events::open(path, true)?;
    let first = rebased.rebase().ok_or("times beyond 64 bits")?;
    same("first", rebased.events.iter().map(|e| e.t).min(), Some(0))?;
    same("rebased", rebased.events.iter().all(|e| e.t + first > 0 || first == 0), true)?;
    for f in events::FORMATS.iter().filter(|f| f.encode.is_some() && f.name != "atis") {
        events::convert(&rebased, dir.path().join("out").with_extension(f.extensions[0]), f)?;
    }
    for f in events::FORMATS.iter().filter(|f| f.encode.is_some()) {
        let out = dir.path().join("out").with_extension(f.extensions[0]);
        match events::convert(&events::open(path, true)?, &out, f) {
            Ok(report) => same("losses", report.losses.is_empty(), {
                // What declares a sensor that was not, or does not declare the one that was; and what is no event.
                let stream = events::open(path, true)?;
                let declared = events::open(&out, true)?.sensor_declared;
                declared == stream.sensor_declared && (f.keeps_sensor || !declared) && stream.besides.is_empty()
            })?,
            // Columns beyond 255, and years of microseconds.
            Err(e) if ["atis", "dat", "evt2", "evt3"].contains(&f.name) => {
                let said = e.to_string();
                same(&said, said.contains("files hold") || said.contains("too late"), true)?;
            }
            Err(e) => return Err(e.to_string().into()),
        }
    }
    Ok(())
}

/// All recordings of the subset, strictly, with every event on the sensor.
fn whole_nmnist(dir: &Path) -> Result<(), Failed> {
    let spec = DatasetSpec { dir: Some(dir.into()), strict: true, ..DatasetSpec::new("nmnist") };
    for (split, want) in [(Split::Train, 1000), (Split::Test, 100)] {
        let dataset = data::open(&spec, split)?;
        same("recordings", dataset.len(), want)?;
        let digits: std::collections::BTreeSet<u32> = dataset.labels().into_iter().collect();
        same("digits", digits.into_iter().collect::<Vec<_>>(), (0..10).collect())?;
        for i in 0..dataset.len() {
            let Recording::Events(stream) = dataset.load(i)? else {
                return Err("no events".into());
            };
            let folder = dataset.describe(i);
            let digit = format!("{0}{1}{0}", std::path::MAIN_SEPARATOR, dataset.label(i));
            if stream.events.len() < 500 || !folder.contains(&digit) {
                return Err(format!("{folder}: {} events", stream.events.len()).into());
            }
        }
    }
    Ok(())
}

fn head(path: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    if let Ok(f) = std::fs::File::open(path) {
        f.take(1 << 16).read_to_end(&mut out).ok();
    }
    out
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), Failed> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, not {want:?}").into()) }
}

fn row(path: &Path, rest: &str) -> Result<(), Failed> {
    let want = rest.split('\t').skip(1).map(str::parse).collect::<Result<Vec<i64>, _>>()?;
    let mut stream = events::open(path, true).map_err(|e| e.to_string())?;
    if path.ends_with("formats/evt3_hd.raw") {
        // Here the table holds what expelliarmus makes of the camera's clock: 53.9 ms instead of 8.8. That the latter is
        // right shows in the upper part of the time, which the camera sends every 16 us: 551 times.
        same("t_last", stream.events.last().map(|e| e.t), Some(11_727_457))?;
        stream = events::open_with(path, &by_expelliarmus()).map_err(|e| e.to_string())?;
    }
    let s = stream.stats();
    let got = [
        s.events as i64,
        s.t_first.unwrap_or(0),
        s.t_last.unwrap_or(0),
        s.sum_t_minus_t0,
        s.sum_x as i64,
        s.sum_y as i64,
        s.n_on as i64,
        s.x_max.unwrap_or(0).into(),
        s.y_max.unwrap_or(0).into(),
        s.backsteps as i64,
    ];
    same("n t_first t_last sum_t_minus_t0 sum_x sum_y n_on xmax ymax backsteps", &got[..], &want[..])
}
