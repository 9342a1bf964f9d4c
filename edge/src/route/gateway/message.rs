//! A request to a gateway, and its answer, each as one message: lines, and behind them
//! the body as it is. A line has no line feed in it, as no request line and no field
//! value of HTTP has (RFC 9112, section 2.2), and no JSON that is printed in one line.
//!
//! Both ends are of one version of the edge, but for the seconds of a deployment.

use std::borrow::Cow;

use bytes::Bytes;

use super::ENVELOPE;
use crate::route::{Request, Response};

/// Lines of a request: method, path, query, `floor_ms`, and the headers that a gateway
/// knows. One that is there begins with `=`.
pub fn of_request(request: &Request) -> Vec<u8> {
    let floor_ms = request.floor_ms.map(|ms| ms.to_string());
    let body = request.body.as_deref().unwrap_or_default();
    packed(
        &[
            Some(&request.method),
            Some(&request.path),
            Some(&request.query),
            floor_ms.as_deref(),
            request.content_type.as_deref(),
            request.idempotency_key.as_deref(),
        ],
        body,
    )
}

/// None: it is not what [`of_request`] makes.
pub fn request(message: &Bytes) -> Option<Request> {
    let (lines, body) = unpacked(message)?;
    let [method, path, query, floor_ms, content_type, idempotency_key] = lines;
    Some(Request {
        method: method?.to_owned(),
        path: path?.to_owned(),
        query: query?.to_owned(),
        floor_ms: floor_ms.map(str::parse).transpose().ok()?,
        content_type: content_type.map(str::to_owned),
        idempotency_key: idempotency_key.map(str::to_owned),
        body: Some(body),
        ..Request::default()
    })
}

/// Lines of an answer: status, and envelope.
pub fn of_response(response: &Response) -> Vec<u8> {
    let status = response.status.to_string();
    let envelope = response.headers.iter().find(|(name, _)| *name == ENVELOPE);
    let envelope = envelope.map(|(_, text)| text.as_ref());
    packed(&[Some(&status), envelope], &response.body)
}

/// None: it is not what [`of_response`] makes.
pub fn response(message: &Bytes) -> Option<Response> {
    let (lines, body) = unpacked(message)?;
    let [status, envelope] = lines;
    let header = |text: &str| (ENVELOPE, Cow::Owned(text.to_owned()));
    Some(Response {
        status: status?.parse().ok()?,
        headers: envelope.map(header).into_iter().collect(),
        body,
        ready: None,
    })
}

fn packed(lines: &[Option<&str>], body: &[u8]) -> Vec<u8> {
    let length = lines.iter().flatten().map(|line| line.len()).sum::<usize>();
    let mut message = Vec::with_capacity(length + 2 * lines.len() + body.len());
    for line in lines {
        if let Some(line) = line {
            message.push(b'=');
            message.extend_from_slice(line.as_bytes());
        }
        message.push(b'\n');
    }
    message.extend_from_slice(body);
    message
}

fn unpacked<const LINES: usize>(message: &Bytes) -> Option<([Option<&str>; LINES], Bytes)> {
    let mut lines = [None; LINES];
    let mut rest: &[u8] = message;
    for line in &mut lines {
        let end = memchr::memchr(b'\n', rest)?;
        let (text, behind) = rest.split_at_checked(end)?;
        *line = match text.split_first() {
            Some((b'=', text)) => Some(str::from_utf8(text).ok()?),
            Some(_) => return None,
            None => None,
        };
        rest = behind.get(1..)?;
    }
    Some((lines, message.slice_ref(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_comes() {
        for (floor_ms, content_type, body) in [
            (None, None, &b""[..]),
            (Some(7), Some("application/json"), b"{\"a\":\n1}"),
            (Some(u64::MAX), Some(""), b"=\n\xff\n"),
        ] {
            let sent = Request {
                method: "POST".to_owned(),
                path: "/api/vultr/valkey/session/ü".to_owned(),
                query: "a==b".to_owned(),
                floor_ms,
                content_type: content_type.map(str::to_owned),
                idempotency_key: floor_ms.map(|ms| format!("=key {ms}")),
                body: Some(Bytes::from_static(body)),
                ..Request::default()
            };
            let came = request(&Bytes::from(of_request(&sent))).unwrap();
            assert_eq!(format!("{came:?}"), format!("{sent:?}"));
            let sent = Response {
                status: 404,
                headers: vec![(ENVELOPE, "{\"found\":null}".into())],
                body: Bytes::from_static(body),
                ready: None,
            };
            let came = response(&Bytes::from(of_response(&sent))).unwrap();
            assert_eq!(came.status, sent.status);
            assert_eq!((came.headers, came.body), (sent.headers, sent.body));
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        for text in ["", "=200", "=200\n", "200\n=x\n", "=x\n=y\n", "=1\n\u{0}\n"] {
            let message = Bytes::copy_from_slice(text.as_bytes());
            assert!(response(&message).is_none(), "{text:?}");
            assert!(request(&message).is_none(), "{text:?}");
        }
        assert!(response(&Bytes::from_static(b"=200\n=\xff\n")).is_none());
    }
}
