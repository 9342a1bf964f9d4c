//! The edge's log-in at a real PostgreSQL: what that makes of a password when it
//! is set, the edge makes of it when it logs in.

#![allow(clippy::indexing_slicing)] // A test that is wrong must stop.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use edge::host::{Host, native::Native};
use edge::wire::pg::{Connection, Login, Scram, SslMode};
use edge::wire::{Machine, Wants, WireError};
use sim::database;
use sim::stores::{Data, Stores};

fn log_in(stores: &Stores, password: &str, scram: Scram) -> Result<Result<(), WireError>> {
    let mut stream = TcpStream::connect(("127.0.0.1", stores.postgres.port))?;
    let login = Login {
        user: "guest".to_owned(),
        password: Some(password.to_owned()),
        database: "style_shepherd".to_owned(),
        ssl: SslMode::Disable,
    };
    let mut connection = Connection::new(login, scram);
    let mut part = [0; 4096];
    while connection.wants() != Wants::Nothing {
        stream.write_all(&connection.take_output())?;
        let bytes = stream.read(&mut part)?;
        ensure!(bytes > 0, "closed");
        if let Err(error) = connection.handle_input(&part[..bytes]) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

#[tokio::test]
async fn every_password_opens_what_it_was_set_for() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let database = database::connect(stores.database_url()).await?;
    database
        .client
        .batch_execute("CREATE ROLE guest LOGIN")
        .await?;
    let mut scram = Scram {
        nonce: [1; 16],
        nfkc: Native::nfkc,
        remembered: Rc::default(),
    };
    for (password, also) in [
        ("wool and silk", None),
        ("\u{7}", None),
        ("über", Some("u\u{308}ber")),
        ("u\u{308}ber", Some("über")),
        ("IX", Some("\u{2168}")),
        ("a b c", Some("a\u{3000}b\u{200B}c")),
        ("I\u{AD}X", Some("IX")),
        // Persian, with and without the joiner that decides how it looks.
        (
            "\u{645}\u{6CC}\u{200C}\u{62E}",
            Some("\u{645}\u{6CC}\u{62E}"),
        ),
        // Refused by SASLprep, and so taken as they are.
        ("u\u{308}\u{7}", None),
        ("u\u{308}\u{E000}", None),
        ("u\u{308}\u{340}", None),
        ("\u{FB01}\u{1F600}", None),
        ("\u{FB01}\u{1D4C1}", None),
        ("\u{AD}", None),
        ("\u{627}\u{AD}1", None),
        ("\u{627}\u{AD}a\u{628}", None),
        ("\u{627}\u{64B}\u{AD}\u{628}", Some("\u{627}\u{64B}\u{628}")),
        ("\u{915}\u{93E}\u{AD}", Some("\u{915}\u{93E}")),
    ] {
        let set = format!("ALTER ROLE guest PASSWORD '{password}'");
        database.client.batch_execute(&set).await?;
        for password in [Some(password), also, Some(password)].into_iter().flatten() {
            scram.nonce[0] += 1;
            let outcome = log_in(&stores, password, scram.clone())?;
            ensure!(
                outcome.is_ok(),
                "{}: {outcome:?}",
                password.escape_unicode()
            );
        }
        let outcome = log_in(&stores, &format!("{password}!"), scram.clone())?;
        let why = outcome.err().context("let in with a wrong password")?;
        let expected = "28P01 password authentication failed: password authentication failed for user \"guest\"";
        assert!(
            matches!(&why, WireError::Refused(why) if why.starts_with(expected)),
            "{why:?}"
        );
    }
    Ok(())
}
