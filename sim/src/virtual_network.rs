//! The network between isolates and the stores, in virtual time: bytes that
//! take a while, arrive in pieces, and sometimes do not arrive.
//!
//! Knows connections, faults, and what the work of a store costs; the stores at
//! its other end are those of [`crate::backends`], which see the time at which
//! bytes reach them. Knows nothing of what the bytes mean.

// Nothing here comes from outside, and a simulation that is wrong must stop.
#![allow(clippy::indexing_slicing)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use edge::host::{Address, Host, Tls};
use edge::isolate::Isolate;
use edge::route::gateway::serve;
use edge::route::{Request, Response};
use edge::transport::Kept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::backends::{postgres, valkey};
use crate::model::{self, Busy, Way};
use crate::platform::{Invocation, Needs, Thread};
use crate::report::Connections;
use crate::virtual_time::{TaskId, World};

/// The host names under which the stores are reached.
pub const VALKEY: &str = "valkey";
pub const POSTGRES: &str = "postgres";

/// How one store is reached at the moment. Parts are of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// One way, in µs: at least, and how much more at most.
    pub latency_us: u64,
    pub jitter_us: u64,
    /// Nobody listens: connecting is refused.
    pub is_refused: bool,
    /// Connections are accepted, and nothing is ever answered.
    pub is_silent: bool,
    /// How many connections break after some bytes, in one direction or the other.
    pub cuts: u64,
    /// How many pieces are held up, by up to `delay_us`.
    pub delays: u64,
    pub delay_us: u64,
}

enum Server {
    Valkey(valkey::Session),
    Postgres(postgres::Session),
}

/// Which store a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Valkey,
    Postgres,
}

/// What a store has to do, and who does it. Without one, work takes no time.
pub struct Capacity {
    store: model::Store,
    /// Until when each worker is busy, in µs.
    busy_until_us: Vec<u64>,
    open: u32,
    pub connections: Connections,
}

impl Capacity {
    pub fn new(store: model::Store) -> Self {
        Self {
            busy_until_us: vec![0; store.workers as usize],
            store,
            open: 0,
            connections: Connections::default(),
        }
    }

    /// A connection is opened; whether that is one too many.
    fn connect(&mut self) -> bool {
        self.open += 1;
        let Connections {
            opened,
            at_once_max,
        } = &mut self.connections;
        *opened += 1;
        *at_once_max = (*at_once_max).max(u64::from(self.open));
        self.open > self.store.connections_max
    }

    /// When work that comes now is done, in µs.
    fn done_us(&mut self, now_us: u64, work_us: u64) -> u64 {
        let Some(worker) = self.busy_until_us.iter_mut().min() else {
            return now_us;
        };
        *worker = (*worker).max(now_us) + work_us;
        *worker
    }
}

/// Sees the stores at a time in µs.
pub type Watch = dyn FnMut(&Stores, u64);

/// The stores, and the way to them.
pub struct Stores {
    pub valkey: RefCell<valkey::Server>,
    pub postgres: RefCell<postgres::Server>,
    pub to_valkey: Cell<Weather>,
    pub to_postgres: Cell<Weather>,
    pub valkey_capacity: RefCell<Option<Capacity>>,
    pub postgres_capacity: RefCell<Option<Capacity>>,
    /// How often all connections to Valkey, and to PostgreSQL, were broken.
    pub breaks: [Cell<u32>; 2],
    /// Called when a store has done something: what it holds may have changed.
    pub watch: RefCell<Box<Watch>>,
}

impl Stores {
    /// Good stores without anything in them, that nobody watches.
    pub fn new(watch: Box<Watch>) -> Self {
        Self {
            valkey: RefCell::new(valkey::Server::new()),
            postgres: RefCell::new(postgres::Server::new()),
            to_valkey: Cell::default(),
            to_postgres: Cell::default(),
            valkey_capacity: RefCell::default(),
            postgres_capacity: RefCell::default(),
            breaks: Default::default(),
            watch: RefCell::new(watch),
        }
    }

    /// Breaks all connections to a store.
    pub fn break_all(&self, to: To) {
        let breaks = &self.breaks[to as usize];
        breaks.set(breaks.get() + 1);
    }

    fn capacity(&self, to: To) -> &RefCell<Option<Capacity>> {
        match to {
            To::Valkey => &self.valkey_capacity,
            To::Postgres => &self.postgres_capacity,
        }
    }
}

/// One connection, as the client's end sees it.
pub struct Stream(Rc<Connection>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.is_left.set(true);
        if let Some(capacity) = &mut *self.0.stores.capacity(self.0.to).borrow_mut() {
            capacity.open -= 1;
        }
    }
}

struct Connection {
    world: World,
    stores: Rc<Stores>,
    to: To,
    server: RefCell<Server>,
    weather: Weather,
    /// On top of the weather.
    way: Way,
    /// From what logged in in our place to the store.
    way_beyond: Option<Way>,
    /// How often all connections had been broken when it was made.
    breaks: u32,
    is_one_too_many: bool,
    /// When the server has done all that came, in µs.
    done_us: Cell<u64>,
    arrived: RefCell<VecDeque<Bytes>>,
    end: Cell<Option<io::ErrorKind>>,
    /// The client has closed it.
    is_left: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    /// No byte overtakes another of its direction.
    latest_us: [Cell<u64>; 2],
    /// Bytes until the connection breaks, by direction.
    left: [Cell<u64>; 2],
}

/// What Valkey says to a connection beyond its `maxclients`, before it closes it.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
const TO_SERVER: usize = 0;
const TO_CLIENT: usize = 1;

impl Connection {
    /// When a piece that leaves now arrives.
    fn arrival_us(&self, direction: usize) -> u64 {
        let mut after_us = self.weather.latency_us + self.world.below(self.weather.jitter_us + 1);
        after_us += self.draw(self.way);
        if self.world.happens(self.weather.delays) {
            after_us += self.world.below(self.weather.delay_us + 1);
        }
        let latest_us = &self.latest_us[direction];
        let at_us = (self.world.now_us() + after_us).max(latest_us.get());
        latest_us.set(at_us);
        at_us
    }

    /// What of `bytes` gets through before the connection breaks; true: it breaks.
    fn pass(&self, direction: usize, mut bytes: Bytes) -> (Bytes, bool) {
        let left = &self.left[direction];
        let count = (bytes.len() as u64).min(left.get());
        left.set(left.get() - count);
        bytes.truncate(count as usize);
        (bytes, left.get() == 0)
    }

    fn send(self: &Rc<Self>, bytes: &[u8]) {
        let (bytes, breaks) = self.pass(TO_SERVER, Bytes::copy_from_slice(bytes));
        let connection = Rc::clone(self);
        self.world.at(self.arrival_us(TO_SERVER), move || {
            if connection.end.get().is_none() {
                connection.receive(bytes);
            }
            if breaks {
                connection.finish(io::ErrorKind::ConnectionReset);
            }
        });
    }

    /// Whether the log-in is over.
    fn is_in(&self) -> bool {
        match &*self.server.borrow() {
            Server::Valkey(_) => true,
            Server::Postgres(session) => session.is_ready(),
        }
    }

    fn draw(&self, way: Way) -> u64 {
        self.world.draw(|dice| way.draw(dice))
    }

    /// The server does what the bytes ask for, when it gets to it. The edge sends
    /// its first statement together with the log-in, and does not send it when it has
    /// gone away before a log-in of several round trips is over.
    fn receive(self: &Rc<Self>, bytes: Bytes) {
        let logs_in = !self.is_in();
        let Some(done_us) = self.done_with_all_us() else {
            return self.serve(&bytes);
        };
        let connection = Rc::clone(self);
        self.world.at(done_us, move || {
            if !(logs_in && connection.is_left.get()) {
                connection.serve(&bytes);
            }
        });
    }

    /// When what comes now is done, in µs, and all that came before; None: at once.
    fn done_with_all_us(&self) -> Option<u64> {
        let mut capacity = self.stores.capacity(self.to).borrow_mut();
        let capacity = capacity.as_mut()?;
        let mut work_us = self.world.draw(|dice| capacity.store.service_us.draw(dice));
        let mut ways_us = self.way_beyond.map_or(0, |way| 2 * self.draw(way));
        if !self.is_in() {
            work_us += self.world.draw(|dice| capacity.store.log_in_us.draw(dice));
            for _ in 0..capacity.store.log_in_round_trips {
                ways_us += 2 * (self.weather.latency_us + self.draw(self.way));
            }
        }
        let done_us = capacity.done_us(self.world.now_us(), work_us) + ways_us;
        let done_us = done_us.max(self.done_us.get());
        self.done_us.set(done_us);
        Some(done_us)
    }

    /// The server takes bytes and answers.
    fn serve(self: &Rc<Self>, bytes: &[u8]) {
        if self.weather.is_silent {
            return;
        }
        if self.breaks != self.stores.breaks[self.to as usize].get() {
            return self.finish(io::ErrorKind::ConnectionReset);
        }
        let now_ms = self.world.now_ms();
        let watch = || (self.stores.watch.borrow_mut())(&self.stores, self.world.now_us());
        let (output, is_closed) = match &mut *self.server.borrow_mut() {
            Server::Valkey(_) if self.is_one_too_many => (TOO_MANY_CLIENTS.to_vec(), true),
            Server::Valkey(session) => {
                // Several requests may have come together.
                session.handle_input_with(&self.stores.valkey, bytes, now_ms, watch);
                (session.take_output(), session.is_closed())
            }
            Server::Postgres(session) => {
                let mut postgres = self.stores.postgres.borrow_mut();
                if self.is_one_too_many {
                    let before = postgres.fail(Some(postgres::Failure::Full));
                    session.handle_input(&mut postgres, bytes, now_ms);
                    postgres.fail(before);
                } else {
                    session.handle_input(&mut postgres, bytes, now_ms);
                }
                drop(postgres);
                watch();
                (session.take_output(), session.is_closed())
            }
        };
        self.answer(Bytes::from(output));
        if is_closed {
            let connection = Rc::clone(self);
            self.world.at(self.arrival_us(TO_CLIENT), move || {
                connection.finish(io::ErrorKind::UnexpectedEof);
            });
        }
    }

    /// In one piece or in several.
    fn answer(self: &Rc<Self>, mut rest: Bytes) {
        while !rest.is_empty() {
            let count = match self.world.below(4) {
                0 => 1 + self.world.below(rest.len() as u64) as usize,
                _ => rest.len(),
            };
            let (piece, breaks) = self.pass(TO_CLIENT, rest.split_to(count));
            let connection = Rc::clone(self);
            self.world.at(self.arrival_us(TO_CLIENT), move || {
                if !piece.is_empty() {
                    connection.arrived.borrow_mut().push_back(piece);
                }
                connection.wake();
                if breaks {
                    connection.finish(io::ErrorKind::ConnectionReset);
                }
            });
            if breaks {
                return;
            }
        }
    }

    fn finish(&self, how: io::ErrorKind) {
        if self.end.get().is_none() {
            self.end.set(Some(how));
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = &self.0;
        let mut arrived = connection.arrived.borrow_mut();
        let Some(front) = arrived.front_mut() else {
            return match connection.end.get() {
                Some(io::ErrorKind::UnexpectedEof) => Poll::Ready(Ok(())),
                Some(how) => Poll::Ready(Err(how.into())),
                None => {
                    connection.reader.replace(Some(context.waker().clone()));
                    Poll::Pending
                }
            };
        };
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front.split_to(count));
        if front.is_empty() {
            arrived.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0.end.get() {
            Some(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {
                self.0.send(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The platform of one isolate: its own clock, the world's time.
#[derive(Clone)]
pub struct Place {
    pub world: World,
    pub stores: Rc<Stores>,
    /// By how much its clock is wrong at the moment, in ms.
    pub skew_ms: Rc<Cell<i64>>,
    /// What was said to the operator last, for a report.
    pub said: Rc<RefCell<VecDeque<String>>>,
    /// All tasks that run here; those that ended, too.
    pub tasks: Rc<RefCell<Vec<TaskId>>>,
    /// The connections that outlive a request, where it is a gateway's place.
    pub kept: Option<Rc<Kept<Self>>>,
    /// Those that can be asked from here.
    pub gateways: Rc<RefCell<Vec<Gateway>>>,
    /// To the stores, on top of the weather.
    pub way: Way,
    pub way_to_gateways: Way,
    /// To what logs in to PostgreSQL in our place, and keeps it.
    pub way_to_hyperdrive: Option<Way>,
    /// What is needed of the platform, where that matters; and the request that
    /// runs here.
    pub needs: Option<Rc<RefCell<Needs>>>,
    /// Of its isolate, where work takes time.
    pub thread: Option<Rc<Thread>>,
    /// Of the requests in it.
    pub bodies_bytes: Rc<Cell<u64>>,
    invocation: Option<Rc<Invocation>>,
}

/// A body that is in an isolate.
pub struct Held {
    all: Rc<Cell<u64>>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

/// A gateway, which may be another one after a crash.
#[derive(Clone)]
pub struct Gateway {
    pub place: Place,
    pub isolate: Rc<Isolate>,
}

impl Place {
    pub fn new(world: &World, stores: &Rc<Stores>) -> Self {
        Self {
            world: world.clone(),
            stores: Rc::clone(stores),
            skew_ms: Rc::default(),
            said: Rc::default(),
            tasks: Rc::default(),
            kept: None,
            gateways: Rc::default(),
            way: Way::default(),
            way_to_gateways: Way::default(),
            way_to_hyperdrive: None,
            needs: None,
            thread: None,
            bodies_bytes: Rc::default(),
            invocation: None,
        }
    }

    /// For one more request.
    pub fn for_request(&self) -> Self {
        let invocation = self.needs.as_ref().map(Invocation::new).map(Rc::new);
        Self {
            invocation,
            ..self.clone()
        }
    }

    /// A body comes; dropped, it is gone.
    pub fn hold(&self, bytes: usize) -> Held {
        let (all, bytes) = (Rc::clone(&self.bodies_bytes), bytes as u64);
        all.set(all.get() + bytes);
        Held { all, bytes }
    }

    /// The isolate computes for as long as this costs it, after all that it has taken on
    /// before; when it begins, and when it is done, in µs.
    pub fn compute(&self, cost_us: impl FnOnce(&Busy) -> u64) -> (u64, u64) {
        let now_us = self.world.now_us();
        let Some(thread) = &self.thread else {
            return (now_us, now_us);
        };
        let us = cost_us(&thread.busy);
        if let Some(invocation) = &self.invocation {
            invocation.compute(us);
        }
        let begins_us = thread.take(now_us, us);
        (begins_us, begins_us + us)
    }

    /// Asks somebody as soon as the isolate gets to it. That it will compute for the
    /// answer, too, makes others wait, and is a part of what the edge takes for it.
    async fn ask(&self, cost_us: impl FnOnce(&Busy) -> u64) {
        let (begins_us, _) = self.compute(cost_us);
        self.world.sleep_until_us(begins_us).await;
    }

    /// Begins a task here.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        let id = self.world.spawn(task);
        self.tasks.borrow_mut().push(id);
        id
    }

    /// Ends the place with all that runs on it, in the middle of anything.
    pub fn crash(&self) {
        for id in self.tasks.take() {
            self.world.freeze(id);
        }
    }
}

/// Lines of the log that are kept.
const LINES_MAX: usize = 20;

impl Host for Place {
    type Stream = Stream;

    fn now_ms(&self) -> u64 {
        self.world
            .now_ms()
            .saturating_add_signed(self.skew_ms.get())
    }

    fn sleep(&self, duration_ms: u64) -> impl Future<Output = ()> {
        self.world.sleep_us(duration_ms.saturating_mul(1000))
    }

    async fn connect(&self, address: &Address, _: Tls) -> io::Result<Stream> {
        let (to, weather, server) = match address.host.as_str() {
            VALKEY => {
                let server = Server::Valkey(valkey::Session::new());
                (To::Valkey, self.stores.to_valkey.get(), server)
            }
            _ => {
                let server = Server::Postgres(postgres::Session::new());
                (To::Postgres, self.stores.to_postgres.get(), server)
            }
        };
        self.ask(|busy| match to {
            To::Valkey => busy.valkey_us,
            To::Postgres => busy.postgres_us,
        })
        .await;
        let invocation = self.invocation.clone();
        let _opening = match &invocation {
            Some(invocation) => Some(invocation.open().await),
            None => None,
        };
        // Hyperdrive is near, and goes on to the store itself.
        let near = self.way_to_hyperdrive.filter(|_| to == To::Postgres);
        let way = near.unwrap_or(self.way);
        let capacity = self.stores.capacity(to);
        let round_trips = match (&*capacity.borrow(), near) {
            (Some(capacity), None) => capacity.store.connect_round_trips,
            _ => 1,
        };
        for _ in 0..round_trips {
            let there_and_back_us =
                2 * weather.latency_us + self.world.below(weather.jitter_us + 1);
            let ways_us = 2 * self.world.draw(|dice| way.draw(dice));
            self.world.sleep_us(there_and_back_us + ways_us).await;
        }
        if weather.is_refused {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if weather.is_silent && self.world.happens(500) {
            return pending().await;
        }
        let is_one_too_many = capacity
            .borrow_mut()
            .as_mut()
            .is_some_and(Capacity::connect);
        let connection = Connection {
            world: self.world.clone(),
            stores: Rc::clone(&self.stores),
            to,
            server: RefCell::new(server),
            weather,
            way,
            way_beyond: near.map(|_| self.way),
            breaks: self.stores.breaks[to as usize].get(),
            is_one_too_many,
            done_us: Cell::default(),
            arrived: RefCell::default(),
            end: Cell::new(None),
            is_left: Cell::default(),
            reader: RefCell::default(),
            latest_us: Default::default(),
            left: [Cell::new(u64::MAX), Cell::new(u64::MAX)],
        };
        if self.world.happens(weather.cuts) {
            let direction = self.world.below(2) as usize;
            connection.left[direction].set(1 + self.world.below(1200));
        }
        Ok(Stream(Rc::new(connection)))
    }

    async fn start_tls(&self, stream: Stream, _: &Address, _: Tls) -> io::Result<Stream> {
        Ok(stream)
    }

    fn kept(&self) -> Option<&Kept<Self>> {
        self.kept.as_deref()
    }

    async fn relay(&self, shard: u64, request: Request) -> io::Result<Response> {
        if let Some(invocation) = &self.invocation {
            invocation.subrequest();
        }
        self.ask(|busy| busy.request_us).await;
        let way_us = || self.world.draw(|dice| self.way_to_gateways.draw(dice));
        self.world.sleep_us(way_us()).await;
        let Gateway { place, isolate } = self.gateways.borrow()[shard as usize].clone();
        let (sender, answer) = oneshot::channel();
        // Whoever asks may go away, and the gateway goes on.
        let place = place.for_request();
        place.clone().spawn(async move {
            let _asked = place.hold(request.body.as_ref().map_or(0, Bytes::len));
            let (_, free_us) = place.compute(|busy| busy.request_us);
            place.world.sleep_until_us(free_us).await;
            let response = serve(place.clone(), isolate, request).await;
            let _answered = place.hold(response.body.len());
            if let Some(needs) = &place.needs {
                needs.borrow_mut().held(place.bodies_bytes.get());
            }
            let _ = sender.send(response);
        });
        let response = answer.await.map_err(|_| io::ErrorKind::ConnectionReset)?;
        self.world.sleep_us(way_us()).await;
        Ok(response)
    }

    fn defer(&self, work: impl Future<Output = ()> + 'static) {
        self.spawn(work);
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (front, back) = bytes.split_at_mut(8);
        front.copy_from_slice(&self.world.below(u64::MAX).to_le_bytes());
        back.copy_from_slice(&self.world.below(u64::MAX).to_le_bytes());
        bytes
    }

    fn nfkc(text: &str) -> String {
        text.to_owned()
    }

    fn print(&self, line: &str) {
        let mut said = self.said.borrow_mut();
        if said.len() == LINES_MAX {
            said.pop_front();
        }
        said.push_back(format!("{} ms: {line}", self.world.now_ms()));
    }
}
