//! A connection to a PostgreSQL by URL, and in a sentence why there is none.
//!
//! Used for schema, sample data and the checks before the edge starts; the edge
//! itself has its own client. Sentences name the variable, never the password.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use edge::host::native::tls;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::network::{self, Server};

/// Long for a log-in, also far away.
const LOG_IN_WITHIN: Duration = Duration::from_secs(10);

/// An open connection; closed when dropped.
pub struct Database {
    pub client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The same three words, with the same default, as the edge's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disable,
    Require,
    VerifyFull,
}

struct Target {
    server: Server,
    config: Config,
    ssl: SslMode,
}

/// Connects and logs in.
///
/// # Errors
/// A sentence: the URL is malformed, the host unknown, the connection refused,
/// the password wrong, the database missing, or TLS failed.
pub async fn connect(url: &str) -> Result<Database> {
    connect_within(url, LOG_IN_WITHIN).await
}

async fn connect_within(url: &str, log_in_within: Duration) -> Result<Database> {
    let target = target(url)?;
    let stream = network::connect(&target.server).await?;
    let logged_in = async {
        match target.ssl {
            SslMode::Disable => log_in(&target, stream, NoTls).await,
            SslMode::Require => {
                log_in(&target, stream, MakeRustlsConnect::new(tls::unverified()?)).await
            }
            SslMode::VerifyFull => {
                log_in(&target, stream, MakeRustlsConnect::new(tls::verified()?)).await
            }
        }
    };
    timeout(log_in_within, logged_in).await.map_err(|_| {
        anyhow!(
            "DATABASE_URL: {} takes the connection and says nothing within {log_in_within:?}: is it a PostgreSQL?",
            target.server
        )
    })?
}

fn target(url: &str) -> Result<Target> {
    let url = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
        .context("DATABASE_URL is malformed: write postgres://user:password@host:port/database")?;
    let server = Server::named(
        "DATABASE_URL",
        "PostgreSQL",
        url.host_str(),
        url.port().unwrap_or(5432),
    )?;
    let ssl = match url
        .query_pairs()
        .filter(|(name, _)| name == "sslmode")
        .last()
    {
        None => SslMode::VerifyFull,
        Some((_, mode)) => match mode.as_ref() {
            "disable" => SslMode::Disable,
            "require" => SslMode::Require,
            "verify-full" => SslMode::VerifyFull,
            _ => bail!("DATABASE_URL: sslmode is one of disable, require, verify-full"),
        },
    };
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut config = Config::new();
    config
        .user(decoded(url.username()))
        .dbname(decoded(url.path().trim_start_matches('/')));
    if let Some(password) = url.password() {
        config.password(decoded(password));
    }
    config.ssl_mode(match ssl {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
    });
    Ok(Target {
        server,
        config,
        ssl,
    })
}

async fn log_in<T>(target: &Target, stream: TcpStream, mut tls: T) -> Result<Database>
where
    T: MakeTlsConnect<TcpStream>,
    T::Stream: Send + 'static,
{
    let tls = tls
        .make_tls_connect(&target.server.host)
        .map_err(|error| anyhow!(error.into()))?;
    let (client, connection) = target
        .config
        .connect_raw(stream, tls)
        .await
        .map_err(|error| refusal(&error, target))?;
    // The driver's error reaches the caller through the client's own calls.
    let driver = tokio::spawn(async { drop(connection.await) });
    Ok(Database { client, driver })
}

fn refusal(error: &tokio_postgres::Error, target: &Target) -> anyhow::Error {
    let Target {
        server,
        config,
        ssl,
    } = target;
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or_default();
    let Some(answer) = error.as_db_error() else {
        let what =
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        return match ssl {
            SslMode::Disable => anyhow!("DATABASE_URL: {server} ends the conversation: {what}"),
            SslMode::Require => anyhow!(
                "DATABASE_URL: TLS with {server} failed: {what}; a local server without TLS needs ?sslmode=disable"
            ),
            SslMode::VerifyFull => anyhow!(
                "DATABASE_URL: TLS with {server} failed: {what}; a local server without TLS needs ?sslmode=disable, one with a certificate of its own ?sslmode=require"
            ),
        };
    };
    match *answer.code() {
        SqlState::INVALID_PASSWORD => {
            anyhow!("DATABASE_URL: {server} says that the password of user {user} is wrong")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            anyhow!(
                "DATABASE_URL: {server} does not let user {user} in: {}",
                answer.message()
            )
        }
        SqlState::INVALID_CATALOG_NAME => {
            anyhow!(
                "DATABASE_URL: {server} has no database {database}: create it with createdb, or name another one"
            )
        }
        _ => anyhow!(
            "DATABASE_URL: {server} refuses the connection: {}",
            answer.message()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(url: &str) -> String {
        target(url).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn the_url_is_read_like_the_edge_reads_it() -> Result<()> {
        let read = target("postgresql://u%40x:p%3Aw@db.example/shop")?;
        assert_eq!(read.ssl, SslMode::VerifyFull);
        assert_eq!(read.server.port, 5432);
        assert_eq!(read.config.get_user(), Some("u@x"));
        assert_eq!(read.config.get_password(), Some(b"p:w".as_slice()));
        assert_eq!(read.config.get_dbname(), Some("shop"));
        Ok(())
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() -> Result<()> {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = silent.local_addr()?.port();
        let url = format!("postgres://u:p@127.0.0.1:{port}/d?sslmode=disable");
        let error = connect_within(&url, Duration::from_millis(1))
            .await
            .err()
            .context("it is let in")?;
        assert!(error.to_string().contains("says nothing"), "{error}");
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_repeating_it() {
        assert!(sentence("hunter2").contains("DATABASE_URL is malformed"));
        assert!(sentence("postgres:///db").contains("names no host"));
        assert!(sentence("postgres://u:p@h/d?sslmode=maybe").contains("sslmode is one of"));
    }
}
