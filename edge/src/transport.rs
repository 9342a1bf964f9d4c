//! The only loop that moves bytes between a socket and a protocol machine.
//!
//! Knows no protocol and no deadline: a caller drops the future, and with it
//! the connection, when time is up.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::Fault;
use crate::host::{Address, Host, Tls};
use crate::wire::{Machine, Wants};

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

    async fn exchange(&mut self, host: &H) -> Result<(), Fault> {
        let mut chunk = vec![0; READ_BYTES];
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
                    let count = stream.read(&mut chunk).await.map_err(unreachable)?;
                    if count == 0 {
                        return Err(closed());
                    }
                    let bytes = chunk.get(..count).unwrap_or_default();
                    self.machine.handle_input(bytes).map_err(Fault::Wire)?;
                }
            }
        }
    }
}

fn unreachable(error: io::Error) -> Fault {
    Fault::Unreachable(error.to_string())
}

fn closed() -> Fault {
    Fault::Unreachable("the connection was closed".to_owned())
}
