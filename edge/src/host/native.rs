//! The second host: the same code as a native server, over tokio and hyper.
//!
//! For debugging and tests; knows no path, tier or protocol.

pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use unicode_normalization::UnicodeNormalization;

use crate::host::{Address, Body, Host, Tls};
use crate::isolate::Isolate;
use crate::route::{self, Request, Response};
use crate::settings::{Backend, Settings};
use crate::transport::Kept;

/// The native platform. Must run inside a `tokio::task::LocalSet`.
#[derive(Clone, Default)]
pub struct Native {
    kept: Option<Rc<Kept<Self>>>,
    /// They live in the same process.
    gateways: Rc<[(Self, Rc<Isolate>)]>,
}

impl Native {
    fn new(settings: &Settings) -> Self {
        let shards = match settings.backend {
            Backend::Direct => 0,
            Backend::Gateway { shards } => shards,
        };
        let gateway = |_| {
            let isolate = Isolate::of_gateway(settings);
            (Self::keeping(), Rc::new(isolate))
        };
        Self {
            kept: None,
            gateways: (0..shards).map(gateway).collect(),
        }
    }

    /// With connections that outlive a request.
    fn keeping() -> Self {
        Self {
            kept: Some(Rc::default()),
            ..Self::default()
        }
    }
}

impl Host for Native {
    type Stream = Either<TcpStream, TlsStream<TcpStream>>;

    fn now_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        tokio::time::sleep(Duration::from_millis(duration_ms))
    }

    async fn connect(&self, address: &Address, tls: Tls) -> io::Result<Self::Stream> {
        let stream = TcpStream::connect((bare(&address.host), address.port)).await?;
        stream.set_nodelay(true)?;
        match tls {
            Tls::Off | Tls::Later { .. } => Ok(Either::Left(stream)),
            Tls::AtOnce => tls::wrap(stream, bare(&address.host), true)
                .await
                .map(Either::Right),
        }
    }

    async fn start_tls(
        &self,
        stream: Self::Stream,
        address: &Address,
        tls: Tls,
    ) -> io::Result<Self::Stream> {
        let verify = tls != Tls::Later { verify: false };
        match stream {
            Either::Left(plain) => tls::wrap(plain, bare(&address.host), verify)
                .await
                .map(Either::Right),
            Either::Right(_) => Err(io::Error::other("TLS is on already")),
        }
    }

    fn kept(&self) -> Option<&Kept<Self>> {
        self.kept.as_deref()
    }

    async fn relay(&self, shard: u64, request: Request) -> io::Result<Response> {
        let place = usize::try_from(shard).ok();
        let (host, isolate) = place
            .and_then(|place| self.gateways.get(place))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(route::gateway::serve(host.clone(), Rc::clone(isolate), request).await)
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(work);
    }

    fn random(&self) -> [u8; 16] {
        super::random()
    }

    fn nfkc(text: &str) -> String {
        text.nfkc().collect()
    }

    fn print(&self, line: &str) {
        eprintln!("{line}");
    }
}

/// A URL writes an IPv6 address in brackets; resolvers and certificates do not.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Serves the API on a listener, with settings by name. Runs until dropped.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> io::Result<()> {
    let isolate = Rc::new(Isolate::new(Settings::read(lookup)));
    let host = Native::new(&isolate.settings);
    if isolate.settings.changes_every_ms.is_some() {
        let (host, isolate) = (Native::keeping(), Rc::clone(&isolate));
        tokio::task::spawn_local(route::changes::watch(host, isolate, u64::MAX));
    }
    loop {
        let (stream, client) = listener.accept().await?;
        let (host, isolate) = (host.clone(), Rc::clone(&isolate));
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(move |request| {
                respond(host.clone(), Rc::clone(&isolate), client, request)
            });
            // A client that goes away is no event worth a line.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    host: Native,
    isolate: Rc<Isolate>,
    client: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let text = |name: HeaderName| {
        request
            .headers()
            .get(name)
            // What is not UTF-8 is still there, and to be refused.
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut ours = Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        content_type: text(header::CONTENT_TYPE),
        origin: text(header::ORIGIN),
        if_none_match: text(header::IF_NONE_MATCH),
        idempotency_key: text(HeaderName::from_static("idempotency-key")),
        client: isolate
            .settings
            .tracing
            .is_some()
            .then(|| client.ip().to_string()),
        ..Request::default()
    };
    ours.body = read(request.into_body()).await;
    let answer = route::answer(host, isolate, ours).await;
    let mut response = hyper::Response::new(Full::new(answer.body));
    *response.status_mut() = hyper::StatusCode::from_u16(answer.status).unwrap_or_default();
    for (name, value) in answer.headers {
        if let Ok(value) = header::HeaderValue::from_str(&value)
            && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

async fn read(mut incoming: Incoming) -> Option<Bytes> {
    let mut body = Body::default();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.ok()?.into_data()
            && !body.take(&data)
        {
            break;
        }
    }
    body.finish()
}
