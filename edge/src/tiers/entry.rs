//! A copy and its freshness: until when it may answer, and when a refresh is due.
//!
//! Pure arithmetic on times of one clock. Knows no tier and keeps nothing.

use bytes::Bytes;

use crate::mutation::{self, Mutation};
use crate::policy::Policy;

/// A value, or its remembered absence, with the time at which the truth was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// None: it was not there.
    pub body: Option<Bytes>,
    pub read_at_ms: u64,
    /// From here on it is fresh and a refresh is due.
    pub refresh_at_ms: u64,
    /// Up to here it may answer.
    pub fresh_until_ms: u64,
    /// Up to here it may answer when the truth cannot be asked.
    pub stale_until_ms: u64,
}

/// What is known of a copy's times.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When the truth was read; that never restarts.
    pub read_at_ms: u64,
    /// When the tier below was asked.
    pub asked_at_ms: u64,
    /// When it must be gone.
    pub gone_at_ms: u64,
}

/// Drawn for each copy, in percent, so that copies that were made together do
/// not end together.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// By how much the time in the isolate is shortened.
    pub jitter: u64,
    /// After which part of it a refresh is due.
    pub refresh: u64,
}

impl Entry {
    pub fn new(policy: &Policy, body: Option<Bytes>, times: Times, draws: Draws) -> Self {
        let Times {
            read_at_ms,
            asked_at_ms,
            gone_at_ms,
        } = times;
        let isolate_ms = part(policy.isolate_ms, 100_u64.saturating_sub(draws.jitter));
        // An absence that may be over is none.
        let stale_ms = body.as_ref().map_or(0, |_| policy.stale_if_error_ms);
        let age_ms_max = policy.age_ms_max(body.is_none());
        let limit_ms = read_at_ms.saturating_add(age_ms_max).min(gone_at_ms);
        let fresh_until_ms = asked_at_ms.saturating_add(isolate_ms).min(limit_ms);
        let fresh_ms = fresh_until_ms.saturating_sub(asked_at_ms);
        Self {
            body,
            read_at_ms,
            refresh_at_ms: asked_at_ms.saturating_add(part(fresh_ms, draws.refresh)),
            fresh_until_ms,
            stale_until_ms: match stale_ms {
                0 => fresh_until_ms,
                _ => limit_ms.saturating_add(stale_ms).min(gone_at_ms),
            },
        }
    }

    /// Age in ms.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.read_at_ms)
    }

    pub fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.fresh_until_ms || mutation::is(Mutation::StaleForEver)
    }

    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.refresh_at_ms && !mutation::is(Mutation::StaleForEver)
    }

    pub(super) fn is_of_use(&self, now_ms: u64) -> bool {
        now_ms < self.fresh_until_ms.max(self.stale_until_ms)
            || mutation::is(Mutation::StaleForEver)
    }
}

fn part(duration_ms: u64, percent: u64) -> u64 {
    duration_ms.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{JITTER, REFRESH_FROM};

    fn policies() -> impl Strategy<Value = Policy> {
        (0..5_001_u64, 0..60_000_u64, 0..5_001_u64, 0..100_000_u64).prop_map(
            |(isolate_ms, max_age_ms, absence_ms, stale_if_error_ms)| Policy {
                isolate_ms,
                max_age_ms,
                absence_ms,
                stale_if_error_ms,
                ttl_s: None,
            },
        )
    }

    fn bodies() -> impl Strategy<Value = Option<Bytes>> {
        prop_oneof![Just(None), Just(Some(Bytes::from_static(b"{}")))]
    }

    fn draws() -> impl Strategy<Value = Draws> {
        let refresh = REFRESH_FROM.0..=REFRESH_FROM.1;
        (0..=JITTER, refresh).prop_map(|(jitter, refresh)| Draws { jitter, refresh })
    }

    /// Read some time before it was asked for, and gone some time after, or never.
    fn times() -> impl Strategy<Value = Times> {
        let gone_ms = prop_oneof![Just(u64::MAX), 0..100_000_u64];
        (0..2_000_000_u64, 0..100_000_u64, gone_ms).prop_map(|(asked_at_ms, age_ms, gone_ms)| {
            Times {
                read_at_ms: asked_at_ms.saturating_sub(age_ms),
                asked_at_ms,
                gone_at_ms: asked_at_ms.saturating_add(gone_ms),
            }
        })
    }

    proptest! {
        #[test]
        fn no_copy_outlives_its_bounds(
            policy in policies(), body in bodies(), times in times(), draws in draws(),
        ) {
            let entry = Entry::new(&policy, body, times, draws);
            let limit_ms = times.read_at_ms + policy.age_ms_max(entry.body.is_none());
            prop_assert!(entry.fresh_until_ms <= limit_ms);
            prop_assert!(entry.fresh_until_ms <= times.asked_at_ms + policy.isolate_ms);
            prop_assert!(entry.fresh_until_ms <= times.gone_at_ms);
            prop_assert!(entry.stale_until_ms <= limit_ms + policy.stale_if_error_ms);
            prop_assert!(entry.stale_until_ms <= times.gone_at_ms);
            prop_assert!(entry.stale_until_ms >= entry.fresh_until_ms);
            if entry.body.is_none() {
                prop_assert!(entry.stale_until_ms == entry.fresh_until_ms);
            }
        }

        #[test]
        fn jitter_only_shortens_and_a_refresh_comes_before_the_end(
            policy in policies(), body in bodies(), times in times(), draws in draws(),
        ) {
            let entry = Entry::new(&policy, body.clone(), times, draws);
            let whole = Entry::new(&policy, body, times, Draws { jitter: 0, ..draws });
            prop_assert!(entry.fresh_until_ms <= whole.fresh_until_ms);
            let fresh_ms = |entry: &Entry| entry.fresh_until_ms.saturating_sub(times.asked_at_ms);
            prop_assert!(fresh_ms(&entry) >= part(fresh_ms(&whole), 100 - JITTER));
            prop_assert!(entry.refresh_at_ms >= times.asked_at_ms);
            prop_assert!(entry.refresh_at_ms <= entry.fresh_until_ms.max(times.asked_at_ms));
        }

        #[test]
        fn an_age_goes_through_all_tiers_and_never_restarts(
            policy in policies(), body in bodies(), times in times(), draws in draws(),
            waits in proptest::collection::vec(0..10_000_u64, 1..6),
        ) {
            let mut entry = Entry::new(&policy, body, times, draws);
            let mut now_ms = times.asked_at_ms;
            for wait_ms in waits {
                let age_ms = entry.age_ms(now_ms);
                now_ms += wait_ms;
                prop_assert_eq!(entry.age_ms(now_ms), age_ms + wait_ms);
                // The next tier is told the age only.
                let promoted = Times {
                    read_at_ms: now_ms - entry.age_ms(now_ms),
                    asked_at_ms: now_ms,
                    gone_at_ms: u64::MAX,
                };
                entry = Entry::new(&policy, entry.body.clone(), promoted, draws);
                prop_assert_eq!(entry.read_at_ms, times.read_at_ms);
            }
        }

        #[test]
        fn what_ended_stays_so(
            policy in policies(), body in bodies(), times in times(), draws in draws(),
            now_ms in 0..3_000_000_u64, later_ms in 0..1_000_000_u64,
        ) {
            let entry = Entry::new(&policy, body, times, draws);
            let then_ms = now_ms + later_ms;
            prop_assert!(entry.is_fresh(now_ms) || !entry.is_fresh(then_ms));
            prop_assert!(entry.is_of_use(now_ms) || !entry.is_of_use(then_ms));
            prop_assert!(!entry.is_due(now_ms) || entry.is_due(then_ms));
            prop_assert!(!entry.is_fresh(now_ms) || entry.is_of_use(now_ms));
        }
    }
}
