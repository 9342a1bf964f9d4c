//! Cloudflare Workers: the host that the product is for.
//!
//! Knows the platform's sockets, timers and bindings; knows no path, tier or
//! protocol. What outlives a request here (the isolate) holds no I/O, because
//! a socket or timer belongs to the request that made it. A Durable Object may
//! hold some: all requests of one share one I/O context.

mod sent;
mod stream;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, StreamExt};
use worker::js_sys::{JsString, Uint8Array};
use worker::wasm_bindgen::{self, JsValue, prelude::wasm_bindgen};
use worker::wasm_bindgen_futures::{JsFuture, future_to_promise};
use worker::worker_sys::{Context, DurableObjectState};
use worker::{Env, js_sys, web_sys};

use crate::host::alarms::Alarms;
use crate::host::{Address, Body, Host, Tls};
use crate::isolate::Isolate;
use crate::limits::{CHANGES_WATCH_MS, REQUEST_BODY_BYTES_MAX};
use crate::route::gateway::{self, message};
use crate::route::{self, Request, Response, changes};
use crate::settings::Settings;
use crate::transport::Kept;
use stream::Stream;

/// Up to here a message to a gateway and back is a string, which the platform carries
/// for less; a longer one may not be larger for being one.
const TEXT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static ISOLATE: OnceCell<Rc<Isolate>> = const { OnceCell::new() };
}

/// One request's view of the platform, or a Durable Object's.
#[derive(Clone)]
struct Workers {
    place: Rc<Place>,
}

enum Place {
    Request {
        context: Context,
        env: Env,
    },
    Object {
        state: DurableObjectState,
        kept: Kept<Workers>,
        alarms: Rc<Alarms>,
    },
    /// A scheduled handler: all that it does shares one I/O context, too.
    Schedule {
        context: Context,
        kept: Kept<Workers>,
    },
}

impl Place {
    /// A promise is kept although nobody waits for it.
    fn wait_until(&self, promise: &js_sys::Promise) -> Result<(), JsValue> {
        match self {
            Self::Request { context, .. } | Self::Schedule { context, .. } => {
                context.wait_until(promise)
            }
            Self::Object { state, .. } => state.wait_until(promise),
        }
    }
}

impl Host for Workers {
    type Stream = Stream;

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        match &*self.place {
            Place::Object { alarms, .. } => {
                let (host, own) = (self.clone(), Rc::clone(alarms));
                let set = move |at_ms| host.defer(ring(own, at_ms));
                Either::Left(alarms.wait(now_ms(), duration_ms, set))
            }
            Place::Request { .. } | Place::Schedule { .. } => Either::Right(delay(duration_ms)),
        }
    }

    async fn connect(&self, address: &Address, tls: Tls) -> io::Result<Stream> {
        Stream::connect(address, tls)
    }

    async fn start_tls(&self, stream: Stream, _: &Address, _: Tls) -> io::Result<Stream> {
        stream.start_tls()
    }

    fn kept(&self) -> Option<&Kept<Self>> {
        match &*self.place {
            Place::Request { .. } => None,
            Place::Object { kept, .. } | Place::Schedule { kept, .. } => Some(kept),
        }
    }

    async fn relay(&self, shard: u64, request: Request) -> io::Result<Response> {
        let Place::Request { env, .. } = &*self.place else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        relay(env, shard, request).await.map_err(other)
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        let work = future_to_promise(async move {
            work.await;
            Ok(JsValue::UNDEFINED)
        });
        if let Err(error) = self.place.wait_until(&work) {
            worker::console_error!("{error:?}");
        }
    }

    fn random(&self) -> [u8; 16] {
        super::random()
    }

    fn nfkc(text: &str) -> String {
        JsString::from(text).normalize("NFKC").into()
    }

    fn print(&self, line: &str) {
        worker::console_error!("{line}");
    }
}

fn now_ms() -> u64 {
    // Not `worker::Date`, which is an object for each look at the clock.
    js_sys::Date::now() as u64
}

fn delay(duration_ms: u64) -> worker::Delay {
    worker::Delay::from(Duration::from_millis(duration_ms))
}

/// Rings at that time, and on until nobody waits.
async fn ring(alarms: Rc<Alarms>, at_ms: u64) {
    let mut next_ms = Some(at_ms);
    while let Some(at_ms) = next_ms {
        // A timer may be early by what a clock of whole milliseconds does not show.
        while let left_ms @ 1.. = at_ms.saturating_sub(now_ms()) {
            delay(left_ms).await;
        }
        next_ms = alarms.ring(at_ms.max(now_ms()));
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

/// The one that all requests here share.
fn isolate(env: &Env) -> Rc<Isolate> {
    ISOLATE.with(|cell| {
        let made = || Rc::new(Isolate::new(Settings::read(&|name| lookup(env, name))));
        Rc::clone(cell.get_or_init(made))
    })
}

/// What a Cron Trigger starts, each minute: the watch for changes behind the edge.
#[wasm_bindgen]
#[must_use]
pub fn scheduled(_: JsValue, env: Env, context: Context) -> js_sys::Promise {
    let isolate = isolate(&env);
    let place = Place::Schedule {
        context,
        kept: Kept::default(),
    };
    let host = Workers {
        place: Rc::new(place),
    };
    future_to_promise(async move {
        changes::watch(host, isolate, CHANGES_WATCH_MS).await;
        Ok(JsValue::UNDEFINED)
    })
}

/// Answers with nothing at hand of what [`answer`] is given.
#[wasm_bindgen]
#[must_use]
pub fn fetch(request: web_sys::Request, env: Env, context: Context) -> JsValue {
    answer(
        js::opening(&request, false),
        u32::MAX,
        request,
        env,
        context,
    )
}

/// Answers at once, without a promise, when nothing has to be waited for: L1 has
/// the answer, or there is nothing to ask. `number` is that of the answer in
/// [`sent`] that the same `opening` was given before, or of none.
///
/// Written out and not by `worker::event`, which makes a promise of everything.
#[wasm_bindgen]
#[must_use]
pub fn answer(
    opening: JsString,
    number: u32,
    request: web_sys::Request,
    env: Env,
    context: Context,
) -> JsValue {
    let isolate = isolate(&env);
    let host = Workers {
        place: Rc::new(Place::Request { context, env }),
    };
    let place = Rc::clone(&host.place);
    let opened = match isolate.settings.tracing {
        Some(_) => opened(&js::opening(&request, true)),
        None => opened(&opening),
    };
    let mut work = if has_body(&opened, &request) {
        Begun::new(Either::Left(async move {
            let body = body(request).await?;
            let request = Request { body, ..opened };
            Ok(route::answer(host, isolate, request).await)
        }))
    } else {
        let ready = sent::ready(number);
        match route::begin(host, isolate, opened, ready.as_deref()) {
            Either::Left(answer) => return sent::send(&opening, number, answer).into(),
            Either::Right(later) => Begun::new(Either::Right(later.map(Ok))),
        }
    };
    match (&mut work).now_or_never() {
        Some(answer) => finished(answer.map(|answer| sent::send(&opening, number, answer))),
        None => {
            let answer = future_to_promise(async move { Ok(finished(work.await.map(written))) });
            // The platform drops what a request awaits when its client goes away, and what is
            // dropped there frees no memory, closes no connection and sends no invalidation.
            // Deadlines end the work soon enough.
            match place.wait_until(&answer) {
                Ok(()) => answer.into(),
                Err(error) => finished(Err(error.into())),
            }
        }
    }
}

/// Whether the answer of that number may be given once more as it is, and now is.
#[wasm_bindgen]
#[must_use]
pub fn holds(number: u32, now_ms: f64) -> bool {
    let ready = sent::ready(number);
    ISOLATE.with(|cell| {
        let isolate = cell.get().zip(ready);
        isolate.is_some_and(|(isolate, ready)| ready.holds(isolate, now_ms as u64))
    })
}

/// What `entry.js` needs of [`js`].
#[wasm_bindgen]
#[must_use]
pub fn sending() -> JsValue {
    js::sending()
}

/// Work that was looked at before anybody could be woken. The platform's timers
/// remember who looked first, so that it is always the same, which passes on.
struct Begun<F> {
    work: Pin<Box<F>>,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Alarm(AtomicWaker);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl<F: Future> Begun<F> {
    fn new(work: F) -> Self {
        Self {
            work: Box::pin(work),
            alarm: Arc::default(),
        }
    }
}

impl<F: Future> Future for Begun<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        self.alarm.0.register(context.waker());
        let alarm = Waker::from(Arc::clone(&self.alarm));
        self.work
            .as_mut()
            .poll(&mut task::Context::from_waker(&alarm))
    }
}

fn finished(response: worker::Result<web_sys::Response>) -> JsValue {
    response
        .unwrap_or_else(|error| {
            worker::console_error!("{error}");
            js::respond(500, "Content-Type\ntext/plain", b"INTERNAL SERVER ERROR")
        })
        .into()
}

/// The gateway: a place near the stores that keeps the connections to them.
///
/// Written out and not by `worker::durable_object`, which makes another response,
/// with a stream, of each that it is given.
#[wasm_bindgen]
pub struct Gateway {
    host: Workers,
    isolate: Rc<Isolate>,
}

#[wasm_bindgen]
impl Gateway {
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(state: DurableObjectState, env: Env) -> Self {
        let place = Place::Object {
            state,
            kept: Kept::default(),
            alarms: Rc::default(),
        };
        let settings = Settings::read(&|name| lookup(&env, name));
        Self {
            host: Workers {
                place: Rc::new(place),
            },
            isolate: Rc::new(Isolate::of_gateway(&settings)),
        }
    }

    /// A message of [`message::of_request`], and one of [`message::of_response`]. Goes on
    /// when nobody waits for it any longer, as all that a Durable Object does.
    #[must_use]
    pub fn ask(&self, asked: JsValue) -> js_sys::Promise {
        let (host, isolate) = (self.host.clone(), Rc::clone(&self.isolate));
        let asked = received(&asked);
        future_to_promise(async move {
            let request = message::request(&asked);
            let request = request.ok_or("this is no message of the edge's")?;
            let answer = gateway::serve(host, isolate, request).await;
            Ok(sendable(&message::of_response(&answer)))
        })
    }
}

fn written(answer: Response) -> web_sys::Response {
    js::respond(answer.status, &lines(&answer.headers), &answer.body)
}

fn lines<'a>(headers: impl IntoIterator<Item = &'a Header>) -> String {
    let mut lines = String::with_capacity(512);
    for (name, value) in headers {
        for part in [*name, "\n", value, "\n"] {
            lines.push_str(part);
        }
    }
    lines
}

type Header = (&'static str, Cow<'static, str>);

/// Hands a request on to a gateway.
async fn relay(env: &Env, shard: u64, request: Request) -> worker::Result<Response> {
    let name = format!("gateway-{shard}");
    let asked = sendable(&message::of_request(&request));
    let answer = JsFuture::from(js::relay(env, &name, &asked)?).await?;
    let answer = message::response(&received(&answer));
    Ok(answer.ok_or("the gateway is of another version of the edge")?)
}

/// What goes to a gateway, or comes from one.
fn sendable(message: &[u8]) -> JsValue {
    match str::from_utf8(message) {
        Ok(text) if text.len() <= TEXT_BYTES_MAX => JsValue::from_str(text),
        _ => Uint8Array::from(message).into(),
    }
}

fn received(message: &JsValue) -> Bytes {
    match message.as_string() {
        Some(text) => Bytes::from(text),
        None => Bytes::from(Uint8Array::new(message).to_vec()),
    }
}

/// A request without its body.
fn opened(opening: &JsString) -> Request {
    let opening = String::from(opening);
    let mut lines = opening.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let method = line().to_owned();
    // As it came: a parsed URL would have its dot segments resolved.
    let url = line();
    let target = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = target
        .find('/')
        .map_or("/", |slash| target.split_at(slash).1);
    let (path, query) = split(target);
    let mut header = || line().strip_prefix('=').map(str::to_owned);
    Request {
        method,
        path,
        query,
        if_none_match: header(),
        origin: header(),
        content_type: header(),
        idempotency_key: header(),
        client: header(),
        place: header(),
        body: Some(Bytes::new()),
        floor_ms: None,
    }
}

fn has_body(opened: &Request, request: &web_sys::Request) -> bool {
    opened.method != "GET" && opened.method != "HEAD" && request.body().is_some()
}

fn split(target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (path.to_owned(), query.to_owned())
}

async fn body(request: web_sys::Request) -> worker::Result<Option<Bytes>> {
    // The platform lets no client send more than it said.
    if js::declared_bytes(&request) <= REQUEST_BODY_BYTES_MAX as f64 {
        return Ok(Some(Bytes::from(js::whole(&request).await?.to_vec())));
    }
    let mut stream = worker::Request::from(request).stream()?;
    let mut body = Body::default();
    while let Some(chunk) = stream.next().await {
        if !body.take(&chunk?) {
            break;
        }
    }
    Ok(body.finish())
}

/// What would take many calls between Wasm and JavaScript, each in one.
mod js {
    use worker::Env;
    use worker::js_sys::{self, JsString, Promise, Uint8Array};
    use worker::wasm_bindgen::{self, JsValue, prelude::wasm_bindgen};
    use worker::web_sys::{Request, Response};

    #[wasm_bindgen(inline_js = r#"
        const READ = ["if-none-match", "origin"];
        const WRITTEN = [...READ, "content-type", "idempotency-key"];

        function read({ headers }, names) {
            let lines = "";
            for (const name of names) {
                const value = headers.get(name);
                lines += value === null ? "\n" : `\n=${value}`;
            }
            return lines;
        }

        export function opening(request, isTraced) {
            const { method, url } = request;
            // Looking for a header is no cheaper when it is not there.
            const names = method === "GET" && !isTraced ? READ : WRITTEN;
            const lines = `${method}\n${url}${read(request, names)}`;
            return isTraced ? `${lines}${read(request, ["cf-connecting-ip"])}\n=${request.cf?.colo ?? ""}` : lines;
        }

        function set(headers, lines) {
            const parts = lines.split("\n");
            for (let n = 0; n + 1 < parts.length; n += 2) headers.set(parts[n], parts[n + 1]);
            return headers;
        }

        export function declaredBytes(request) {
            const length = request.headers.get("content-length");
            return length === null ? NaN : Number(length);
        }

        export async function whole(request) {
            return new Uint8Array(await request.arrayBuffer());
        }

        // A name is hashed each time that its id is asked for.
        const ids = new Map();

        export function relay(env, name, message) {
            const { GATEWAY, GATEWAY_LOCATION } = env;
            let id = ids.get(name);
            if (id === undefined) {
                if (!GATEWAY) throw new Error("BACKEND=gateway needs the binding GATEWAY to the Durable Object Gateway, as in wrangler.toml");
                ids.set(name, (id = GATEWAY.idFromName(name)));
            }
            // The operator says where it is to live.
            const options = GATEWAY_LOCATION ? { locationHint: GATEWAY_LOCATION } : undefined;
            return GATEWAY.get(id, options).ask(message);
        }

        export function respond(status, lines, body) {
            const headers = set(new Headers(), lines);
            // A copy, because the memory of Wasm moves; 204 and 304 have no body at all.
            return new Response(body.length > 0 ? body.slice() : null, { status, headers });
        }

        // What was sent from L1, by what it answers: { number, body, headers }. A `Response`
        // is made of it and takes nothing out of it.
        const sent = new Map();

        export function keep(opening, number, body) {
            const kept = { number, body: body.slice(), headers: new Headers() };
            sent.set(opening, kept);
            return kept;
        }
        export const change = (kept, lines) => set(kept.headers, lines);
        export const forget = () => sent.clear();
        export const again = (kept) => new Response(kept.body, kept);
        export const sending = () => ({ opening, sent, again });
    "#)]
    extern "C" {
        /// The method, the URL, and the headers of READ or WRITTEN, a line each; one that
        /// is there begins with `=`; where requests are traced, who asks and where too.
        pub fn opening(request: &Request, is_traced: bool) -> JsString;
        /// What the client said that the body has, or else not a number.
        #[wasm_bindgen(js_name = declaredBytes)]
        pub fn declared_bytes(request: &Request) -> f64;
        #[wasm_bindgen(catch)]
        pub async fn whole(request: &Request) -> Result<Uint8Array, JsValue>;

        /// Asks the gateway of that name.
        #[wasm_bindgen(catch)]
        pub fn relay(env: &Env, name: &str, message: &JsValue) -> Result<Promise, JsValue>;
        /// Headers are lines too: a name, its value, and so on.
        pub fn respond(status: u16, lines: &str, body: &[u8]) -> Response;
        /// Makes what [`again`] answers 200 with, without headers; in the place of what
        /// was kept for the same opening.
        pub fn keep(opening: &JsString, number: usize, body: &[u8]) -> JsValue;
        /// Sets some of its headers.
        pub fn change(kept: &JsValue, lines: &str);
        /// Forgets all that is kept.
        pub fn forget();
        pub fn again(kept: &JsValue) -> Response;
        pub fn sending() -> JsValue;
    }
}
