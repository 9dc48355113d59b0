//! The situations of the manual.
