//! Recordings from one format to another, with what is lost said in words.

use super::{EventStream, Format, ReadOptions, open_with, save};
use crate::{Error, Result};
use std::path::Path;

/// What [`convert`] did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConvertReport {
    /// The format read.
    pub from: &'static str,
    /// The format written.
    pub to: &'static str,
    /// Events written; all that were read.
    pub events: u64,
    /// What the written file does not say although the recording did, and what reading it had left out: a sentence each.
    pub losses: Vec<String>,
}

/// Writes a recording to `output` in a format. The written file is read back and compared before this returns; what an
/// event's fields cannot hold is an error.
///
/// # Errors
/// A format without a writer, events the format cannot hold, or a file that cannot be written.
pub fn convert(stream: &EventStream, output: impl AsRef<Path>, to: &'static Format) -> Result<ConvertReport> {
    let mut losses = stream.warnings.clone();
    let output = output.as_ref();
    save(output, stream, to)?;
    if !stream.besides.is_empty() {
        losses.push(format!("events alone are written; left out: {}", stream.besides.join(", ")));
    }
    losses.extend(verified(output, stream, to)?);
    if stream.rows_from_below() {
        losses.push(format!(
            "{} counts rows from below, others from the top: what reads the file will see it upside down",
            stream.format
        ));
    }
    Ok(ConvertReport { from: stream.format, to: to.name, events: stream.events.len() as u64, losses })
}

/// Reads the written file back; what it does not say of the sensor.
fn verified(path: &Path, stream: &EventStream, to: &'static Format) -> Result<Option<String>> {
    let back = open_with(path, &ReadOptions { format: Some(to), ..ReadOptions::default() })?;
    let (events, sensor, declared) = (back.events, back.sensor, back.sensor_declared);
    if events != stream.events {
        let what = format!("{} did not keep the events; this is a mistake of spikemix", to.name);
        return Err(Error::format(path, 0, what));
    }
    if declared && !stream.sensor_declared {
        return Ok(Some(format!(
            "the recording does not say its sensor's size; the file says {sensor}, the smallest that holds the events"
        )));
    }
    let lost = stream.sensor_declared && !(declared && sensor == stream.sensor);
    Ok(lost.then(|| {
        format!(
            "{} files do not say the sensor's size, {}; from the events alone a reader takes it for {sensor}",
            to.name, stream.sensor
        )
    }))
}

/// The format that a file of this name is to be written in, by its extension.
///
/// # Errors
/// An extension of no format with a writer.
pub fn written_as(path: &Path) -> Result<&'static Format> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let extension = extension.unwrap_or_default();
    let first = |f: &&&'static Format| f.encode.is_some() && f.extensions[0] == extension;
    let any = |f: &&&'static Format| f.encode.is_some() && f.extensions.contains(&&*extension);
    let written = || super::FORMATS.iter().filter(|f| f.encode.is_some());
    // `.raw` is EVT3 and `.aedat` AEDAT 3.1 where nothing else is asked for.
    let found = written().find(first).or_else(|| written().find(any)).copied();
    found.ok_or_else(|| {
        let names: Vec<_> = written().map(|f| format!("{} (.{})", f.name, f.extensions[0])).collect();
        Error::usage(format!("{}: no format with a writer has this extension; there are {}", path.display(), names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Sensor;
    use crate::events::{Event, format, open, sniff};

    #[test]
    fn losses_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let events = (0..500).map(|i| Event { t: i * 777, x: (i % 90) as u16, y: (i % 70) as u16, p: i % 2 == 0 });
        let stream = EventStream::new(events.collect(), Sensor::new(128, 100));
        for (name, to, lost) in [
            ("b.aedat", "aedat3", 0),
            ("b.aedat4", "aedat4", 0),
            ("b.dat", "dat", 0),
            ("b.raw", "evt3", 0),
            ("b.bin", "atis", 1),
            ("b.csv", "csv", 1),
        ] {
            let report = convert(&stream, at(name), written_as(&at(name)).unwrap()).unwrap();
            assert_eq!((report.to, report.losses.len(), report.events), (to, lost, 500), "{report:?}");
            let sniffed = sniff(&std::fs::read(at(name)).unwrap(), Some(&at(name))).unwrap();
            assert_eq!(sniffed.name, to);
            let evt2 = convert(&open(at(name), true).unwrap(), at("c.raw"), format("evt2").unwrap()).unwrap();
            assert_eq!((evt2.from, evt2.to), (to, "evt2"));
        }
        let upside_down = EventStream { format: "aedat2", ..stream.clone() };
        let report = convert(&upside_down, at("u.dat"), format("dat").unwrap()).unwrap();
        assert!(report.losses[0].contains("rows from below"), "{report:?}");
        let said = written_as(&at("b.xyz")).unwrap_err();
        assert!(said.to_string().contains("evt3 (.raw)"), "{said}");
        let far = EventStream::new(vec![Event { x: 3000, ..Event::default() }], Sensor::new(4000, 9));
        let said = convert(&far, at("far.raw"), format("evt3").unwrap()).unwrap_err().to_string();
        assert!(said.contains("far.raw") && said.contains("up to 2047"), "{said}");
    }
}
