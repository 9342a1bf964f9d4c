//! Whole requests: paths, queries, headers and bodies, over stores that say
//! anything.
//!
//! ```text
//! method  headers  path?query  0xFF  body  0xFF  Valkey's bytes  0xFF  PostgreSQL's
//! ```
#![no_main]

use std::borrow::Cow;
use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use edge::host::{Address, Host, Tls};
use edge::isolate::Isolate;
use edge::route::{Request, Response, answer};
use edge::settings::Settings;
use edge_fuzz::grammar;
use libfuzzer_sys::{Corpus, fuzz_target};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const VALKEY_PORT: u16 = 1;
const METHODS: [&str; 8] = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "get", ""];

fuzz_target!(|input: &[u8]| -> Corpus {
    let [method, headers, rest @ ..] = input else {
        return Corpus::Reject;
    };
    let mut parts = rest.splitn(4, |byte| *byte == 0xFF);
    let mut part = || parts.next().unwrap_or_default();
    let Ok(url) = str::from_utf8(part()) else {
        return Corpus::Reject;
    };
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let header = |bit: u8, value: &str| (headers & bit == bit).then(|| value.to_owned());
    let request = Request {
        method: METHODS[usize::from(method & 7)].to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: header(1, "application/json; charset=utf-8"),
        origin: header(2, "http://localhost:5173"),
        if_none_match: header(4, "*"),
        idempotency_key: header(16, "a key"),
        client: None,
        place: None,
        body: header(8, "")
            .is_none()
            .then(|| Bytes::copy_from_slice(part())),
        floor_ms: None,
    };
    let host = Stores {
        valkey: Bytes::copy_from_slice(part()),
        postgres: Bytes::copy_from_slice(part()),
    };
    let isolate = Rc::new(Isolate::new(Settings::read(&|name| {
        Some(match name {
            "DATABASE_URL" => "postgres://alice@localhost:2/shop?sslmode=disable".to_owned(),
            "VALKEY_URL" => format!("valkey://localhost:{VALKEY_PORT}"),
            // Every request has its line, and that is looked at as any is.
            "TRACE_SAMPLE" => "1".to_owned(),
            "TRACE_KEY" => "a key of the fuzzers".to_owned(),
            _ => return None,
        })
    })));
    // Twice, as the first answer may have filled L1.
    for _ in 0..2 {
        let future = pin!(answer(host.clone(), isolate.clone(), request.clone()));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => check(&request, &response),
            Poll::Pending => panic!("nothing here waits"),
        }
    }
    Corpus::Keep
});

fn check(request: &Request, response: &Response) {
    let Response {
        status,
        headers,
        body,
        ..
    } = response;
    assert!(
        [
            200, 204, 304, 400, 403, 404, 405, 409, 413, 415, 422, 503, 504
        ]
        .contains(status),
        "{response:?}"
    );
    for (name, value) in headers {
        let is_sound = |byte: u8| (b' '..=b'~').contains(&byte);
        assert!(value.bytes().all(is_sound), "{name}: {value:?}");
    }
    assert_eq!(
        *status == 405,
        headers.iter().any(|(name, _)| *name == "Allow")
    );
    if request.method == "HEAD" || [204, 304].contains(status) {
        assert!(body.is_empty());
    } else if !is_copy(request, headers) {
        assert!(grammar::depth(body).is_some(), "{response:?}");
    }
}

/// Copies of rows come from keys that only the edge writes, and are not checked
/// again.
fn is_copy(request: &Request, headers: &[(&str, Cow<'_, str>)]) -> bool {
    request.path.starts_with("/api/vultr/postgres/")
        && headers.iter().any(|(name, value)| {
            *name == "Cache-Status"
                && (value.starts_with("L1; hit") || value.starts_with("L2; hit"))
        })
}

/// Two stores that say what stands in the input, whatever they are asked.
#[derive(Clone)]
struct Stores {
    valkey: Bytes,
    postgres: Bytes,
}

impl Host for Stores {
    type Stream = Recorded;

    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn sleep(&self, _: u64) -> impl Future<Output = ()> {
        pending()
    }

    async fn connect(&self, address: &Address, _: Tls) -> io::Result<Recorded> {
        let bytes = match address.port {
            VALKEY_PORT => &self.valkey,
            _ => &self.postgres,
        };
        if bytes.is_empty() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Recorded(bytes.clone()))
    }

    async fn start_tls(&self, stream: Recorded, _: &Address, _: Tls) -> io::Result<Recorded> {
        Ok(stream)
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        let _ = pin!(work).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn random(&self) -> [u8; 16] {
        [7; 16]
    }

    fn nfkc(text: &str) -> String {
        text.to_owned()
    }

    fn print(&self, line: &str) {
        assert!(
            !line.is_empty() && !line.contains(char::is_control),
            "{line:?}"
        );
    }
}

/// Says what was recorded, a flight at a time, then closes. What is written is
/// lost.
struct Recorded(Bytes);

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.0.len().min(buffer.remaining());
        buffer.put_slice(&self.0.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
