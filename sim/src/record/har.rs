//! HTTP Archive 1.2, as the developer tools of browsers save it: one client.

use std::io::Read;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Recording, Seen};

#[derive(Deserialize)]
struct Archive {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    /// One that is odd does not spoil the others.
    entries: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    started_date_time: String,
    request: Asked,
    response: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    method: String,
    url: String,
    post_data: Option<Body>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: u16,
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    /// -1: not known.
    #[serde(default)]
    size: i64,
}

/// Whose requests are in an archive is nowhere in it.
const CLIENT: &str = "browser";

pub(super) fn read(reader: impl Read, recording: &mut Recording) -> Result<()> {
    let archive: Archive = serde_json::from_reader(reader).context("it is no HTTP Archive")?;
    for (index, entry) in archive.log.entries.into_iter().enumerate() {
        let entry = Entry::deserialize(entry).map_err(|error| error.to_string());
        match entry.and_then(|entry| seen(&entry)) {
            Ok(seen) => recording.add(&seen),
            Err(why) => recording.reject(|| format!("entry {}: {why}", index + 1)),
        }
    }
    Ok(())
}

fn seen(entry: &Entry) -> Result<Seen, String> {
    let time = OffsetDateTime::parse(&entry.started_date_time, &Rfc3339)
        .map_err(|error| format!("its time {:?} is none: {error}", entry.started_date_time))?;
    let time_ms = time.unix_timestamp_nanos() / 1_000_000;
    let body = entry.request.post_data.as_ref();
    let body = body.map_or("", |body| body.text.as_str());
    let answer = Some(&entry.response).filter(|answer| answer.status == 200);
    let content = answer.and_then(|answer| answer.content.as_ref());
    let size = content.map_or(0, |content| content.size);
    Ok(Seen {
        time_ms: u64::try_from(time_ms).map_err(|_| "its time is before 1970")?,
        method: entry.request.method.clone(),
        target: entry.request.url.clone(),
        user: user(body.as_bytes()),
        client: CLIENT.to_owned(),
        place: String::new(),
        sent_bytes: body.len().try_into().unwrap_or(u32::MAX),
        answered_bytes: u32::try_from(size).unwrap_or_default(),
    })
}

/// Of whom an order or a return is.
pub(super) fn user(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Owned {
        user_id: String,
    }
    let owned: Owned = serde_json::from_slice(body).ok()?;
    Some(owned.user_id)
}
