//! An answer from L1 that is ready to be given again: what its URL asks the tiers for,
//! and what was made of their find. So the next hit takes no URL apart, makes no body
//! and no entity tag; and where nothing has changed, not even headers.
//!
//! Whether a copy may answer is L1's to judge, each time. Who keeps this, and for which
//! requests, is the host's matter; knows no header and no status.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;

use super::body::Wanted;
use crate::isolate::Isolate;
use crate::tiers::{Found, Reads, Tier, fresh};

/// A body with its entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub body: Bytes,
    pub tag: Rc<str>,
}

/// See above. Only for requests that are the same in all that [`super::Request`] has.
pub struct Ready {
    pub(super) wanted: Rc<Wanted>,
    /// As L1 has it. Kept, so that no other body is where this one was.
    found: Bytes,
    made: Made,
    shown: Shown,
}

/// What a hit says of itself.
#[derive(PartialEq, Eq)]
struct Shown {
    age_s: u64,
    ttl_s: i64,
}

impl Shown {
    fn of(found: &Found) -> Self {
        Self {
            age_s: found.age_s(),
            ttl_s: found.ttl_s(),
        }
    }
}

impl Ready {
    /// None: no fresh copy of L1's was found.
    pub(super) fn new(wanted: Rc<Wanted>, found: &Found, made: &Made) -> Option<Rc<Self>> {
        let body = found.body.as_ref()?;
        let is_hit = found.tier == Tier::L1 && !found.is_stale;
        is_hit.then(|| {
            Rc::new(Self {
                wanted,
                found: body.clone(),
                made: made.clone(),
                shown: Shown::of(found),
            })
        })
    }

    /// What was made of the very same bytes.
    pub(super) fn made(&self, found: &Bytes) -> Option<Made> {
        is_same(&self.found, found).then(|| self.made.clone())
    }

    /// Whether the next answer is this one to the last byte; then it counts as given.
    /// `host_ms` is what the host's clock shows.
    pub fn holds(&self, isolate: &Isolate, host_ms: u64) -> bool {
        let now_ms = isolate.now_ms(host_ms);
        let (key, variant) = self.wanted.place();
        // Where a refresh is due, somebody has to begin it.
        let Some((found, false)) = fresh(isolate, key, variant, now_ms) else {
            return false;
        };
        let is_same = found
            .body
            .as_ref()
            .is_some_and(|body| is_same(&self.found, body));
        if !is_same || self.shown != Shown::of(&found) {
            return false;
        }
        if self.wanted.is_value() {
            isolate.metrics.read(Reads { hits: 1, misses: 0 });
            isolate.metrics.request(0);
        }
        true
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ready")
    }
}

/// The very same bytes, not only equal ones.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::target::Target;
    use crate::settings::Settings;
    use crate::tiers::entry::Entry;

    const NOW_MS: u64 = 1_000_000;

    fn keep(isolate: &Isolate, text: &'static str) {
        let entry = Entry {
            body: Some(Bytes::from_static(text.as_bytes())),
            read_at_ms: NOW_MS,
            refresh_at_ms: NOW_MS + 3_000,
            fresh_until_ms: NOW_MS + 4_500,
            stale_until_ms: NOW_MS + 9_000,
        };
        let mut memory = isolate.memory.borrow_mut();
        assert!(memory.keep("session:a", "", entry, NOW_MS));
    }

    fn ready(isolate: &Isolate, now_ms: u64) -> Rc<Ready> {
        let wanted = Rc::new(Wanted::of(Target::Session("a".to_owned())).unwrap());
        let (found, _) = fresh(isolate, "session:a", "", now_ms).unwrap();
        let made = wanted.made(found.body.as_ref().unwrap()).unwrap();
        Ready::new(wanted, &found, &made).unwrap()
    }

    #[test]
    fn an_answer_holds_while_it_says_the_same() {
        let isolate = Isolate::new(Settings::read(&|_| None));
        keep(&isolate, "1");
        let first = ready(&isolate, NOW_MS + 100);
        assert!(first.holds(&isolate, NOW_MS + 499));
        // It has 3 s left and no longer 4.
        assert!(!first.holds(&isolate, NOW_MS + 501));
        let second = ready(&isolate, NOW_MS + 501);
        assert!(second.holds(&isolate, NOW_MS + 999));
        // It is a second old.
        assert!(!second.holds(&isolate, NOW_MS + 1_000));
        // A refresh is due.
        let last = ready(&isolate, NOW_MS + 2_900);
        assert!(last.holds(&isolate, NOW_MS + 2_999));
        assert!(!last.holds(&isolate, NOW_MS + 3_000));
        assert!(!last.holds(&isolate, NOW_MS + 4_500));
        assert!(isolate.metrics.json().contains(r#""totalRequests":3"#));
    }

    #[test]
    fn an_answer_ends_with_the_copy_that_it_was_made_of() {
        let isolate = Isolate::new(Settings::read(&|_| None));
        keep(&isolate, "1");
        let first = ready(&isolate, NOW_MS);
        assert!(first.holds(&isolate, NOW_MS));
        keep(&isolate, "2");
        assert!(!first.holds(&isolate, NOW_MS));
        let second = ready(&isolate, NOW_MS);
        isolate.memory.borrow_mut().forget("session:a");
        assert!(!second.holds(&isolate, NOW_MS));
    }
}
