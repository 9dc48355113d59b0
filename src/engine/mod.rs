//! DECIDES: pure, no IO, no clock.

pub mod effect;
pub mod event;
