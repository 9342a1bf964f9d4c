//! One edge under load: a number of connections, and who waits for one.
//!
//! Connections are opened ahead of time and used again, the last one first, as a
//! browser's are; a request that finds none free waits for its turn, however
//! long that takes. Knows HTTP/1.1. Counts nothing.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use edge::host::native::tls;
use edge::limits::PG_RESULT_BYTES_MAX;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::edge::ANSWER_WITHIN;
use crate::cache_status::{Tier, tier};
use crate::operation;
use crate::origin::origin;
use crate::say::harmless;
use crate::traffic::call::Call;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How much of an answer is quoted when it says that something is wrong.
const QUOTED_CHARS: usize = 200;
const QUOTED_BYTES: usize = 4 * QUOTED_CHARS;
/// Twice what the edge reads of a store for one answer at most.
pub(super) const ANSWER_BYTES_MAX: usize = 2 * PG_RESULT_BYTES_MAX;

/// A request that is ready to be sent, to any target and any number of times.
#[derive(Debug, Clone)]
pub struct Prepared {
    method: Method,
    uri: Uri,
    body: Bytes,
}

impl Prepared {
    /// # Errors
    /// The target of the call is none that HTTP knows.
    pub fn new(call: Call) -> Result<Self> {
        let uri = Uri::try_from(call.target.as_str())
            .with_context(|| format!("{} cannot be asked for", call.target))?;
        Ok(Self {
            method: match call.method {
                operation::Method::Get => Method::GET,
                operation::Method::Post => Method::POST,
                operation::Method::Delete => Method::DELETE,
            },
            uri,
            body: Bytes::from(call.body.unwrap_or_default()),
        })
    }
}

/// What came back, as far as it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    pub tier: Option<Tier>,
    /// What it said, when that is no good news.
    pub complaint: Option<String>,
}

/// An edge.
pub struct Target {
    url: String,
    host: String,
    port: u16,
    /// None: without TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authority: HeaderValue,
    /// One for each connection that may be in use.
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Sender>>,
}

type Sender = SendRequest<Full<Bytes>>;

impl Target {
    /// `url` is `http://host:port` or `https://host`. Opens the connections.
    ///
    /// # Errors
    /// It is no such URL, or nobody listens there.
    pub async fn open(url: &str, connections: usize) -> Result<Arc<Self>> {
        let parsed = origin(url)?;
        // A URL writes an IPv6 address in brackets, a resolver wants it without.
        let name = parsed.host_str().unwrap_or_default();
        let host = name.trim_matches(['[', ']']).to_owned();
        let authority = match parsed.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let tls = match parsed.scheme() {
            "https" => {
                let connector = TlsConnector::from(Arc::new(tls::verified()?));
                Some((connector, ServerName::try_from(host.clone())?))
            }
            _ => None,
        };
        let target = Arc::new(Self {
            url: url.trim_end_matches('/').to_owned(),
            host,
            // Both schemes have one.
            port: parsed.port_or_known_default().unwrap_or(80),
            tls,
            authority: HeaderValue::from_str(&authority)?,
            free: Arc::new(Semaphore::new(connections)),
            idle: Mutex::default(),
        });
        // The first tells whether anybody is there at all.
        let first = target.connect().await?;
        target.give(first);
        let mut others = JoinSet::new();
        for _ in 1..connections {
            let target = Arc::clone(&target);
            others.spawn(async move {
                // One that is refused now is asked for again when it is needed.
                if let Ok(sender) = target.connect().await {
                    target.give(sender);
                }
            });
        }
        others.join_all().await;
        Ok(target)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is this machine, where nobody else's data is at stake.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// A connection for oneself, when one is free; who came first has it first.
    ///
    /// # Errors
    /// None that can happen: nobody closes the queue.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease> {
        let turn = Arc::clone(&self.free).acquire_owned().await?;
        let sender = self.take();
        Ok(Lease {
            target: Arc::clone(self),
            sender,
            _turn: turn,
        })
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn give(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(sender);
    }

    async fn connect(&self) -> Result<Sender> {
        let Self {
            url, host, port, ..
        } = self;
        timeout(CONNECT_WITHIN, self.shake_hands())
            .await
            .map_err(|_| {
                anyhow!(
                    "{url} does not answer within {CONNECT_WITHIN:?}: is a firewall in between?"
                )
            })?
            .map_err(|error| match error.downcast_ref::<io::Error>() {
                Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => anyhow!(
                    "{url} refuses connections: start the edge there, or give another --url"
                ),
                _ => error.context(format!("no connection to {host}:{port}")),
            })
    }

    async fn shake_hands(&self) -> Result<Sender> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Small requests must not wait for acknowledgements.
        stream.set_nodelay(true)?;
        match &self.tls {
            None => speak(stream).await,
            Some((tls, name)) => speak(tls.connect(name.clone(), stream).await?).await,
        }
    }

    fn request(&self, prepared: &Prepared) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(prepared.body.clone()));
        *request.method_mut() = prepared.method.clone();
        *request.uri_mut() = prepared.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        if !prepared.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error reaches us through the request that it meets.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// A connection in use; given back when dropped.
pub struct Lease {
    target: Arc<Target>,
    /// None: none is open.
    sender: Option<Sender>,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            self.target.give(sender);
        }
    }
}

impl Lease {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There is none, or not in time; the connection is given up then.
    pub async fn send(&mut self, prepared: &Prepared) -> Result<Seen> {
        let exchange = timeout(ANSWER_WITHIN, self.exchange(prepared)).await;
        let outcome = exchange.unwrap_or_else(|_| {
            Err(anyhow!(
                "{} does not answer {} within {ANSWER_WITHIN:?}",
                self.target.url,
                prepared.uri
            ))
        });
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(&mut self, prepared: &Prepared) -> Result<Seen> {
        let mut request = self.target.request(prepared);
        let response = loop {
            let is_reused = self.sender.is_some();
            let sender = match &mut self.sender {
                Some(sender) => sender,
                none => none.insert(self.target.connect().await?),
            };
            let why = match sender.ready().await {
                Err(why) => why,
                Ok(()) => match sender.try_send_request(request).await {
                    Ok(response) => break response,
                    Err(mut why) => {
                        let unsent = why.take_message();
                        let error = why.into_error();
                        let Some(unsent) = unsent else {
                            bail!("{} breaks the connection: {error}", self.target.url);
                        };
                        request = unsent;
                        error
                    }
                },
            };
            // Closed while it was idle, which we learn only now; nothing was sent.
            self.sender = None;
            ensure!(is_reused, "{} hangs up: {why}", self.target.url);
        };
        self.read(prepared, response).await
    }

    async fn read(
        &self,
        prepared: &Prepared,
        response: Response<hyper::body::Incoming>,
    ) -> Result<Seen> {
        let (head, mut body) = response.into_parts();
        let url = &self.target.url;
        let (mut quoted, mut bytes) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("{url} breaks off in an answer"))?;
            let data = frame.into_data().unwrap_or_default();
            bytes += data.len();
            ensure!(
                bytes <= ANSWER_BYTES_MAX,
                "{url} answers {} with more than {ANSWER_BYTES_MAX} bytes: it is no edge",
                prepared.uri
            );
            let room = QUOTED_BYTES.saturating_sub(quoted.len());
            quoted.extend(data.iter().take(room));
        }
        let is_good = head.status.is_success() || matches!(head.status.as_u16(), 304 | 404);
        Ok(Seen {
            status: head.status.as_u16(),
            tier: tier(&cache_status(&head.headers)),
            complaint: (!is_good).then(|| complaint(&prepared.uri, head.status, &quoted)),
        })
    }
}

/// What is said of an answer that says that something is wrong.
pub(super) fn complaint(target: impl Display, status: StatusCode, body: &[u8]) -> String {
    format!(
        "{target} was answered with status {}: {}",
        status.as_u16(),
        quoted_of(body)
    )
}

/// The beginning of an answer, as people can read it.
pub(super) fn quoted_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    harmless(&text.chars().take(QUOTED_CHARS).collect::<String>())
}

/// A list may come in several lines, and hardly ever does.
fn cache_status(headers: &HeaderMap) -> Cow<'_, str> {
    let values = headers.get_all("cache-status");
    let mut values = values.iter().filter_map(|value| value.to_str().ok());
    let mut all = Cow::from(values.next().unwrap_or_default());
    for value in values {
        all.to_mut().push_str(", ");
        all.to_mut().push_str(value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_edge_is_refused_in_a_sentence() {
        for (url, reason) in [
            ("localhost:8787", "write http://host:port"),
            ("http://127.0.0.1:8787/api", "write http://host:port"),
            (
                "http://127.0.0.1:1",
                "http://127.0.0.1:1 refuses connections",
            ),
        ] {
            let error = Target::open(url, 2).await.err().context(url).unwrap();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
