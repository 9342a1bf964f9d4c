//! A real PostgreSQL and a real Valkey on free loopback ports.
//!
//! They belong to whoever holds [`Stores`] and end with it: on drop, on
//! [`Stores::stop`], and when the process is killed. The database exists and is
//! empty; tables and rows are the business of [`crate::schema`] and
//! [`crate::sample`].

mod account;
mod binaries;
mod place;
mod postgres;
mod valkey;

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

pub use place::{Data, Place};
pub use postgres::Postgres;
pub use valkey::Valkey;

use account::Account;

/// Another program may take the port between our look and the server's start.
const PORT_ATTEMPTS: u32 = 5;

/// Both stores, running.
#[derive(Debug)]
pub struct Stores {
    // Dropped in this order: the place only when nobody writes to it any more.
    pub postgres: Postgres,
    pub valkey: Valkey,
    place: Place,
}

impl Stores {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// A program is missing, the data is in use, or a store does not start; the
    /// error ends with what it wrote last.
    pub async fn start(data: &Data) -> Result<Self> {
        Self::start_in(Self::place(data)?).await
    }

    /// Takes the place, and starts nothing yet.
    ///
    /// # Errors
    /// It cannot be made or entered, or another run uses it.
    pub fn place(data: &Data) -> Result<Place> {
        Place::open(data, Account::to_drop_to().as_ref())
    }

    /// Starts both in a place that was taken before.
    ///
    /// # Errors
    /// As [`Stores::start`].
    pub async fn start_in(place: Place) -> Result<Self> {
        let account = Account::to_drop_to();
        // Asked for first: a missing program is the most likely trouble.
        let valkey_server = binaries::valkey()?;
        let postgres = Postgres::start(&place, account.as_ref()).await?;
        let valkey = Valkey::start(&valkey_server, &place).await?;
        Ok(Self {
            postgres,
            valkey,
            place,
        })
    }

    pub fn database_url(&self) -> &str {
        &self.postgres.url
    }

    pub fn valkey_url(&self) -> &str {
        &self.valkey.url
    }

    /// Says where the data went when it could not go where it should.
    pub fn note(&self) -> Option<String> {
        self.place.moved_from.as_ref().map(|wanted| {
            format!(
                "PostgreSQL refuses to run as root, and the account it runs under instead may not enter {}; the data is in {}.",
                wanted.display(),
                self.place.path("").display()
            )
        })
    }

    /// Ends both and waits until they are gone.
    pub fn stop(mut self) {
        // Both at once; each then waits for its own.
        self.postgres.process.ask_to_stop();
        self.valkey.process.ask_to_stop();
        self.postgres.process.stop();
        self.valkey.process.stop();
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("the system gives no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
