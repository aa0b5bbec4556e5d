//! The `spikemix` command.
fn main() {}
