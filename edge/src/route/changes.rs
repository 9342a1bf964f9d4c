//! The watch for changes behind the edge: sweeps of the outbox, one after another.
//!
//! Does not know what starts it: on Workers a Cron Trigger each minute.

use std::rc::Rc;

use super::body::made_old;
use crate::host::Host;
use crate::isolate::Isolate;
use crate::limits::{CHANGES_AT_ONCE_MAX, CHANGES_EVERY_MS_DEFAULT};
use crate::tiers::Tiers;

/// Tells L2 of changes again and again, for `duration_ms`. Faults are the log's:
/// what was not told is told the next time.
pub async fn watch<H: Host>(host: H, isolate: Rc<Isolate>, duration_ms: u64) {
    let every_ms = isolate
        .settings
        .changes_every_ms
        .unwrap_or(CHANGES_EVERY_MS_DEFAULT);
    let mut left_ms = duration_ms;
    loop {
        let tiers = Tiers::new(host.clone(), Rc::clone(&isolate));
        let began_ms = host.now_ms();
        let told = tiers.tell_changes(made_old).await.unwrap_or_else(|error| {
            tiers.complain(&error);
            0
        });
        left_ms = left_ms.saturating_sub(host.now_ms().saturating_sub(began_ms));
        // There may be more than were asked for.
        if told == CHANGES_AT_ONCE_MAX {
            continue;
        }
        if left_ms <= every_ms {
            return;
        }
        left_ms -= every_ms;
        host.sleep(every_ms).await;
    }
}
