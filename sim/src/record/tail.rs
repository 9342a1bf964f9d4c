//! `wrangler tail --format json`, which prints an object over many lines, and
//! Logpush's Workers trace events, one object a line.
//!
//! The edge's own trace lines are among an event's logs. Where a recording has any,
//! they are what is recorded: they are a sample of whole clients, with ids hashed
//! under another key, and do not go together with the URLs of all.

use std::collections::HashMap;
use std::io::BufRead;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Recording, Seen, line};
use crate::lines::{Line, Lines};

/// Events with all their logs are not longer.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(alias = "Event")]
    event: Option<Event>,
    #[serde(alias = "EventTimestampMs")]
    event_timestamp: Option<u64>,
    #[serde(default, alias = "Logs")]
    logs: Vec<Log>,
    #[serde(alias = "ExecutionModel")]
    execution_model: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(alias = "Request")]
    request: Option<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(alias = "URL")]
    url: String,
    #[serde(alias = "Method")]
    method: String,
    #[serde(default)]
    headers: HashMap<String, String>,
    cf: Option<Cf>,
}

#[derive(Deserialize)]
struct Cf {
    colo: Option<String>,
}

#[derive(Deserialize)]
struct Log {
    /// What was printed: texts, or anything else.
    #[serde(default, alias = "Message")]
    message: Value,
}

pub(super) fn read(reader: impl BufRead, recording: &mut Recording) -> Result<()> {
    let mut lines = Lines::new(reader, EVENT_BYTES_MAX);
    let (mut event, mut began) = (Vec::new(), 0);
    while let Some(Line { number, text }) = lines.read().context("the file is damaged")? {
        let Some(line) = text else {
            recording.reject(|| format!("line {number}: it has more than {EVENT_BYTES_MAX} bytes"));
            event.clear();
            continue;
        };
        // In one line or in many: an object begins and ends where a line does.
        let begins = line.starts_with(b"{");
        if begins {
            add(&std::mem::take(&mut event), began, recording);
        }
        if event.is_empty() {
            began = number;
        }
        event.extend_from_slice(line);
        event.push(b'\n');
        let is_whole = line.starts_with(b"}") || (begins && line.trim_ascii_end().ends_with(b"}"));
        if is_whole || !event.starts_with(b"{") || event.len() > EVENT_BYTES_MAX {
            add(&std::mem::take(&mut event), began, recording);
        }
    }
    add(&event, began, recording);
    Ok(())
}

fn add(text: &[u8], began: u64, recording: &mut Recording) {
    if text.trim_ascii().is_empty() {
        return;
    }
    let place = format!("line {began}");
    match serde_json::from_slice::<Item>(text) {
        Ok(item) => take(item, &place, recording),
        Err(error) => recording.reject(|| format!("{place}: it is no event: {error}")),
    }
}

fn take(item: Item, place: &str, recording: &mut Recording) {
    let request = item.event.and_then(|event| event.request);
    let colo = request
        .as_ref()
        .and_then(|asked| asked.cf.as_ref()?.colo.clone());
    let colo = colo.unwrap_or_default();
    let texts = item.logs.iter().flat_map(|log| match &log.message {
        Value::Array(parts) => parts.as_slice(),
        part => std::slice::from_ref(part),
    });
    let mut is_own = false;
    for text in texts.filter_map(Value::as_str) {
        is_own |= line::read(text, &colo, place, recording);
    }
    if is_own {
        return;
    }
    if item.execution_model.as_deref() == Some("durableObject") {
        return recording.leave_out("a gateway's part of a request");
    }
    let (Some(asked), Some(time_ms)) = (request, item.event_timestamp) else {
        return recording.leave_out("an event that is no request");
    };
    let client = asked.headers.get("cf-connecting-ip").cloned();
    recording.add(&Seen {
        time_ms,
        method: asked.method,
        target: asked.url,
        client: client.unwrap_or_default(),
        place: colo,
        ..Seen::default()
    });
}
