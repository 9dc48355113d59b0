//! Time as plain integers: monotonic `Moment`s for deadlines, wall-clock `Stamp`s for people, `Span`s between.
//!
//! Both clocks come in from outside as a `Now`; nobody but `os/clock` asks what time it is. Integers of
//! milliseconds, so that all state can be written down and read back equal.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A moment on the monotonic clock (milliseconds since some boot-time origin). Never shown to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

/// A moment on the wall clock (milliseconds since 1970, UTC). For people only: it may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub i64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub moment: Moment,
    pub stamp: Stamp,
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn millis(ms: u64) -> Span {
        Span(ms)
    }

    pub const fn secs(secs: u64) -> Span {
        Span(secs.saturating_mul(1000))
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This span times `factor`, saturating; negative and NaN factors give zero.
    pub fn times(self, factor: f64) -> Span {
        let ms = self.0 as f64 * factor;
        // `as` saturates, and turns NaN into zero.
        Span(ms as u64)
    }
}

impl Moment {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Moment) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Moment {
    type Output = Moment;
    fn add(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Moment {
    type Output = Moment;
    fn sub(self, span: Span) -> Moment {
        Moment(self.0.saturating_sub(span.0))
    }
}

impl Add<Span> for Stamp {
    type Output = Stamp;
    fn add(self, span: Span) -> Stamp {
        Stamp(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Now {
    /// The wall-clock stamp of a (near) future or past moment, as far as we can tell now.
    pub fn stamp_of(self, moment: Moment) -> Stamp {
        let delta = i128::from(moment.0) - i128::from(self.moment.0);
        let at = i128::from(self.stamp.0) + delta;
        Stamp(at.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

/// As people read it: `0.2 s`, `4 s`, `3m20s`, `2h05m`, `3d4h`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let secs = ms / 1000;
        if ms < 10_000 && !ms.is_multiple_of(1000) {
            // Rounded down, so that what is shown has really passed.
            if ms < 100 { write!(f, "0.{:02} s", ms / 10) } else { write!(f, "{}.{} s", secs, ms % 1000 / 100) }
        } else if secs < 60 {
            write!(f, "{secs} s")
        } else if secs < 3600 {
            write!(f, "{}m{:02}s", secs / 60, secs % 60)
        } else if secs < 86_400 {
            write!(f, "{}h{:02}m", secs / 3600, secs % 3600 / 60)
        } else {
            write!(f, "{}d{}h", secs / 86_400, secs % 86_400 / 3600)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let shown = |ms| Span(ms).to_string();
        assert_eq!(shown(0), "0 s");
        assert_eq!(shown(40), "0.04 s");
        assert_eq!(shown(230), "0.2 s");
        assert_eq!(shown(4_000), "4 s");
        assert_eq!(shown(12_900), "12 s");
        assert_eq!(shown(200_000), "3m20s");
        assert_eq!(shown(7_500_000), "2h05m");
        assert_eq!(shown(273_600_000), "3d4h");
    }

    #[test]
    fn spans_saturate_instead_of_wrapping() {
        assert_eq!(Span(u64::MAX) + Span(1), Span(u64::MAX));
        assert_eq!(Span(10).times(f64::NAN), Span(0));
        assert_eq!(Span(10).times(-1.0), Span(0));
        assert_eq!(Span(10).times(f64::INFINITY), Span(u64::MAX));
    }
}
