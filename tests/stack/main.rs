//! Real stacks: PHP workers, a real queue, a real gangerd, and every job counted.
//!
//! What is proved here cannot be proved on values: that between a broker, an interpreter and us no job is lost, done twice or
//! cut in half, and that a slot never has two workers. The evidence comes from outside: a journal that the workers append to,
//! beanstalkd's own figures, and a thread that watches /proc. gangerd is asked only to do things, and to agree.
//!
//! Needs beanstalkd and php-cli from Debian's packages (`tests/run` installs them); missing is a failure, not a skip.

// Tests may start programs and look at the clock; the house's ban is for `src`.
#![allow(clippy::disallowed_methods)]

mod beanstalkd;
mod journal;
mod leaking_fleet;
mod rig;
mod unmodified_worker;
mod watch;
