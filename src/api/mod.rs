//! DOORS: everyone who asks.

pub mod handle;
