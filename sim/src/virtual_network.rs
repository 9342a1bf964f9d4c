//! The network between isolates and the stores, in virtual time: bytes that
//! take a while, arrive in pieces, and sometimes do not arrive.
//!
//! Knows connections and faults; the stores at its other end are those of
//! [`crate::backends`], which see the time at which bytes reach them. Knows
//! nothing of what the bytes mean.

// Nothing here comes from outside, and a simulation that is wrong must stop.
#![allow(clippy::indexing_slicing)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use edge::host::{Address, Host, Tls};
use edge::isolate::Isolate;
use edge::route::gateway::serve;
use edge::route::{Request, Response};
use edge::transport::Kept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::backends::{postgres, valkey};
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

/// Sees the stores at a time in µs.
pub type Watch = dyn FnMut(&Stores, u64);

/// The stores, and the way to them.
pub struct Stores {
    pub valkey: RefCell<valkey::Server>,
    pub postgres: RefCell<postgres::Server>,
    pub to_valkey: Cell<Weather>,
    pub to_postgres: Cell<Weather>,
    /// Called when a store has taken bytes: what it holds may have changed.
    pub watch: RefCell<Box<Watch>>,
}

/// One connection, as the client's end sees it.
pub struct Stream(Rc<Connection>);

struct Connection {
    world: World,
    stores: Rc<Stores>,
    server: RefCell<Server>,
    weather: Weather,
    arrived: RefCell<VecDeque<u8>>,
    end: Cell<Option<io::ErrorKind>>,
    reader: RefCell<Option<Waker>>,
    /// No byte overtakes another of its direction.
    latest_us: [Cell<u64>; 2],
    /// Bytes until the connection breaks, by direction.
    left: [Cell<u64>; 2],
}

const TO_SERVER: usize = 0;
const TO_CLIENT: usize = 1;

impl Connection {
    /// When a piece that leaves now arrives.
    fn arrival_us(&self, direction: usize) -> u64 {
        let mut after_us = self.weather.latency_us + self.world.below(self.weather.jitter_us + 1);
        if self.world.happens(self.weather.delays) {
            after_us += self.world.below(self.weather.delay_us + 1);
        }
        let latest_us = &self.latest_us[direction];
        let at_us = (self.world.now_us() + after_us).max(latest_us.get());
        latest_us.set(at_us);
        at_us
    }

    /// What of `bytes` gets through before the connection breaks; true: it breaks.
    fn pass<'a>(&self, direction: usize, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let left = &self.left[direction];
        let count = (bytes.len() as u64).min(left.get());
        left.set(left.get() - count);
        (&bytes[..count as usize], left.get() == 0)
    }

    fn send(self: &Rc<Self>, bytes: &[u8]) {
        let (bytes, breaks) = self.pass(TO_SERVER, bytes);
        let (connection, bytes) = (Rc::clone(self), bytes.to_vec());
        self.world.at(self.arrival_us(TO_SERVER), move || {
            if connection.end.get().is_none() {
                connection.serve(&bytes);
            }
            if breaks {
                connection.finish(io::ErrorKind::ConnectionReset);
            }
        });
    }

    /// The server takes bytes and answers.
    fn serve(self: &Rc<Self>, bytes: &[u8]) {
        if self.weather.is_silent {
            return;
        }
        let now_ms = self.world.now_ms();
        let (output, is_closed) = match &mut *self.server.borrow_mut() {
            Server::Valkey(session) => {
                session.handle_input(&mut self.stores.valkey.borrow_mut(), bytes, now_ms);
                (session.take_output(), session.is_closed())
            }
            Server::Postgres(session) => {
                session.handle_input(&mut self.stores.postgres.borrow_mut(), bytes, now_ms);
                (session.take_output(), session.is_closed())
            }
        };
        (self.stores.watch.borrow_mut())(&self.stores, self.world.now_us());
        self.answer(&output);
        if is_closed {
            let connection = Rc::clone(self);
            self.world.at(self.arrival_us(TO_CLIENT), move || {
                connection.finish(io::ErrorKind::UnexpectedEof);
            });
        }
    }

    /// In one piece or in several.
    fn answer(self: &Rc<Self>, output: &[u8]) {
        let mut rest = output;
        while !rest.is_empty() {
            let count = match self.world.below(4) {
                0 => 1 + self.world.below(rest.len() as u64) as usize,
                _ => rest.len(),
            };
            let (piece, after) = rest.split_at(count);
            rest = after;
            let (piece, breaks) = self.pass(TO_CLIENT, piece);
            let (connection, piece) = (Rc::clone(self), piece.to_vec());
            self.world.at(self.arrival_us(TO_CLIENT), move || {
                connection.arrived.borrow_mut().extend(&piece);
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
        if arrived.is_empty() {
            return match connection.end.get() {
                Some(io::ErrorKind::UnexpectedEof) => Poll::Ready(Ok(())),
                Some(how) => Poll::Ready(Err(how.into())),
                None => {
                    connection.reader.replace(Some(context.waker().clone()));
                    Poll::Pending
                }
            };
        }
        let count = arrived.len().min(buffer.remaining());
        let (front, _) = arrived.as_slices();
        let count = count.min(front.len());
        buffer.put_slice(&front[..count]);
        arrived.drain(..count);
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
}

/// A gateway, which may be another one after a crash.
#[derive(Clone)]
pub struct Gateway {
    pub place: Place,
    pub isolate: Rc<Isolate>,
}

/// One way to a gateway, in µs, at most.
const WAY_US_MAX: u64 = 2_000;

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
        }
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
        let weather = match address.host.as_str() {
            VALKEY => self.stores.to_valkey.get(),
            _ => self.stores.to_postgres.get(),
        };
        let there_and_back_us = 2 * weather.latency_us + self.world.below(weather.jitter_us + 1);
        self.world.sleep_us(there_and_back_us).await;
        if weather.is_refused {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if weather.is_silent && self.world.happens(500) {
            return pending().await;
        }
        let server = match address.host.as_str() {
            VALKEY => Server::Valkey(valkey::Session::new()),
            _ => Server::Postgres(postgres::Session::new()),
        };
        let connection = Connection {
            world: self.world.clone(),
            stores: Rc::clone(&self.stores),
            server: RefCell::new(server),
            weather,
            arrived: RefCell::default(),
            end: Cell::new(None),
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
        let way_us = || self.world.below(WAY_US_MAX);
        self.world.sleep_us(way_us()).await;
        let Gateway { place, isolate } = self.gateways.borrow()[shard as usize].clone();
        let (sender, answer) = oneshot::channel();
        // Whoever asks may go away, and the gateway goes on.
        place.clone().spawn(async move {
            let _ = sender.send(serve(place, isolate, request).await);
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

    fn print(&self, line: &str) {
        let mut said = self.said.borrow_mut();
        if said.len() == LINES_MAX {
            said.pop_front();
        }
        said.push_back(format!("{} ms: {line}", self.world.now_ms()));
    }
}
