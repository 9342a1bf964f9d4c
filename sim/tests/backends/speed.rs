//! How much the simulated stores can bear. Run it alone and optimised:
//! `cargo test -p sim --profile bench --test backends -- --ignored --nocapture`.

use std::fs;
use std::rc::Rc;

use edge::tiers::{postgres as sql, valkey as scripts};
use edge::wire::Machine;
use edge::wire::pg::{self, SslMode, Statement};
use edge::wire::resp::{self, Command};
use sim::backends::{postgres, valkey};

const NOW_MS: u64 = 1_700_000_000_123;
const ROUNDS: u64 = 20_000;

/// The time that this thread has had a core, as others may want it too.
fn core_ns() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|ns| ns.parse().ok());
    first.unwrap_or(f64::NAN)
}

fn measured(what: &str, mut once: impl FnMut(u64)) {
    (0..ROUNDS / 10).for_each(&mut once);
    let began = core_ns();
    (0..ROUNDS).for_each(&mut once);
    let ns = (core_ns() - began) / ROUNDS as f64;
    let (per_s, us) = (1e9 / ns, ns / 1e3);
    println!("{what}: {per_s:.0}/s, {us:.2} µs each, on one core");
}

/// What the edge writes on a new connection for these commands.
fn flight(commands: Vec<Command>) -> Vec<u8> {
    let mut connection = resp::Connection::new(resp::Login {
        user: None,
        password: None,
    });
    connection.submit(commands);
    connection.take_output().to_vec()
}

fn query(sql: &'static str, parameters: &[Option<&str>]) -> Vec<u8> {
    let login = pg::Login {
        user: "u".to_owned(),
        password: None,
        database: "d".to_owned(),
        ssl: SslMode::Disable,
    };
    let scram = pg::Scram {
        nonce: [0; 16],
        nfkc: str::to_owned,
        remembered: Rc::default(),
    };
    let mut connection = pg::Connection::new(login, scram);
    let parameters = parameters
        .iter()
        .map(|parameter| parameter.map(str::to_owned))
        .collect();
    let statement = Statement { sql, parameters };
    assert_eq!(connection.submit(&statement), Ok(()));
    connection.take_output().to_vec()
}

#[test]
#[ignore = "a measurement"]
fn flights_of_valkey() {
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(500));
    let keys: Vec<String> = (0..1000).map(|number| format!("copy:{number}")).collect();
    let mut server = valkey::Server::new();
    let mut run = |bytes: &[u8], now_ms| {
        let mut session = valkey::Session::new();
        session.handle_input(&mut server, bytes, now_ms);
        assert!(session.take_output().len() > 50);
    };
    let place = |round: u64| usize::try_from(round % 1000).unwrap();
    let of_keys = |make: &dyn Fn(&str) -> Command| -> Vec<Vec<u8>> {
        keys.iter().map(|key| flight(vec![make(key)])).collect()
    };
    let set = of_keys(&|key| {
        Command::new("SET")
            .arg(format!("s{key}"))
            .arg(&body)
            .arg("EX")
            .number(600)
    });
    let get = of_keys(&|key| Command::new("GET").arg(format!("s{key}")));
    let read = of_keys(&|key| scripts::read_copy((key, None), "50", "token", (60_000, 1_000), 0));
    let fill = of_keys(&|key| scripts::fill_copy(key, "50", "token", body.as_bytes(), 600_000));
    let block = of_keys(&|key| scripts::block(&[key.to_owned()], "writer", 15_000));
    let release = of_keys(&|key| scripts::release(&[key.to_owned()], "writer"));
    measured("HELLO and SET", |round| run(&set[place(round)], NOW_MS));
    measured("HELLO and GET", |round| run(&get[place(round)], NOW_MS));
    measured(
        "HELLO and the read of a missing copy, then its fill",
        |round| {
            run(&read[place(round)], NOW_MS + round * 1000);
            run(&fill[place(round)], NOW_MS + round * 1000);
        },
    );
    let later_ms = NOW_MS + ROUNDS * 1000;
    measured("HELLO and the read of a copy", |round| {
        run(&read[place(round)], later_ms)
    });
    measured("HELLO and a block, HELLO and its release", |round| {
        run(&block[place(round)], later_ms);
        run(&release[place(round)], later_ms);
    });
}

#[test]
#[ignore = "a measurement"]
fn flights_of_postgresql() {
    let mut server = postgres::Server::new();
    for number in 0..400 {
        let product = postgres::Product {
            id: format!("p{number}"),
            name: format!("Product {number}"),
            price_hundredths: number * 10,
            category: Some(format!("category {}", number % 20)),
            ..postgres::Product::default()
        };
        server.put_product(product, NOW_MS);
    }
    server.put_user("u", NOW_MS);
    let mut run = |bytes: &[u8]| {
        let mut session = postgres::Session::new();
        session.handle_input(&mut server, bytes, NOW_MS);
        assert!(session.take_output().len() > 400);
    };
    let profile = query(sql::PROFILE, &[Some("u")]);
    measured("start-up and PROFILE", |_| run(&profile));
    let of_category = query(
        sql::PRODUCTS,
        &[Some("category 3"), None, None, Some("35.5"), Some("1000")],
    );
    measured("start-up and PRODUCTS, 20 of 400", |_| run(&of_category));
    let save = query(
        sql::SAVE_PROFILE,
        &[
            Some("u"),
            Some(r#"{"size":"M","x":[1,2]}"#),
            None,
            Some("u@x"),
        ],
    );
    measured("start-up and SAVE_PROFILE", |_| run(&save));
    measured("start-up and PLACE_ORDER", |round| {
        let id = format!("order_{round}");
        let items = r#"[{"product_id":"p1","quantity":2,"price":12.50}]"#;
        run(&query(
            sql::PLACE_ORDER,
            &[
                Some(&id),
                Some("u"),
                Some(items),
                Some("25"),
                Some("pending"),
            ],
        ));
    });
    let orders = query(sql::ORDERS, &[Some("u"), Some("50")]);
    measured("start-up and ORDERS, 50 rows", |_| run(&orders));
}
