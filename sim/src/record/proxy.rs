//! A proxy that writes down what passes: it streams both ways, changes nothing, and
//! adds nothing.
//!
//! A line is written when its answer is complete and those of all earlier requests
//! are, so that the recording is in the order of its times. Knows HTTP; what a
//! request means is [`Recording`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Polling, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use edge::host::native::tls;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::service::service_fn;
use hyper::{StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::{Account, Options, Recording, Seen, forgotten, har};
use crate::origin::origin;
use crate::say;
use crate::traffic::{Request, ndjson};

/// Of one connection only, and so not passed on (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Of a body, to see of which user an order is; none is longer.
const LOOKED_AT_BYTES: usize = 64 * 1024;

type Upstream = Client<HttpsConnector<HttpConnector>, Watched>;

/// Serves until `end`, then says in a few sentences what was recorded.
///
/// # Errors
/// It cannot listen there, the server has no URL, or the file cannot be written.
pub async fn run(options: &Options, end: impl Future<Output = Result<()>>) -> Result<String> {
    let listen = options.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is the port taken? Choose another with --listen")
    })?;
    let to = server(options.to.as_deref().unwrap_or_default())?;
    let recorder = Recorder::create(Recording::new(&options.hashing)?, &options.output)?;
    let address = listener.local_addr()?;
    say::aside(format_args!(
        "Recording what passes from http://{address} to {to}. Ctrl-C ends it."
    ));
    let (written, account) = record(listener, to, recorder, end).await?;
    Ok(format!(
        "{account}{}{}: {written} requests\n",
        forgotten(&options.hashing),
        options.output.display()
    ))
}

/// A server's URL, without a path.
///
/// # Errors
/// It is none.
pub fn server(url: &str) -> Result<Uri> {
    let url = origin(url)?;
    url.as_str()
        .parse()
        .with_context(|| format!("{url} cannot be asked"))
}

/// Passes on whatever comes to the listener, until `end`.
///
/// # Errors
/// The file cannot be written.
pub async fn record(
    listener: TcpListener,
    to: Uri,
    recorder: Recorder,
    end: impl Future<Output = Result<()>>,
) -> Result<(u64, Account)> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls::verified()?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let proxy = Arc::new(Proxy {
        to,
        upstream: Client::builder(TokioExecutor::new()).build(connector),
        recorder: Mutex::new(recorder),
    });
    let ended = tokio::select! {
        ended = accept(listener, &proxy) => ended,
        ended = end => ended,
    };
    // Whatever ended it: what was recorded until then is good.
    let recorded = proxy.recorder().finish()?;
    ended.map(|()| recorded)
}

async fn accept(listener: TcpListener, proxy: &Arc<Proxy>) -> Result<()> {
    loop {
        let (stream, client) = listener
            .accept()
            .await
            .context("the proxy cannot take another connection")?;
        stream.set_nodelay(true)?;
        let proxy = Arc::clone(proxy);
        tokio::spawn(async move {
            let service = service_fn(|request| pass(Arc::clone(&proxy), client, request));
            // A client that goes away is no event worth a line.
            let _ = hyper::server::conn::http1::Builder::new()
                .preserve_header_case(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

struct Proxy {
    to: Uri,
    upstream: Upstream,
    recorder: Mutex<Recorder>,
}

impl Proxy {
    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        // What is in it is whole after each of its calls.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer = hyper::Response<BoxBody<Bytes, hyper::Error>>;

async fn pass(
    proxy: Arc<Proxy>,
    client: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (mut head, body) = request.into_parts();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let exchange = Arc::new(Exchange {
        number: proxy.recorder().begins(),
        seen: Seen {
            time_ms: now_ms(),
            method: head.method.as_str().to_owned(),
            target: target.to_owned(),
            client: forwarded(&head.headers).unwrap_or_else(|| client.ip().to_string()),
            ..Seen::default()
        },
        is_value: AtomicBool::new(false),
        sent: Mutex::default(),
        answered: Mutex::default(),
        proxy: Arc::clone(&proxy),
    });
    let mut uri = proxy.to.clone().into_parts();
    uri.path_and_query = target.parse().ok();
    head.uri = Uri::from_parts(uri).unwrap_or_default();
    head.version = hyper::Version::HTTP_11;
    for name in &HOP_BY_HOP {
        head.headers.remove(name);
    }
    // That of the server, which the client puts there of itself.
    head.headers.remove(header::HOST);
    let body = Watched {
        body,
        exchange: Arc::clone(&exchange),
        is_answer: false,
    };
    let answer = proxy
        .upstream
        .request(hyper::Request::from_parts(head, body))
        .await;
    Ok(match answer {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            let is_value = head.status == StatusCode::OK;
            exchange.is_value.store(is_value, Ordering::Relaxed);
            for name in &HOP_BY_HOP {
                head.headers.remove(name);
            }
            let body = Watched {
                body,
                exchange,
                is_answer: true,
            };
            hyper::Response::from_parts(head, BodyExt::boxed(body))
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            let why = format!("{} does not answer: {error:#}\n", proxy.to);
            let body = Full::from(why).map_err(|never| match never {});
            let mut answer = hyper::Response::new(BodyExt::boxed(body));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    })
}

/// Whom another proxy before this one has seen.
fn forwarded(headers: &HeaderMap) -> Option<String> {
    let value = ["cf-connecting-ip", "x-forwarded-for"]
        .into_iter()
        .find_map(|name| headers.get(name))?;
    let first = value.to_str().ok()?.split(',').next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .unwrap_or_default()
        .as_millis()
        .try_into()
        .unwrap_or(u64::MAX)
}

/// A request under way; it is over when nobody has a part of it any longer.
struct Exchange {
    number: u64,
    seen: Seen,
    /// Whether what is answered is the value that was asked for.
    is_value: AtomicBool,
    sent: Mutex<Passed>,
    answered: Mutex<Passed>,
    proxy: Arc<Proxy>,
}

/// What has passed of a body.
#[derive(Debug, Default)]
struct Passed {
    count_bytes: u64,
    start: Vec<u8>,
}

impl Passed {
    fn add(&mut self, data: &Bytes, is_kept: bool) {
        self.count_bytes += data.len() as u64;
        if is_kept && self.start.len() + data.len() <= LOOKED_AT_BYTES {
            self.start.extend_from_slice(data);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let sent = self.sent.get_mut().unwrap_or_else(PoisonError::into_inner);
        let answered = self
            .answered
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let bytes = |passed: &Passed| u32::try_from(passed.count_bytes).unwrap_or(u32::MAX);
        let seen = Seen {
            user: har::user(&sent.start),
            sent_bytes: bytes(sent),
            answered_bytes: if *self.is_value.get_mut() {
                bytes(answered)
            } else {
                0
            },
            ..std::mem::take(&mut self.seen)
        };
        self.proxy.recorder().ends(self.number, &seen);
    }
}

/// A body that is counted while it passes.
struct Watched {
    body: Incoming,
    exchange: Arc<Exchange>,
    is_answer: bool,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Polling<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let exchange = &self.exchange;
            let passed = if self.is_answer {
                &exchange.answered
            } else {
                &exchange.sent
            };
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.add(data, !self.is_answer);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Writes what was seen, in the order in which it began.
pub struct Recorder {
    recording: Recording,
    /// None: it could not be written, or all is.
    output: Option<ndjson::Output>,
    failed: Option<anyhow::Error>,
    next: u64,
    under_way: BTreeSet<u64>,
    /// Complete, while an earlier one is not; None: no request for a replay.
    waiting: BTreeMap<u64, Option<Request>>,
    written: u64,
}

impl Recorder {
    /// # Errors
    /// The file cannot be made.
    pub fn create(recording: Recording, path: &Path) -> Result<Self> {
        Ok(Self {
            recording,
            output: Some(ndjson::Output::create(path)?),
            failed: None,
            next: 0,
            under_way: BTreeSet::new(),
            waiting: BTreeMap::new(),
            written: 0,
        })
    }

    fn begins(&mut self) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next);
        self.next
    }

    fn ends(&mut self, number: u64, seen: &Seen) {
        self.under_way.remove(&number);
        let request = self.recording.request(seen);
        self.waiting.insert(number, request);
        let first = self.under_way.first().copied();
        while let Some(entry) = self.waiting.first_entry()
            && first.is_none_or(|first| *entry.key() < first)
        {
            if let Some(request) = entry.remove() {
                self.write(&request);
            }
        }
    }

    fn write(&mut self, request: &Request) {
        let Some(output) = &mut self.output else {
            return;
        };
        match ndjson::write_one(&self.recording.other.traffic, request, output) {
            Ok(()) => self.written += 1,
            Err(error) => {
                // Whoever is served goes on to be; the recording has ended.
                say::aside(format_args!(
                    "The recording cannot be written any longer: {error:#}"
                ));
                self.failed = Some(error);
                self.output = None;
            }
        }
    }

    /// Also what still waits for an earlier one. What is under way is counted.
    fn finish(&mut self) -> Result<(u64, Account)> {
        for request in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.write(&request);
        }
        if let Some(error) = self.failed.take() {
            return Err(error.context(format!("only {} requests were recorded", self.written)));
        }
        if let Some(output) = self.output.take() {
            output.finish().context("the recording cannot be written")?;
        }
        let account = Account {
            under_way: self.under_way.len(),
            ..self.recording.other.account()
        };
        Ok((self.written, account))
    }
}
