//! Asks a Valkey by URL whether it lets us in, and says in a sentence why not.
//!
//! Speaks just enough RESP for AUTH and PING. Sentences name the variable and
//! the host, never the password.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edge::host::native::tls;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::network::{self, Server};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Two status lines fit in it many times over.
const REPLY_BYTES_MAX: usize = 4096;

/// Logs in and pings.
///
/// # Errors
/// A sentence: the URL is malformed, the host unknown, the connection refused,
/// the password wrong, or the answer not a Valkey's.
pub async fn ping(url: &str) -> Result<()> {
    let url = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "valkey" | "valkeys" | "redis" | "rediss"))
        .filter(Url::has_host)
        .context(
            "VALKEY_URL is malformed: write valkey://:password@host:port, or valkeys:// for TLS",
        )?;
    let server = Server::named(
        "VALKEY_URL",
        "Valkey",
        url.host_str(),
        url.port().unwrap_or(6379),
    )?;
    let stream = network::connect(&server).await?;
    let login = login(&url);
    let is_tls = matches!(url.scheme(), "valkeys" | "rediss");
    let talk = async {
        if is_tls {
            let connector = TlsConnector::from(Arc::new(tls::verified()?));
            let stream = connector
                .connect(server.tls_name()?, stream)
                .await
                .with_context(|| format!("VALKEY_URL: TLS with {server} failed"))?;
            exchange(stream, &login).await
        } else {
            exchange(stream, &login).await
        }
    };
    let hint = if is_tls {
        "does it speak without TLS (valkey://)?"
    } else {
        "does it want TLS (valkeys://)?"
    };
    let reply = timeout(ANSWER_WITHIN, talk).await.with_context(|| {
        format!("VALKEY_URL: {server} accepts the connection and then says nothing: {hint}")
    })??;
    judge(&reply, &server)
}

fn login(url: &Url) -> String {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut commands = String::new();
    match (decoded(url.username()), url.password().map(decoded)) {
        (_, None) => {}
        (user, Some(password)) if user.is_empty() => command(&mut commands, &["AUTH", &password]),
        (user, Some(password)) => command(&mut commands, &["AUTH", &user, &password]),
    }
    command(&mut commands, &["PING"]);
    commands
}

fn command(commands: &mut String, words: &[&str]) {
    commands.push_str(&format!("*{}\r\n", words.len()));
    for word in words {
        commands.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
}

/// Sends the commands and reads until there is an answer to the last one.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    commands: &str,
) -> Result<String> {
    stream.write_all(commands.as_bytes()).await?;
    let mut reply = Vec::new();
    let mut part = [0; 512];
    while reply.len() < REPLY_BYTES_MAX && !finished(&reply) {
        match stream.read(&mut part).await {
            Ok(0) => break,
            Ok(length) => reply.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn finished(reply: &[u8]) -> bool {
    reply.ends_with(b"\r\n") && (reply.starts_with(b"-") || reply.ends_with(b"+PONG\r\n"))
}

fn judge(reply: &str, server: &Server) -> Result<()> {
    if reply.ends_with("+PONG\r\n") {
        return Ok(());
    }
    let first = reply.lines().next().unwrap_or_default();
    ensure!(
        !first.starts_with("-WRONGPASS"),
        "VALKEY_URL: {server} says that the user or the password is wrong"
    );
    ensure!(
        !reply.contains("-NOAUTH"),
        "VALKEY_URL: {server} wants a password: write valkey://:password@host:port"
    );
    ensure!(
        !first.contains("called without any password"),
        "VALKEY_URL: {server} has no password set, so it refuses the one given: leave it out"
    );
    if first.starts_with('-') {
        bail!(
            "VALKEY_URL: {server} refuses us: {}",
            first.trim_start_matches('-')
        );
    }
    bail!("VALKEY_URL: what answers on {server} is not a Valkey, or wants TLS (valkeys://)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(reply: &str) -> String {
        let server = Server::named("VALKEY_URL", "Valkey", Some("cache.example"), 6379);
        server
            .and_then(|server| judge(reply, &server))
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn each_refusal_has_its_own_sentence() {
        assert_eq!(judged("+OK\r\n+PONG\r\n"), "fine");
        assert!(judged("-WRONGPASS invalid\r\n-NOAUTH\r\n").contains("password is wrong"));
        assert!(judged("-NOAUTH Authentication required.\r\n").contains("wants a password"));
        assert!(judged("HTTP/1.1 400 Bad Request\r\n").contains("not a Valkey"));
        assert!(judged("-DENIED protected mode\r\n").contains("DENIED protected mode"));
    }

    #[tokio::test]
    async fn a_malformed_url_is_named_and_not_repeated() {
        let error = ping("hunter2")
            .await
            .map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            error.contains("VALKEY_URL is malformed") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
