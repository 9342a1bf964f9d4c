//! The second host: the same code as a native server, over tokio and hyper.
//!
//! For debugging and tests; knows no path, tier or protocol.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::host::{Address, Host, Tls};
use crate::isolate::Isolate;
use crate::limits::REQUEST_BODY_BYTES_MAX;
use crate::route::{self, Request};
use crate::settings::Settings;

/// The native platform. Must run inside a `tokio::task::LocalSet`.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Host for Native {
    type Stream = TcpStream;

    fn now_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        tokio::time::sleep(Duration::from_millis(duration_ms))
    }

    async fn connect(&self, address: &Address, tls: Tls) -> io::Result<TcpStream> {
        if tls != Tls::Off {
            return Err(no_tls());
        }
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn start_tls(&self, _: TcpStream, _: &Address, _: Tls) -> io::Result<TcpStream> {
        Err(no_tls())
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(work);
    }

    fn random(&self) -> [u8; 16] {
        random()
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }
}

fn no_tls() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the native server does not speak TLS yet; use a store without it",
    )
}

pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness no id is unguessable: better no answer than a bad one.
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes).expect("the platform has a source of randomness");
    bytes
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
    loop {
        let (stream, _) = listener.accept().await?;
        let isolate = Rc::clone(&isolate);
        tokio::task::spawn_local(async move {
            let service =
                hyper::service::service_fn(move |request| respond(Rc::clone(&isolate), request));
            // A client that goes away is no event worth a line.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    isolate: Rc<Isolate>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let text = |name: HeaderName| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let mut ours = Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        content_type: text(header::CONTENT_TYPE),
        origin: text(header::ORIGIN),
        if_none_match: text(header::IF_NONE_MATCH),
        body: None,
    };
    ours.body = read(request.into_body()).await;
    let answer = route::answer(Native, isolate, ours).await;
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

/// A body over the limit is still read for so long, and thrown away: a client
/// that cannot finish sending does not read the answer.
const DISCARDED_BYTES_MAX: usize = 4 * REQUEST_BODY_BYTES_MAX;

/// The body, or None when it is larger than the limit.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > DISCARDED_BYTES_MAX {
            return None;
        }
        if seen <= REQUEST_BODY_BYTES_MAX {
            kept.extend_from_slice(&data);
        }
    }
    (seen <= REQUEST_BODY_BYTES_MAX).then(|| Bytes::from(kept))
}
