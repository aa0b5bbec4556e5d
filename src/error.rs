//! The one error of the crate.
//!
//! A message says what was wrong and where (path, byte offset, operation, shapes), in lower case and without a full stop.
//! It is one sentence a user can act on; `spikemix` prints it behind `error: ` and exits with 1 (2 for wrong usage).

use std::path::{Path, PathBuf};

/// What a fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate; boxed, so that `Result<T>` stays small.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused something to do with a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file's content is not what its format demands.
    #[error("{}: byte {offset}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in the file, counted from its first byte.
        offset: u64,
        /// What was found there and what was expected.
        message: String,
    },
    /// A setting of a recipe or of a model's spec is impossible.
    #[error("{place}: {message}")]
    Config {
        /// The file and key, for example `gestures.toml: train.batch`.
        place: String,
        /// What is wrong with it and what would serve.
        message: String,
    },
    /// Shapes or representations that do not fit together.
    #[error("{op}: {message}")]
    Shape {
        /// The operation.
        op: String,
        /// The shapes at hand and those expected.
        message: String,
    },
    /// A device that is missing, lost, or too small for the work.
    #[error("device: {0}")]
    Device(String),
    /// The command line was used wrongly; exit status 2.
    #[error("{0}")]
    Usage(String),
    /// The user stopped the run.
    #[error("{0}")]
    Interrupted(String),
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Error(Box::new(kind))
    }
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }
    /// A system error about `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        ErrorKind::Io { path: path.as_ref().to_path_buf(), source }.into()
    }
    /// A malformed file: what is wrong at byte `offset` of `path`.
    pub fn format(path: impl AsRef<Path>, offset: u64, message: impl Into<String>) -> Self {
        ErrorKind::Format { path: path.as_ref().to_path_buf(), offset, message: message.into() }.into()
    }
    /// An impossible setting at `place` (file and key).
    pub fn config(place: impl Into<String>, message: impl Into<String>) -> Self {
        ErrorKind::Config { place: place.into(), message: message.into() }.into()
    }
    /// Shapes that do not fit operation `op`.
    pub fn shape(op: impl Into<String>, message: impl Into<String>) -> Self {
        ErrorKind::Shape { op: op.into(), message: message.into() }.into()
    }
    /// Something about a device.
    pub fn device(message: impl Into<String>) -> Self {
        ErrorKind::Device(message.into()).into()
    }
    /// Wrong usage of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        ErrorKind::Usage(message.into()).into()
    }
    /// The exit status of `spikemix` after this error: 2 for wrong usage, 130 where the user stopped it, else 1.
    pub fn exit_status(&self) -> u8 {
        match *self.0 {
            ErrorKind::Usage(_) => 2,
            ErrorKind::Interrupted(_) => 130,
            _ => 1,
        }
    }
}
