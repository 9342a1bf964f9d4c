//! Stores what traffic reads, through the API.
//!
//! Knows what an edge keeps of its own writes. Rows are left to PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::Edge;
use crate::traffic::Traffic;
use crate::traffic::call;

/// The edge keeps a copy of its own writes this long at most.
const L1_MAX_AGE: Duration = Duration::from_secs(5);

/// Stores it for as long as `ttl_s`, and lets the edge's own copies of it grow
/// old. How many keys there are.
///
/// # Errors
/// The edge does not answer or does not store.
pub async fn fill(edge: &Edge, traffic: &Traffic, ttl_s: u32) -> Result<usize> {
    let stored = call::stored(traffic);
    for call in call::fill(&stored, ttl_s) {
        let answer = edge.send(&call).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(
            answer.status.is_success() && !text.contains("\"success\":false"),
            "{} does not store what the traffic reads (status {}): {}",
            edge.base(),
            answer.status.as_u16(),
            text.chars().take(200).collect::<String>()
        );
    }
    sleep(L1_MAX_AGE).await;
    Ok(keys(&stored))
}

/// How many keys of Valkey it takes.
pub fn keys(stored: &[call::Stored]) -> usize {
    stored
        .iter()
        .filter(|thing| thing.valkey_key().is_some())
        .count()
}
