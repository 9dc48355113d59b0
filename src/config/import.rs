//! A plan as TOML.
