//! Cloudflare Workers: the host that the product is for.
//!
//! Knows the platform's sockets, timers and bindings; knows no path, tier or
//! protocol. What outlives a request here (the isolate) holds no I/O, because
//! a socket or timer belongs to the request that made it.

use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use worker::{Context, Env, SecureTransport, Socket};

use crate::host::{Address, Body, Host, Tls};
use crate::isolate::Isolate;
use crate::route::{self, Request};
use crate::settings::Settings;

thread_local! {
    static ISOLATE: OnceCell<Rc<Isolate>> = const { OnceCell::new() };
}

/// One request's view of the platform.
#[derive(Clone)]
struct Workers {
    context: Rc<Context>,
}

impl Host for Workers {
    type Stream = Socket;

    fn now_ms(&self) -> u64 {
        worker::Date::now().as_millis()
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        worker::Delay::from(Duration::from_millis(duration_ms))
    }

    async fn connect(&self, address: &Address, tls: Tls) -> io::Result<Socket> {
        let transport = match tls {
            Tls::Off => SecureTransport::Off,
            Tls::AtOnce => SecureTransport::On,
            Tls::Later { .. } => SecureTransport::StartTls,
        };
        let socket = Socket::builder()
            .secure_transport(transport)
            .connect(address.host.clone(), address.port)
            .map_err(other)?;
        socket.opened().await.map_err(other)?;
        Ok(socket)
    }

    async fn start_tls(&self, stream: Socket, _: &Address, _: Tls) -> io::Result<Socket> {
        let wrapped = stream.start_tls();
        wrapped.opened().await.map_err(other)?;
        Ok(wrapped)
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        self.context.wait_until(work);
    }

    fn random(&self) -> [u8; 16] {
        super::random()
    }

    fn print(&self, line: &str) {
        worker::console_error!("{line}");
    }
}

fn other(error: worker::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// A setting by name; `HYPERDRIVE` is the binding's connection string.
fn lookup(env: &Env, name: &str) -> Option<String> {
    if name == "HYPERDRIVE" {
        return Some(env.hyperdrive(name).ok()?.connection_string());
    }
    env.var(name).ok().map(|value| value.to_string())
}

/// Answers within `waitUntil`: the platform drops what a request awaits when its
/// client goes away, and what is dropped there frees no memory, closes no
/// connection and sends no invalidation. Deadlines end the work soon enough.
#[worker::event(fetch)]
async fn fetch(
    request: worker::Request,
    env: Env,
    context: Context,
) -> worker::Result<worker::Response> {
    let (sender, receiver) = oneshot::channel();
    let host = Workers {
        context: Rc::new(context),
    };
    host.clone().defer(async move {
        // A client that is gone reads no answer.
        let _ = sender.send(respond(host, request, env).await);
    });
    receiver.await.map_err(|error| error.to_string())?
}

async fn respond(
    host: Workers,
    request: worker::Request,
    env: Env,
) -> worker::Result<worker::Response> {
    let isolate = ISOLATE.with(|cell| {
        Rc::clone(
            cell.get_or_init(|| Rc::new(Isolate::new(Settings::read(&|name| lookup(&env, name))))),
        )
    });
    let answer = route::answer(host, isolate, read(request).await?).await;
    let headers = worker::Headers::new();
    for (name, value) in &answer.headers {
        headers.set(name, value)?;
    }
    let response = if answer.body.is_empty() {
        worker::Response::empty()?
    } else {
        worker::Response::from_bytes(answer.body.to_vec())?
    };
    Ok(response.with_status(answer.status).with_headers(headers))
}

async fn read(mut request: worker::Request) -> worker::Result<Request> {
    // As it came: a parsed URL would have its dot segments resolved.
    let url = request.inner().url();
    let target = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let target = target
        .find('/')
        .map_or("/", |slash| target.split_at(slash).1);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| request.headers().get(name).ok().flatten();
    let mut ours = Request {
        method: request.inner().method(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: header("content-type"),
        origin: header("origin"),
        if_none_match: header("if-none-match"),
        idempotency_key: header("idempotency-key"),
        body: Some(Bytes::new()),
    };
    if ours.method != "GET" && ours.method != "HEAD" && request.inner().body().is_some() {
        ours.body = body(&mut request).await?;
    }
    Ok(ours)
}

async fn body(request: &mut worker::Request) -> worker::Result<Option<Bytes>> {
    let mut stream = request.stream()?;
    let mut body = Body::default();
    while let Some(chunk) = stream.next().await {
        if !body.take(&chunk?) {
            break;
        }
    }
    Ok(body.finish())
}
