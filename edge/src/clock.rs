//! The time by which copies age and pauses end in an isolate. It never goes back.
//!
//! Knows numbers that a host's clock shows; knows no host. Times of it are only
//! compared with one another: what the world calls now is the host's to say.

use crate::limits::CLOCK_STEP_MS_MAX;

/// An isolate's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// The latest that the host's clock has shown since it went back far.
    host_ms: u64,
    /// By how much this one is ahead.
    ahead_ms: u64,
}

/// What the clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub now_ms: u64,
    /// Nobody knows how much time has passed since the last reading.
    pub is_lost: bool,
}

impl Clock {
    /// Reads the clock when the host's shows `host_ms`. One that went back a
    /// little stands still here until it has caught up; one that went back far
    /// goes on from where it was, and says nothing about the time between.
    pub fn read(&mut self, host_ms: u64) -> Reading {
        let back_ms = self.host_ms.saturating_sub(host_ms);
        let is_lost = back_ms > CLOCK_STEP_MS_MAX;
        if is_lost {
            self.ahead_ms = self.ahead_ms.saturating_add(back_ms);
            self.host_ms = host_ms;
        }
        self.host_ms = self.host_ms.max(host_ms);
        Reading {
            now_ms: self.host_ms.saturating_add(self.ahead_ms),
            is_lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_little_back_stands_still_and_far_back_goes_on() {
        let mut clock = Clock::default();
        let mut shows = |host_ms| {
            let Reading { now_ms, is_lost } = clock.read(host_ms);
            (now_ms, is_lost)
        };
        assert_eq!(shows(10_000), (10_000, false));
        assert_eq!(shows(10_000 - CLOCK_STEP_MS_MAX), (10_000, false));
        assert_eq!(shows(10_001), (10_001, false));
        assert_eq!(shows(5_000), (10_001, true));
        assert_eq!(shows(5_007), (10_008, false));
        assert_eq!(shows(90_000), (95_001, false));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_passes_no_slower_than_the_hosts(
            steps in proptest::collection::vec(-10_000_i64..10_000, 1..50),
        ) {
            let mut clock = Clock::default();
            let mut host_ms = 1_000_000_u64;
            let mut now_ms = clock.read(host_ms).now_ms;
            for step_ms in steps {
                let before_ms = host_ms;
                host_ms = host_ms.saturating_add_signed(step_ms);
                let reading = clock.read(host_ms);
                prop_assert!(reading.now_ms >= now_ms);
                // It may first have to make up for a step that was believed.
                let passed_ms = host_ms.saturating_sub(before_ms);
                let counted_ms = reading.now_ms - now_ms;
                prop_assert!(counted_ms + CLOCK_STEP_MS_MAX >= passed_ms);
                prop_assert!(counted_ms <= passed_ms);
                prop_assert!(!reading.is_lost || step_ms < 0);
                now_ms = reading.now_ms;
            }
        }
    }
}
