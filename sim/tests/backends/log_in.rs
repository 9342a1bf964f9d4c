//! Valkey with a password: who is let in, and what is said to the others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sim::backends::valkey::{Server, Session};
use sim::stores::{Data, Stores};

use super::valkey::encoded;

/// All that comes within a moment.
fn said(stores: &Stores, flight: &[u8]) -> Result<Vec<u8>> {
    let mut real = TcpStream::connect(("127.0.0.1", stores.valkey.port))?;
    real.set_read_timeout(Some(Duration::from_millis(500)))?;
    real.write_all(flight)?;
    let mut answer = Vec::new();
    match real.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(answer),
    }
}

/// Without the map of a HELLO, which has a version and a number of its own.
fn without_greeting(answer: &[u8]) -> String {
    let text = answer.escape_ascii().to_string();
    let parts = text.split_once(r"$6\r\nserver\r\n");
    let rest = parts.and_then(|(before, map)| Some((before, map.split_once("modules")?.1)));
    match rest {
        Some((before, rest)) => format!("{before}{rest}"),
        None => text.clone(),
    }
}

#[tokio::test]
async fn a_password_is_asked_for_as_by_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let url = stores.valkey_url();
    let right = url.split([':', '@']).nth(2).context("a password")?;
    let (right, mut server) = (right.as_bytes(), Server::new());
    server.require_password(Some(std::str::from_utf8(right)?));
    let get: &[&[u8]] = &[b"GET", b"k"];
    for flight in [
        &[get, &[b"NOSUCH"], &[b"GET"], &[b"HELLO"], &[b"HELLO", b"3"]][..],
        &[&[b"HELLO", b"4"], &[b"HELLO", b"3", b"SETNAME", b"x"], get],
        &[&[b"AUTH", b"wrong"], get, &[b"AUTH", right], get],
        &[
            &[b"AUTH", b"default", right],
            get,
            &[b"AUTH", b"wrong"],
            get,
        ],
        &[&[b"AUTH", b"nobody", right], get],
        &[&[b"AUTH"], &[b"AUTH", b"a", b"b", b"c"], &[b"PING"]],
        &[&[b"HELLO", b"3", b"AUTH", b"default", right], get],
        &[&[b"HELLO", b"3", b"AUTH", b"default", b"wrong"], get],
        &[&[b"HELLO", b"3", b"AUTH", b"default"], get],
        &[&[b"HELLO", b"2", b"AUTH", b"default", right], get],
        &[
            &[b"EVAL", b"return 1", b"0"],
            &[b"SCRIPT", b"FLUSH"],
            &[b"TIME"],
        ],
    ] {
        let flight: Vec<u8> = flight.iter().flat_map(|words| encoded(words)).collect();
        let mut session = Session::new();
        session.handle_input(&mut server, &flight, 1);
        let simulated = without_greeting(&session.take_output());
        let real = without_greeting(&said(&stores, &flight)?);
        ensure!(
            real == simulated,
            "to {}\n the real one: {real}\n the simulated: {simulated}",
            flight.escape_ascii()
        );
    }
    Ok(())
}
