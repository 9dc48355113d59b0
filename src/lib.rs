//! ganger: the foreman of a gang of workers.

pub mod api;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod engine;
pub mod leases;
pub mod listeners;
pub mod logs;
pub mod model;
pub mod os;
