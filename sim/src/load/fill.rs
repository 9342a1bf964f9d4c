//! Stores what traffic reads, through the API.
//!
//! Knows what an edge keeps of its own writes, and that a user without orders has an
//! empty list of them. Products and orders cannot be stored so that they have a
//! certain id: those are left to who fills the database.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Edge;
use super::target::quoted_of;
use crate::traffic::Traffic;
use crate::traffic::call::{self, Call};

/// The edge keeps a copy of its own writes this long at most.
const L1_MAX_AGE: Duration = Duration::from_secs(5);
/// Calls at the same time: as many as a small PostgreSQL has room for.
const AT_ONCE: usize = 8;

/// What has to be there.
pub struct Needed {
    calls: Vec<Call>,
    /// Keys of Valkey, which are stored for a while.
    pub keys: usize,
    /// Users, who stay.
    pub users: usize,
}

impl Needed {
    /// For as long as `ttl_s`.
    pub fn of(traffic: &Traffic, ttl_s: u32) -> Self {
        let stored = call::stored(traffic);
        let users = call::users(traffic);
        let keys = stored.iter().filter(|thing| thing.valkey_key().is_some());
        Self {
            keys: keys.count(),
            users: users.len(),
            calls: call::fill(&stored, ttl_s)
                .into_iter()
                .chain(users.into_iter().map(call::make_user))
                .collect(),
        }
    }
}

/// Stores it, and lets the edge's own copies of it grow old.
///
/// # Errors
/// The edge does not answer or does not store.
pub async fn fill(edge: &Edge, needed: Needed) -> Result<()> {
    let mut under_way = JoinSet::new();
    for call in needed.calls {
        if under_way.len() == AT_ONCE
            && let Some(stored) = under_way.join_next().await
        {
            stored??;
        }
        let edge = edge.clone();
        under_way.spawn(async move { store(&edge, &call).await });
    }
    while let Some(stored) = under_way.join_next().await {
        stored??;
    }
    sleep(L1_MAX_AGE).await;
    Ok(())
}

async fn store(edge: &Edge, call: &Call) -> Result<()> {
    let answer = edge.send(call).await?;
    let is_refused = String::from_utf8_lossy(&answer.body).contains("\"success\":false");
    ensure!(
        answer.status.is_success() && !is_refused,
        "{} does not store what the traffic reads (status {}): {}",
        edge.base(),
        answer.status.as_u16(),
        quoted_of(&answer.body)
    );
    Ok(())
}
