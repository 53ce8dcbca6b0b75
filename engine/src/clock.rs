//! Time as an input: wall time handed in, and the hybrid logical clock that stamps writes.
//!
//! ```text
//!  Timestamp   microseconds, what the wall says          ledger time, audit, "now" of a read
//!  Stamp       48 bits of milliseconds ‖ 16 bits count   breaks ties between concurrent writes, expiry
//!
//!  local write    stamp = max(wall, last + 1, every stamp it supersedes + 1)
//!  received       last  = max(last, received), unless received is more than 500 ms ahead of the wall
//! ```
//!
//! Causality is carried by dots alone; a stamp only breaks ties. That is why a stamp from a clock gone mad may be
//! merged without harm: the value takes part like any other, but it does not drag this node's clock along.
//!
//! Nothing here asks the system for the time. A stamp keeps to the idea of Kulkarni et al., "Logical Physical Clocks"
//! (2014): one ordered number near wall time that also respects what was seen.

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(pub u64);

/// Where the engine learns what time it is; the only implementation that asks the system lives in `server::runtime`.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A hybrid logical stamp: milliseconds since the Unix epoch in the upper 48 bits, a counter in the lower 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp(pub u64);

const COUNTER_BITS: u32 = 16;
const MICROSECONDS_PER_MILLISECOND: u64 = 1_000;

impl Stamp {
    /// The first stamp of the millisecond `wall` lies in.
    #[must_use]
    pub fn at(wall: Timestamp) -> Stamp {
        Stamp::from_milliseconds(wall.0 / MICROSECONDS_PER_MILLISECOND)
    }

    /// The first stamp of a millisecond since the Unix epoch; the year 10889 and later are cut to its end.
    #[must_use]
    pub fn from_milliseconds(milliseconds: u64) -> Stamp {
        Stamp(milliseconds.min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next stamp. A full counter carries into the milliseconds; the very last stamp is its own successor, and ties
    /// with it are broken by actor.
    #[must_use]
    pub fn next(self) -> Stamp {
        Stamp(self.0.saturating_add(1))
    }
}

/// The hybrid logical clock of one node: strictly increasing stamps near wall time.
///
/// Its high-water mark ([`Hybrid::last`]) is kept in `meta`, so that a node whose wall clock was set back across a
/// restart still stamps upwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hybrid {
    last: Stamp,
}

impl Hybrid {
    /// How far ahead of the wall a stamp may be, in milliseconds, before it stops moving the clock.
    pub const AHEAD_MS_MAX: u64 = 500;

    /// A clock that has already given out everything up to `last`.
    #[must_use]
    pub fn resume(last: Stamp) -> Hybrid {
        Hybrid { last }
    }

    /// The newest stamp that moved this clock.
    #[must_use]
    pub fn last(self) -> Stamp {
        self.last
    }

    /// The stamp of a local write: above the wall's millisecond, all earlier stamps of this clock, and the newest stamp
    /// the write supersedes.
    ///
    /// A superseded stamp far ahead of the wall lifts this one stamp (the write must win over what it replaces) but not
    /// the clock.
    pub fn stamp(&mut self, wall: Timestamp, superseded: Option<Stamp>) -> Stamp {
        let own = Stamp::at(wall).max(self.last.next());
        let stamp = superseded.map_or(own, |newest| own.max(newest.next()));
        self.last = if is_too_far_ahead(stamp, wall) { own } else { stamp };
        stamp
    }

    /// Learns of a stamp made elsewhere. Returns false when it is more than [`Hybrid::AHEAD_MS_MAX`] ahead of the wall
    /// and therefore left the clock alone: worth an alarm, for some node's clock is wrong.
    pub fn observe(&mut self, wall: Timestamp, received: Stamp) -> bool {
        let sound = !is_too_far_ahead(received, wall);
        if sound {
            self.last = self.last.max(received);
        }
        sound
    }
}

fn is_too_far_ahead(stamp: Stamp, wall: Timestamp) -> bool {
    stamp.milliseconds() > Stamp::at(wall).milliseconds().saturating_add(Hybrid::AHEAD_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
    const MILLISECOND: u64 = 1_000;

    #[test]
    fn stamps_increase_even_when_the_wall_goes_back() {
        let mut clock = Hybrid::default();
        let first = clock.stamp(NOW, None);
        let second = clock.stamp(NOW, None);
        let third = clock.stamp(Timestamp(NOW.0 - 3_600 * 1_000 * MILLISECOND), None);
        assert_eq!(first, Stamp::at(NOW));
        assert!(first < second && second < third);
    }

    #[test]
    fn a_write_is_stamped_above_all_it_supersedes() {
        let mut clock = Hybrid::default();
        let replaced = Stamp::at(Timestamp(NOW.0 + 100 * MILLISECOND));
        assert_eq!(clock.stamp(NOW, Some(replaced)), replaced.next());
        assert!(clock.stamp(NOW, None) > replaced.next());
    }

    #[test]
    fn a_stamp_500_ms_ahead_moves_the_clock_and_501_ms_does_not() {
        let mut clock = Hybrid::default();
        let near = Stamp::at(Timestamp(NOW.0 + 500 * MILLISECOND));
        assert!(clock.observe(NOW, near));
        assert_eq!(clock.last(), near);
        let far = Stamp::at(Timestamp(NOW.0 + 501 * MILLISECOND));
        assert!(!clock.observe(NOW, far));
        assert_eq!(clock.last(), near);
    }

    #[test]
    fn superseding_a_stamp_of_a_mad_clock_wins_without_following_it() {
        let mut clock = Hybrid::default();
        let mad = Stamp::at(Timestamp(NOW.0 + 365 * 24 * 3_600 * 1_000 * MILLISECOND));
        assert!(clock.stamp(NOW, Some(mad)) > mad);
        assert_eq!(
            clock.stamp(Timestamp(NOW.0 + MILLISECOND), None),
            Stamp::at(Timestamp(NOW.0 + MILLISECOND))
        );
    }

    #[test]
    fn the_last_stamp_does_not_wrap() {
        let mut clock = Hybrid::default();
        assert_eq!(clock.stamp(NOW, Some(Stamp(u64::MAX))), Stamp(u64::MAX));
        assert_eq!(Stamp::from_milliseconds(u64::MAX).milliseconds(), u64::MAX >> 16);
    }
}
