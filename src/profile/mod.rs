//! What a run is reported to have done: rates, routers, operations, energy.
//!
//! [`crate::counts`] counts; this turns counts into numbers a sample and into tables. Each number says by what it was divided.

pub mod draw;
pub mod energy;
pub mod html;
pub mod modules;
pub mod neurobench;
pub mod report;
