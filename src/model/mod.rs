//! WORDS: the nouns that every room shares. Pure: no IO, no clock, no thread, and nothing else of ours.
//!
//! A type has one path; import it from where it is defined: `use crate::model::command::Command;`

pub mod command;
pub mod exit;
pub mod launch;
pub mod name;
pub mod notice;
pub mod notify;
pub mod plan;
pub mod rng;
pub mod signal;
pub mod spec;
pub mod state;
pub mod template;
pub mod time;
pub mod units;
pub mod view;
