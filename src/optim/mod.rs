//! Optimisers and learning-rate schedules.

mod adamw;
mod schedule;

pub use adamw::{AdamW, AdamWSpec};
pub use schedule::{Schedule, Shape, Unit};
