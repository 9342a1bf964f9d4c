//! Traffic as text: one JSON object a line, plain or compressed.
//!
//! ```json
//! {"time_ms":1500,"method":"GET","route":"/valkey/session/{key}","kind":"session","key":"s1","size_bytes":420,"client":"c9","place":"FRA","flow":7}
//! ```
//!
//! | field | what it says |
//! | --- | --- |
//! | `time_ms` | when it was asked, from wherever the recording counts; `sim record` counts from 1970 |
//! | `method`, `route` | what was asked: one of [`Operation::route`], below `/api/vultr` |
//! | `kind` | the type of the data; for people and for `jq`, because the route decides |
//! | `key` | what stands for `{key}` in the route, decoded; of products and returns the query, of an order or a return that is made the user |
//! | `size_bytes` | of the value that was stored or answered; 0 or not there: not known |
//! | `client` | who asked; the same name is the same client |
//! | `place` | where: the point of presence, such as `FRA` |
//! | `flow` | requests with the same number follow one another, each sent when the one before was answered: one voice query; 0 or not there: by itself. Where no line has one, voice queries are found by their order |
//!
//! `time_ms`, `method`, `route` and `key` must be there. A time that goes back is
//! counted and stands still; a line that cannot be used is counted and left out.
//! Both are said.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Request, Traffic};
use crate::lines::{Line, Lines};
use crate::operation::{Method, Operation, kind_name};
use crate::trace::{Compression, ensure_room};

/// Longer lines are none of ours, and would fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Written<'a> {
    time_ms: u64,
    // What has escapes cannot be borrowed.
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    route: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size_bytes: u32,
    #[serde(borrow, default)]
    client: Cow<'a, str>,
    #[serde(borrow, default)]
    place: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    flow: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Whether a file is named as traffic and not as a trace of keys.
pub fn is_named(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.split('.').skip(1).any(|part| part == "ndjson"))
}

/// # Errors
/// The file cannot be read, is damaged, or has no request.
pub fn open(path: &Path) -> Result<Traffic> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open the traffic {name}"))?;
    read(BufReader::new(file)).with_context(|| format!("cannot read the traffic {name}"))
}

/// Reads traffic; how it is compressed is told by its first bytes.
///
/// # Errors
/// It is damaged, or has no request at all.
pub fn read(compressed: impl Read) -> Result<Traffic> {
    let reader = BufReader::new(Compression::undo(compressed)?);
    let mut lines = Lines::new(reader, LINE_BYTES_MAX);
    let mut traffic = Traffic::default();
    while let Some(Line { number, text }) = lines.read().context("the file is damaged")? {
        let Some(text) = text else {
            bail!("line {number} has more than {LINE_BYTES_MAX} bytes: this is no traffic");
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        match request(text, &mut traffic) {
            Ok(request) => {
                ensure_room(traffic.requests.len())?;
                traffic.push(request);
            }
            Err(why) => traffic.oddities.reject(|| format!("line {number}: {why}")),
        }
    }
    if traffic.requests.is_empty() {
        match &traffic.oddities.first_rejected {
            Some(first) => bail!("not one line is a request; the first: {first}"),
            None => bail!("it is empty"),
        }
    }
    Ok(traffic)
}

fn request(line: &[u8], traffic: &mut Traffic) -> Result<Request, String> {
    let line: Written = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let method = Method::ALL
        .into_iter()
        .find(|method| method.name() == line.method)
        .ok_or_else(|| format!("the method {:?} is none of the API's", line.method))?;
    let operation = Operation::of_route(method, &line.route)
        .ok_or_else(|| format!("{} {} is no route of the API", line.method, line.route))?;
    Ok(Request {
        time_ms: line.time_ms,
        operation,
        key: traffic.keys.number(&line.key),
        size_bytes: line.size_bytes,
        client: traffic.clients.number(&line.client),
        place: traffic.places.number(&line.place),
        flow: line.flow,
    })
}

/// A file that traffic is written to, compressed when its name ends in `.zst`.
pub enum Output {
    Plain(BufWriter<File>),
    Packed(zstd::Encoder<'static, File>),
}

impl Output {
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot write the traffic to {}", path.display());
        let file = File::create(path).with_context(cannot)?;
        if path.extension().is_some_and(|extension| extension == "zst") {
            Ok(Self::Packed(
                zstd::Encoder::new(file, 0).with_context(cannot)?,
            ))
        } else {
            Ok(Self::Plain(BufWriter::new(file)))
        }
    }

    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Plain(mut writer) => writer.flush(),
            Self::Packed(encoder) => encoder.finish().map(drop),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(bytes),
            Self::Packed(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(writer) => writer.flush(),
            Self::Packed(encoder) => encoder.flush(),
        }
    }
}

/// Writes traffic to a file.
///
/// # Errors
/// The file cannot be written.
pub fn save(traffic: &Traffic, path: &Path) -> Result<()> {
    let cannot = || format!("cannot write the traffic to {}", path.display());
    let mut output = Output::create(path)?;
    write(traffic, &mut output).with_context(cannot)?;
    output.finish().with_context(cannot)
}

/// # Errors
/// Those of the writer.
pub fn write(traffic: &Traffic, mut writer: impl Write) -> Result<()> {
    for request in &traffic.requests {
        write_one(traffic, request, &mut writer)?;
    }
    Ok(())
}

/// # Errors
/// Those of the writer.
pub fn write_one(traffic: &Traffic, request: &Request, mut writer: impl Write) -> Result<()> {
    let (method, route) = request.operation.route();
    let line = Written {
        time_ms: request.time_ms,
        method: method.name().into(),
        route: route.into(),
        kind: request.operation.kind().map(|kind| kind_name(kind).into()),
        key: traffic.keys.name(request.key).into(),
        size_bytes: request.size_bytes,
        client: traffic.clients.name(request.client).into(),
        place: traffic.places.name(request.place).into(),
        flow: request.flow,
    };
    serde_json::to_writer(&mut writer, &line)?;
    writer.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Traffic {
        let mut traffic = Traffic::default();
        for (time_ms, operation) in Operation::ALL.into_iter().enumerate() {
            if operation == Operation::VoiceQuery {
                continue;
            }
            let request = Request {
                size_bytes: 7 * time_ms as u32,
                client: traffic
                    .clients
                    .number(if time_ms % 2 == 0 { "a" } else { "b\"\n" }),
                place: traffic.places.number("FRA"),
                flow: time_ms as u32 / 5,
                ..Request::new(
                    time_ms as u64,
                    operation,
                    traffic.keys.clone().number("ü k"),
                )
            };
            traffic.keys.number("ü k");
            traffic.push(request);
        }
        traffic
    }

    #[test]
    fn what_was_written_is_read_again_in_any_compression() -> Result<()> {
        let mut text = Vec::new();
        write(&sample(), &mut text)?;
        assert_eq!(read(text.as_slice())?, sample());
        let packed = zstd::encode_all(text.as_slice(), 1)?;
        assert_eq!(read(packed.as_slice())?, sample());
        Ok(())
    }

    #[test]
    fn lines_that_are_no_request_are_counted_and_the_first_is_said() -> Result<()> {
        let text = concat!(
            r#"{"time_ms":5,"method":"GET","route":"/valkey/session/{key}","key":"s"}"#,
            "\n\n",
            r#"{"time_ms":6,"method":"PUT","route":"/valkey/session/{key}","key":"s"}"#,
            "\n",
            r#"{"time_ms":7,"method":"GET","route":"/elsewhere","key":"s"}"#,
            "\nnonsense\n",
            r#"{"time_ms":4,"method":"GET","route":"/valkey/session/{key}","key":"s"}"#,
        );
        let traffic = read(text.as_bytes())?;
        assert_eq!(traffic.requests.len(), 2);
        assert_eq!(
            (traffic.oddities.unsorted, traffic.oddities.rejected),
            (1, 3)
        );
        let first = traffic.oddities.first_rejected.unwrap_or_default();
        assert_eq!(first, "line 3: the method \"PUT\" is none of the API's");
        Ok(())
    }

    #[test]
    fn a_line_may_be_written_as_any_program_writes_json() -> Result<()> {
        let text = concat!(
            "\u{feff}",
            r#"{"time_ms":5,"method":"G\u0045T","route":"\/valkey\/session\/{key}","key":"s"}"#,
            "\r\n",
        );
        let traffic = read(text.as_bytes())?;
        assert_eq!(traffic.requests.len(), 1);
        assert_eq!(traffic.oddities.rejected, 0);
        // As long as may be, and not longer.
        let key = "k".repeat(LINE_BYTES_MAX - text.trim_end().len());
        let longest = text.replace("\"s\"", &format!("\"{key}\""));
        assert_eq!(read(longest.as_bytes())?.requests.len(), 1);
        Ok(())
    }

    #[test]
    fn what_is_no_traffic_is_refused_with_a_reason() {
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        for (text, reason) in [
            ("", "it is empty"),
            ("x\ny\n", "the first: line 1"),
            (&long, "more than"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
