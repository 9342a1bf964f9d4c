//! Valkey: replies compared byte for byte, but for the few milliseconds by
//! which the clocks of the two differ.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use edge::tiers::valkey as scripts;
use edge::wire::Machine;
use edge::wire::resp::{self, Command};
use sim::backends::valkey::{Failure, Server, Session};
use sim::dice::Dice;
use sim::stores::{Data, Stores};

const KEYS: [&str; 6] = ["a", "b", "copy{1}", "copy{2}", "session:1", ""];
/// Short enough for a hash to stay a listpack, whose order is that of insertion.
const WORDS: [&[u8]; 9] = [
    b"",
    b"f",
    b"g",
    b"12",
    b"-1",
    b"1.5",
    b"\r\n\0\xff",
    b"{\"lastAccessed\": 5, \"x\": [\"}\"]}",
    b"v:1",
];

/// Both servers, with one connection each.
pub(super) struct Pair {
    real: TcpStream,
    server: Server,
    session: Session,
    /// The longest that an answer took: so far can the clocks be apart.
    slack_ms: u64,
    compared: u64,
}

pub(super) fn encoded(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).bytes());
        bytes.extend(*argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A command of the edge, as it puts it on the wire, without the HELLO.
fn of_edge(command: Command) -> Vec<u8> {
    const HELLO: &[u8] = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
    let mut connection = resp::Connection::new(resp::Login {
        user: None,
        password: None,
    });
    connection.submit(vec![command]);
    let bytes = connection.take_output();
    bytes.strip_prefix(HELLO).unwrap_or(&bytes).to_vec()
}

fn now_ms() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

impl Pair {
    pub(super) fn connect(stores: &Stores) -> Result<Self> {
        let real = TcpStream::connect(("127.0.0.1", stores.valkey.port))?;
        real.set_nodelay(true)?;
        real.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut pair = Self {
            real,
            server: Server::new(),
            session: Session::new(),
            slack_ms: 2,
            compared: 0,
        };
        let url = stores.valkey_url();
        let password = url.split([':', '@']).nth(2).context("a password")?;
        let said = pair.ask_real(&encoded(&[b"AUTH", b"default", password.as_bytes()]))?;
        ensure!(said == b"+OK\r\n", "{}", said.escape_ascii());
        // As the simulated one is: the user `default` needs none.
        pair.ask_real(&encoded(&[b"CONFIG", b"SET", b"requirepass", b""]))?;
        Ok(pair)
    }

    /// Asks and reads up to the answer to a question whose answer is known.
    fn ask_real(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        const MARK: &[u8] = b"\0the end\0";
        let end = [b"$9\r\n", MARK, b"\r\n"].concat();
        self.real
            .write_all(&[request, &encoded(&[b"ECHO", MARK])].concat())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.ends_with(&end) {
            let bytes = self.real.read(&mut part)?;
            ensure!(bytes > 0, "closed after {}", answer.escape_ascii());
            answer.extend(part.get(..bytes).unwrap_or_default());
        }
        answer.truncate(answer.len() - end.len());
        Ok(answer)
    }

    fn ask_simulated(&mut self, request: &[u8], now_ms: u64) -> Vec<u8> {
        self.session.handle_input(&mut self.server, request, now_ms);
        self.session.take_output()
    }

    fn compare(&mut self, request: &[u8]) -> Result<()> {
        let (now_ms, began) = (now_ms()?, Instant::now());
        let real = self.ask_real(request)?;
        let took_ms = u64::try_from(began.elapsed().as_millis())?;
        self.slack_ms = self.slack_ms.max(took_ms + 2);
        let simulated = self.ask_simulated(request, now_ms);
        self.compared += 1;
        ensure!(
            is_alike(&real, &simulated, self.slack_ms),
            "after {} commands, to {}\n the real one: {}\n the simulated: {}",
            self.compared,
            request.escape_ascii(),
            real.escape_ascii(),
            simulated.escape_ascii()
        );
        Ok(())
    }

    /// Goes over to a version of RESP; the greeting is not compared.
    pub(super) fn version(&mut self, version: &[u8]) -> Result<()> {
        let hello = encoded(&[b"HELLO", version]);
        self.ask_real(&hello)?;
        self.ask_simulated(&hello, 0);
        Ok(())
    }

    pub(super) fn compare_words(&mut self, words: &[&[u8]]) -> Result<()> {
        self.compare(&encoded(words))
    }
}

/// The same bytes, but that long numbers, and whole integer replies, may be
/// apart by some milliseconds.
fn is_alike(one: &[u8], other: &[u8], slack_ms: u64) -> bool {
    let parts = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes
            .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
            .map(<[u8]>::to_vec)
            .collect()
    };
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u64>().ok();
    // The first of four parts is the age of a copy, which may be none yet.
    let has_age = one.starts_with(b"*4\r\n:");
    let (one, other) = (parts(one), parts(other));
    let mut before: &[u8] = b"";
    one.len() == other.len()
        && one.iter().zip(&other).enumerate().all(|(place, (a, b))| {
            let is_age = has_age && place == 3;
            let is_time = before.ends_with(b":") || a.len() >= 12;
            before = a;
            a == b
                || is_time
                    && number(a).zip(number(b)).is_some_and(|(a, b)| {
                        (is_age || a > 1 && b > 1) && a.abs_diff(b) <= slack_ms
                    })
        })
}

const SCRIPTS: [&str; 32] = [
    "return 3.7",
    "return -3.7",
    "return nil",
    "return true",
    "return false",
    "return 'text'",
    "return {1,2,nil,4}",
    "return {1,{2,'x'},false,true,'z',3.9}",
    "return {}",
    "return {err='MY mistake'}",
    "return {ok='fine'}",
    "return redis.status_reply('x\\r\\ny')",
    "return redis.error_reply('CODE of mine')",
    "return {KEYS[1],ARGV[1],#KEYS,#ARGV}",
    "return redis.call('GET',KEYS[1])",
    "return redis.pcall('GET',KEYS[1])",
    "return redis.call('HGETALL',KEYS[1])",
    "return redis.call('HKEYS',KEYS[1])",
    "return redis.call('SET',KEYS[1],ARGV[1])",
    "return {redis.call('SET',KEYS[1],ARGV[1],'NX')}",
    "local x = 1\nreturn redis.call('HSET',KEYS[1],'f',ARGV[1])",
    "redis.call('DEL',KEYS[1]) redis.call('SET',KEYS[1],'x') return redis.call('PTTL',KEYS[1])",
    "redis.call('SET',KEYS[1],12) redis.call('SET',KEYS[1],1.5) return redis.call('GET',KEYS[1])",
    "redis.call('SET',KEYS[1],1e15) return redis.call('GET',KEYS[1])",
    "redis.call('SET',KEYS[1],0.1) return redis.call('GET',KEYS[1])",
    "return redis.call('NOPE')",
    "return redis.call('GET')",
    "return redis.call()",
    "return redis.call({})",
    "return redis.call('EVAL','return 1',0)",
    "this is no Lua",
    "local x = nil\n\nreturn x + 1",
];

fn random(dice: &mut Dice) -> Vec<u8> {
    let key = dice.choose(&KEYS);
    let key = key.as_bytes();
    let (word, other) = (dice.choose(&WORDS), dice.choose(&WORDS));
    let name = dice.choose(&[
        "GET", "get", "SET", "DEL", "PTTL", "TTL", "EXISTS", "EXPIRE", "PEXPIRE", "HGET", "HSET",
        "HDEL", "HKEYS", "HGETALL", "PING", "DBSIZE", "PERSIST", "NoSuch", "FLUSHALL", "AUTH",
    ]);
    let name = name.as_bytes();
    let any_key = dice.choose(&KEYS).as_bytes();
    let unit = dice.choose(&["EX", "PX", "ex", "NX", "XX", "KEEPTTL", "nonsense"]);
    let amount = dice.choose(&[
        "100000",
        "0",
        "-5",
        "x",
        "9223372036854775807",
        "50000",
        "007",
        " 1",
    ]);
    let (unit, amount) = (unit.as_bytes(), amount.as_bytes());
    match dice.below(20) {
        0..3 => encoded(&[b"SET", key, word]),
        3 => encoded(&[b"SET", key, word, unit, amount]),
        4 => encoded(&[b"SET", key, word, unit, amount, b"NX"]),
        5 => encoded(&[b"EXPIRE", key, amount]),
        6 => encoded(&[
            b"PEXPIRE",
            key,
            amount,
            dice.choose(&[b"NX", b"XX", b"GT", b"LT", b"??"]),
        ]),
        7 | 8 => encoded(&[b"HSET", key, word, other]),
        9 => encoded(&[b"HSET", key, word, other, b"f", word, b"f", other]),
        10 => encoded(&[b"GET", key]),
        11 => encoded(&[b"HGETALL", key]),
        12 => encoded(&[b"PTTL", key]),
        13 => encoded(&[name]),
        14 => encoded(&[name, key]),
        15 => encoded(&[name, key, any_key]),
        16 => encoded(&[name, key, word, other]),
        _ => {
            let script = dice.choose(&SCRIPTS);
            let keys = dice.choose(&["1", "1", "1", "1", "1", "0", "2", "3", "-1", "x"]);
            encoded(&[b"EVAL", script.as_bytes(), keys.as_bytes(), key, word])
        }
    }
}

/// What the edge sends, with its own scripts. Times are either over or far away.
fn random_of_edge(dice: &mut Dice) -> Vec<u8> {
    let copies = ["copy{1}", "copy{2}"];
    let (key, variant) = (dice.choose(&copies), dice.choose(&["1", "", "50"]));
    let token = dice.choose(&["token", "of another"]);
    let refresh = dice.choose(&[(0, 0), (900_000, 900_000), (0, 900_000)]);
    let after_ms = dice.choose(&[0, 0, 1_000_000, u64::MAX]);
    let body = dice.choose(&["{\"a\":1}", "", "[]"]);
    let family = dice.choose(&[None, Some("family{1}")]);
    of_edge(match dice.below(11) {
        0..3 => scripts::read_copy((key, family), variant, token, refresh, after_ms),
        3..5 => scripts::fill_copy(key, variant, token, body.as_bytes(), 600_000),
        5 => scripts::block(&copies.map(str::to_owned), token, 700_000),
        6 | 7 => scripts::release(&copies.map(str::to_owned), token),
        8 => scripts::touch("session:1", 1000, 1_700_000_000_000),
        9 => {
            let since_ms = dice.choose(&["0", "1", "9999999999999", "no number"]);
            return encoded(&[b"SET", b"family{1}", since_ms.as_bytes()]);
        }
        _ => {
            let session = dice.choose(&[
                r#"{"lastAccessed":{"a":[1]},"b":2}"#,
                "{}",
                r#"{"a":"\"lastAccessed\":1","lastAccessed":"x"}"#,
                "[1]",
                "no JSON",
                r#"{"a":1}"#,
            ]);
            return encoded(&[b"SET", b"session:1", session.as_bytes()]);
        }
    })
}

/// Tells several differences at once; after each, both are empty again.
fn play(pair: &mut Pair, dice: &mut Dice, commands: u32) -> Result<()> {
    const TOLD_MAX: usize = 12;
    let mut differences = Vec::new();
    for _ in 0..commands {
        let request = if dice.below(3) == 0 {
            random_of_edge(dice)
        } else {
            random(dice)
        };
        if let Err(difference) = pair.compare(&request) {
            differences.push(difference.to_string());
            pair.ask_real(&encoded(&[b"FLUSHALL"]))?;
            pair.ask_simulated(&encoded(&[b"FLUSHALL"]), 0);
        }
        if differences.len() >= TOLD_MAX {
            break;
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

#[tokio::test]
async fn valkey_answers_as_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut dice = Dice::seeded(8);
    let mut pair = Pair::connect(&stores)?;
    for hello in [&[b"HELLO".as_slice(), b"3"][..], &[b"HELLO", b"2"]] {
        play(&mut pair, &mut dice, 3000)?;
        for words in [
            &[b"HELLO".as_slice(), b"4"][..],
            &[b"HELLO", b"x"],
            &[b"HELLO", b"3", b"FOO"],
            &[b"HELLO", b"3", b"AUTH", b"nobody", b"x"],
            &[b"AUTH", b"nobody", b"x"],
            &[b"AUTH", b"a", b"b", b"c"],
        ] {
            pair.compare_words(words)?;
        }
        let real = pair.ask_real(&encoded(hello))?;
        let simulated = pair.ask_simulated(&encoded(hello), 0);
        let without_id = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let rest = text
                .split_once("version\r\n")
                .map(|(_, rest)| rest.to_owned());
            let rest = rest.unwrap_or_default();
            let (_, rest) = rest.split_once("$5\r\nproto").unwrap_or_default();
            let (proto, rest) = rest.split_once("id\r\n:").unwrap_or_default();
            let (_, rest) = rest.split_once("\r\n").unwrap_or_default();
            (
                text.split("\r\n").next().unwrap_or_default().to_owned(),
                proto.to_owned(),
                rest.to_owned(),
            )
        };
        assert_eq!(without_id(&real), without_id(&simulated));
    }
    play(&mut pair, &mut dice, 3000)?;
    println!(
        "{} replies compared, clocks {} ms apart at most",
        pair.compared, pair.slack_ms
    );
    Ok(())
}

#[tokio::test]
async fn valkey_forgets_what_has_expired_as_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut pair = Pair::connect(&stores)?;
    pair.compare_words(&[b"SET", b"short", b"x", b"PX", b"5"])?;
    pair.compare_words(&[b"HSET", b"hash", b"f", b"x"])?;
    pair.compare_words(&[b"PEXPIRE", b"hash", b"5"])?;
    pair.compare_words(&[b"SET", b"long", b"x", b"EX", b"1000"])?;
    std::thread::sleep(Duration::from_millis(30));
    for name in [
        b"GET".as_slice(),
        b"PTTL",
        b"TTL",
        b"EXISTS",
        b"DEL",
        b"HKEYS",
    ] {
        for key in [b"short".as_slice(), b"hash", b"long"] {
            pair.compare_words(&[name, key])?;
        }
    }
    pair.compare_words(&[b"DBSIZE"])?;
    pair.compare_words(&[b"SET", b"short", b"y", b"KEEPTTL"])?;
    pair.compare_words(&[b"PTTL", b"short"])
}

#[tokio::test]
async fn valkey_fails_as_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut dice = Dice::seeded(9);
    let mut pair = Pair::connect(&stores)?;
    play(&mut pair, &mut dice, 300)?;
    let modes = [
        (
            Failure::OutOfMemory,
            [b"CONFIG".as_slice(), b"SET", b"maxmemory", b"1"],
            [b"CONFIG".as_slice(), b"SET", b"maxmemory", b"0"],
        ),
        (
            Failure::ReadOnly,
            [b"CONFIG", b"SET", b"repl-timeout", b"100000"],
            [b"CONFIG", b"SET", b"repl-timeout", b"60"],
        ),
    ];
    for (failure, begin, end) in modes {
        pair.ask_real(&encoded(&begin))?;
        if failure == Failure::ReadOnly {
            pair.ask_real(&encoded(&[b"REPLICAOF", b"127.0.0.1", b"1"]))?;
        }
        pair.server.fail(Some(failure));
        play(&mut pair, &mut dice, 1500)?;
        pair.ask_real(&encoded(&end))?;
        pair.ask_real(&encoded(&[b"REPLICAOF", b"NO", b"ONE"]))?;
        pair.server.fail(None);
        play(&mut pair, &mut dice, 300)?;
    }
    Ok(())
}

/// What the server says last to bytes that are no request, before it closes.
fn last_words(stores: &Stores, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut real = TcpStream::connect(("127.0.0.1", stores.valkey.port))?;
    real.set_read_timeout(Some(Duration::from_secs(10)))?;
    real.write_all(bytes)?;
    let mut answer = Vec::new();
    real.read_to_end(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn valkey_ends_a_connection_as_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut pair = Pair::connect(&stores)?;
    // It answers nothing to these.
    pair.compare(b"*0\r\n*-1\r\n*-7\r\n*1\r\n$4\r\nPING\r\n")?;
    for bytes in [
        b"*x\r\n".as_slice(),
        b"*1\r\n:1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$999999999999\r\n",
        b"*2147483648\r\n",
        b"*01\r\n",
        b"*1\r\n$4\r\nPING\r\n*1\r\nX\r\n",
        b"*1\r\n\r\n",
    ] {
        let real = last_words(&stores, bytes)?;
        pair.session = Session::new();
        let simulated = pair.ask_simulated(bytes, 0);
        ensure!(
            real == simulated && pair.session.is_closed(),
            "to {:.40}\n the real one: {}\n the simulated: {}",
            bytes.escape_ascii().to_string(),
            real.escape_ascii(),
            simulated.escape_ascii()
        );
    }
    Ok(())
}
