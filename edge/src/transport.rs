//! The only loop that moves bytes between a socket and a protocol machine, and
//! the connections that wait between two exchanges.
//!
//! Knows no protocol and no deadline: a caller drops the future, and with it
//! the connection, when time is up. Only a connection whose exchange has ended
//! well is kept, so none has bytes of another exchange on it.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::Fault;
use crate::host::{Address, Host, Tls};
use crate::limits::{KEPT_IDLE_MS_MAX, KEPT_LINKS_MAX};
use crate::tiers::shared::Departures;
use crate::wire::{Machine, Wants, pg, resp};

/// Read at most this much at once: one TLS record and some.
const READ_BYTES: usize = 32 * 1024;

/// A connection and the machine that speaks over it.
pub struct Link<H: Host, M> {
    pub machine: M,
    stream: Option<H::Stream>,
    address: Address,
    tls: Tls,
}

impl<H: Host, M: Machine> Link<H, M> {
    /// # Errors
    /// The store cannot be reached.
    pub async fn open(host: &H, address: &Address, tls: Tls, machine: M) -> Result<Self, Fault> {
        let stream = host.connect(address, tls).await.map_err(unreachable)?;
        Ok(Self {
            machine,
            stream: Some(stream),
            address: address.clone(),
            tls,
        })
    }

    /// Moves bytes until the machine wants nothing more.
    ///
    /// # Errors
    /// The connection broke or the peer broke the protocol; the link is dead.
    pub async fn run(&mut self, host: &H) -> Result<(), Fault> {
        let outcome = self.exchange(host).await;
        if outcome.is_err() {
            self.stream = None;
        }
        outcome
    }

    /// Waits until the peer hangs up, which it does when it has read all that it wants. Who
    /// closes a connection that is not open yet takes back what was written to it.
    ///
    /// # Errors
    /// The connection broke before.
    pub async fn hung_up(&mut self) -> Result<(), Fault> {
        let stream = self.stream.as_mut().ok_or_else(closed)?;
        match stream.read(&mut [0; 1]).await {
            // TLS knows of an end without a word.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(unreachable(error)),
            _ => Ok(()),
        }
    }

    /// Whether the peer has said nothing since the last exchange, not even that
    /// it hangs up.
    fn is_quiet(&mut self) -> bool {
        let Some(stream) = self.stream.as_mut() else {
            return false;
        };
        stream.read(&mut [0; 1]).now_or_never().is_none()
    }

    async fn exchange(&mut self, host: &H) -> Result<(), Fault> {
        let mut chunk = BytesMut::with_capacity(READ_BYTES);
        loop {
            let output = self.machine.take_output();
            let stream = self.stream.as_mut().ok_or_else(closed)?;
            if !output.is_empty() {
                stream.write_all(&output).await.map_err(unreachable)?;
                stream.flush().await.map_err(unreachable)?;
            }
            match self.machine.wants() {
                Wants::Nothing => return Ok(()),
                Wants::Tls => {
                    let plain = self.stream.take().ok_or_else(closed)?;
                    let wrapped = host.start_tls(plain, &self.address, self.tls).await;
                    self.stream = Some(wrapped.map_err(unreachable)?);
                    self.machine.tls_started();
                }
                Wants::Input => {
                    chunk.clear();
                    let count = stream.read_buf(&mut chunk).await.map_err(unreachable)?;
                    if count == 0 {
                        return Err(closed());
                    }
                    self.machine.handle_input(&chunk).map_err(Fault::Wire)?;
                }
            }
        }
    }
}

/// The connections of a place that outlives requests, and what leaves over them
/// together; those of a stateless Worker end with their request, and it has none
/// of these.
pub struct Kept<H: Host> {
    pub valkey: Idle<H, resp::Connection>,
    pub postgres: Idle<H, pg::Connection>,
    pub departures: Departures,
}

impl<H: Host> Default for Kept<H> {
    fn default() -> Self {
        Self {
            valkey: Idle::default(),
            postgres: Idle::default(),
            departures: Departures::default(),
        }
    }
}

/// Connections to one store that nobody uses now, with the times since when.
pub struct Idle<H: Host, M> {
    links: RefCell<Vec<(Link<H, M>, u64)>>,
}

impl<H: Host, M> Default for Idle<H, M> {
    fn default() -> Self {
        Self {
            links: RefCell::default(),
        }
    }
}

impl<H: Host, M: Machine> Idle<H, M> {
    /// The one that was used last, so that those that are too many grow old.
    pub fn take(&self, now_ms: u64) -> Option<Link<H, M>> {
        let mut links = self.links.borrow_mut();
        let is_young =
            |since_ms: u64| (since_ms..since_ms.saturating_add(KEPT_IDLE_MS_MAX)).contains(&now_ms);
        links.retain(|(_, since_ms)| is_young(*since_ms));
        while let Some((mut link, _)) = links.pop() {
            if link.is_quiet() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps one whose exchange has ended well.
    pub fn give(&self, link: Link<H, M>, now_ms: u64) {
        let mut links = self.links.borrow_mut();
        if links.len() < KEPT_LINKS_MAX {
            links.push((link, now_ms));
        }
    }

    pub fn count(&self) -> usize {
        self.links.borrow().len()
    }
}

fn unreachable(error: io::Error) -> Fault {
    Fault::Unreachable(error.to_string())
}

fn closed() -> Fault {
    Fault::Unreachable("the connection was closed".to_owned())
}
