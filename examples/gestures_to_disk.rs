//! Writes synthetic gestures as event files, a folder per class, for other programs or for `spikemix inspect`:
//!
//! ```text
//! cargo run --release --example gestures_to_disk -- /tmp/gestures 40
//! spikemix inspect /tmp/gestures/test/clockwise/000004.aedat --png clockwise.png
//! spikemix train examples/recipes/gestures.toml --set data.name=folder --set data.dir=/tmp/gestures
//! ```
use spikemix::data::Split;
use spikemix::data::gestures::{GestureSpec, Gestures, write_to_disk};
use spikemix::events::format;
use spikemix::{Error, Result};

fn main() -> Result<()> {
    let usage = || Error::usage("usage: gestures_to_disk FOLDER RECORDINGS [FORMAT]");
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (dir, n) = (args.first().ok_or_else(usage)?, args.get(1).and_then(|n| n.parse().ok()).ok_or_else(usage)?);
    let name = args.get(2).map_or("aedat3", String::as_str);
    let format = format(name).ok_or_else(|| Error::usage(format!("{name}: no such format")))?;
    for split in [Split::Train, Split::Test] {
        write_to_disk(&Gestures::new(GestureSpec::default(), split, n)?, dir, format)?;
    }
    println!("wrote {n} training and {n} test recordings to {dir}");
    Ok(())
}
