//! PostgreSQL: rows compared field by field apart from timestamps, and errors
//! by their SQLSTATE.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge::tiers::postgres as sql;
use edge::wire::pg::{Connection, Login, Rows, Scram, ServerError, SslMode, Statement};
use edge::wire::{Machine, Wants};
use sim::backends::postgres::{Product, Server, Session};
use sim::dice::Dice;
use sim::stores::{Data, Stores};
use sim::{database, schema};

const TIMESTAMP: u32 = 1114;
/// 2024-02-29, a second before midnight.
const BEGIN_MS: u64 = 1_709_251_199_000;

/// Both servers, with one connection each.
pub(super) struct Pair {
    real: TcpStream,
    of_real: Connection,
    server: Server,
    session: Session,
    of_simulated: Connection,
    now_ms: u64,
    rows: u64,
    errors: u64,
}

type Answer = Result<Rows, ServerError>;

fn login(password: Option<&str>) -> Login {
    Login {
        user: "shepherd".to_owned(),
        password: password.map(str::to_owned),
        database: "style_shepherd".to_owned(),
        ssl: SslMode::Disable,
    }
}

fn scram() -> Scram {
    Scram {
        nonce: [7; 16],
        nfkc: str::to_owned,
        remembered: Rc::default(),
    }
}

impl Pair {
    pub(super) fn connect(stores: &Stores) -> Result<Self> {
        let real = TcpStream::connect(("127.0.0.1", stores.postgres.port))?;
        real.set_nodelay(true)?;
        real.set_read_timeout(Some(Duration::from_secs(10)))?;
        let url = stores.database_url();
        let password = url.split([':', '@']).nth(2).context("a password")?;
        Ok(Self {
            real,
            of_real: Connection::new(login(Some(password)), scram()),
            server: Server::new(),
            session: Session::new(),
            of_simulated: Connection::new(login(None), scram()),
            now_ms: BEGIN_MS,
            rows: 0,
            errors: 0,
        })
    }

    fn ask_real(&mut self, statement: &Statement) -> Result<Answer> {
        self.of_real.submit(statement)?;
        let mut part = [0; 4096];
        loop {
            self.real.write_all(&self.of_real.take_output())?;
            if self.of_real.wants() == Wants::Nothing {
                return self.of_real.take_answer().context("no answer");
            }
            let bytes = self.real.read(&mut part)?;
            ensure!(bytes > 0, "closed");
            self.of_real
                .handle_input(part.get(..bytes).unwrap_or_default())?;
        }
    }

    fn ask_simulated(&mut self, statement: &Statement) -> Result<Answer> {
        self.of_simulated.submit(statement)?;
        while self.of_simulated.wants() != Wants::Nothing {
            let sent = self.of_simulated.take_output();
            self.session
                .handle_input(&mut self.server, &sent, self.now_ms);
            let answer = self.session.take_output();
            ensure!(!answer.is_empty(), "the simulated one says nothing");
            self.of_simulated.handle_input(&answer)?;
        }
        self.of_simulated.take_answer().context("no answer")
    }

    pub(super) fn compare(&mut self, statement: &Statement) -> Result<()> {
        self.now_ms += 1;
        let real = shown(&self.ask_real(statement)?)?;
        let simulated = shown(&self.ask_simulated(statement)?)?;
        self.rows += u64::try_from(real.len())?.saturating_sub(1);
        self.errors += u64::from(
            real.first()
                .is_some_and(|line| line.starts_with("SQLSTATE")),
        );
        ensure!(
            real == simulated,
            "to {:.60} {:?}\n the real one: {real:?}\n the simulated: {simulated:?}",
            statement.sql,
            statement.parameters
        );
        Ok(())
    }
}

/// The columns and the count, then the rows; or the code.
fn shown(answer: &Answer) -> Result<Vec<String>> {
    let rows = match answer {
        Ok(rows) => rows,
        Err(error) => return Ok(vec![format!("SQLSTATE {}", error.sqlstate)]),
    };
    // It also checks that every field is what its type says.
    rows.json_array()?;
    let mut lines = vec![format!("{} {:?}", rows.affected, rows.columns)];
    for row in 0..rows.len() {
        let mut line = String::new();
        let mut times: Vec<&str> = Vec::new();
        for (place, column) in rows.columns.iter().enumerate() {
            match rows.text(row, place) {
                Some(text) if column.type_oid == TIMESTAMP => {
                    ensure!(text.get(4..5) == Some("-") && text.get(10..11) == Some(" "));
                    times.push(text.get(..19).context("to the second")?);
                    line.push_str("a time; ");
                }
                field => line.push_str(&format!("{field:?}; ")),
            }
        }
        ensure!(times.is_sorted(), "updated before it was created");
        lines.push(line);
    }
    Ok(lines)
}

const USERS: [&str; 5] = ["u1", "u2", "ü 3", "new", "nobody"];
const JSONS: [&str; 24] = [
    "{}",
    r#"{"b":1,"a":[1,2],"aa":null,"b":{"x":true,"x":false}}"#,
    r#"{"b" : 1.0 , "ä":"\u00e4\ud83d\ude00\/\b\f\n\r\t\"\\", "":" \u001f"}"#,
    r#"[1, 1.0, 1.50, 1e3, 1E-3, -0, -0.0, 0.10e1, 12345678901234567890.12345]"#,
    r#"[1.0, 1, 1.5, 1000, 0.001, 0, 0, 1, 12345678901234567890.12345]"#,
    r#"[{"sku":"s","n":2},[],{}]"#,
    r#"[{"n":2,"sku":"s"},[],{}]"#,
    "[{\"n\":2.0 ,\n\"sku\":\"s\"},[],{}]",
    " null ",
    "true",
    "\"x\"",
    "[1e400000]",
    "[1e-20000]",
    r#"["\u0000"]"#,
    r#"["\ud800"]"#,
    r#"["\ud800\u0041"]"#,
    r#"["\udc00"]"#,
    "[01]",
    "[1,]",
    "{\"a\"}",
    "{\"a\":1,}",
    "[1 2]",
    "truex",
    "",
];
const NUMBERS: [&str; 28] = [
    "0",
    "-0",
    "-0.001",
    "12.5",
    "12.50",
    "12.505",
    "12.504999",
    "0.005",
    "-0.005",
    "99999999.99",
    "99999999.994",
    "99999999.995",
    "1e8",
    "1e7",
    "1.25e1",
    " 12.5 ",
    ".5",
    "5.",
    "+7",
    "1e-30",
    "NaN",
    "Infinity",
    "-inf",
    "1e200000",
    "0e200000",
    "1e-20000",
    "1e",
    "twelve",
];

fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

fn rarely_null(dice: &mut Dice, text: &str) -> Option<String> {
    (dice.below(12) > 0).then(|| text.to_owned())
}

fn name(dice: &mut Dice, kind: &str) -> Option<String> {
    match dice.below(30) {
        0 => None,
        1 => some("x".repeat(256)),
        2 => some(format!("{kind}{}", " ".repeat(300))),
        3 => some("ß".repeat(255)),
        _ => some(format!("{kind}{}", dice.below(8))),
    }
}

fn user(dice: &mut Dice) -> Option<String> {
    match dice.below(30) {
        0 => None,
        1 => some("x".repeat(256)),
        2 => some(format!("spaces{}", " ".repeat(250))),
        _ => some(dice.choose(&USERS)),
    }
}

fn limit(dice: &mut Dice) -> Option<String> {
    let limits = [
        "1000",
        "1000",
        "3",
        "0",
        "-1",
        "x",
        "2147483648",
        " 7 ",
        "+2",
    ];
    let limit = dice.choose(&limits);
    rarely_null(dice, limit)
}

fn json(dice: &mut Dice) -> Option<String> {
    let json = dice.choose(&JSONS);
    rarely_null(dice, json)
}

fn number(dice: &mut Dice) -> Option<String> {
    let number = dice.choose(&NUMBERS);
    rarely_null(dice, number)
}

type Asked = (&'static str, Vec<Option<String>>);

fn products(dice: &mut Dice) -> Asked {
    let category = dice.choose(&[None, None, Some("shoes"), Some("none")]);
    let brand = dice.choose(&[None, None, Some("B"), Some("none")]);
    let bound = |dice: &mut Dice| (dice.below(3) == 0).then(|| number(dice)).flatten();
    let parameters = vec![
        category.map(str::to_owned),
        brand.map(str::to_owned),
        bound(dice),
        bound(dice),
        limit(dice),
    ];
    (sql::PRODUCTS, parameters)
}

fn save_profile(dice: &mut Dice) -> Asked {
    let email = dice.choose(&["taken@x", "mine@x", "a@x", "b@x", "c@x"]);
    let email = rarely_null(dice, email);
    let parameters = vec![user(dice), json(dice), json(dice), email];
    (sql::SAVE_PROFILE, parameters)
}

fn place_order(dice: &mut Dice) -> Asked {
    let status = match dice.below(8) {
        0 => some("s".repeat(51)),
        1 => some(format!("paid{}", " ".repeat(60))),
        _ => rarely_null(dice, "pending"),
    };
    let parameters = vec![
        name(dice, "order"),
        user(dice),
        json(dice),
        number(dice),
        status,
    ];
    (sql::PLACE_ORDER, parameters)
}

/// The same again and again: what an `Idempotency-Key` brings.
fn place_order_again(dice: &mut Dice) -> Asked {
    let items = dice.choose(&[JSONS[3], JSONS[4], JSONS[5], JSONS[6], JSONS[7]]);
    let total = dice.choose(&["12.5", "12.50", "12.504", "1.25e1"]);
    let id = format!("again{}", dice.below(3));
    let parameters = vec![some(id), some("u1"), some(items), some(total), some("new")];
    (sql::PLACE_ORDER, parameters)
}

fn returns(dice: &mut Dice) -> Asked {
    let user = (dice.below(2) == 0).then(|| user(dice)).flatten();
    let product = (dice.below(2) == 0).then(|| name(dice, "p")).flatten();
    (sql::RETURNS, vec![user, product, limit(dice)])
}

fn place_return(dice: &mut Dice) -> Asked {
    let order = if dice.below(3) == 0 {
        some(format!("again{}", dice.below(3)))
    } else {
        name(dice, "order")
    };
    let reason = dice.choose(&["too small", "too large", ""]);
    let reason = rarely_null(dice, reason);
    let parameters = vec![
        name(dice, "return"),
        order,
        user(dice),
        name(dice, "p"),
        reason,
    ];
    (sql::PLACE_RETURN, parameters)
}

fn random(dice: &mut Dice) -> Statement {
    let (sql, parameters) = match dice.below(16) {
        0 => products(dice),
        1 => (sql::PROFILE, vec![user(dice)]),
        2 | 3 => save_profile(dice),
        4 | 5 => (sql::ORDERS, vec![user(dice), limit(dice)]),
        6..9 => place_order(dice),
        9 => place_order_again(dice),
        10 => returns(dice),
        11..13 => place_return(dice),
        13 => (sql::CHANGES, vec![]),
        14 => {
            let ids: Vec<String> = (0..dice.below(9))
                .map(|_| dice.below(2000).to_string())
                .collect();
            let ids = format!("{{{}}}", ids.join(","));
            (sql::CHANGES_TOLD, vec![some(ids)])
        }
        _ => (dice.choose(&[sql::PROBE, "SELEKT 1"]), vec![]),
    };
    Statement { sql, parameters }
}

fn product(dice: &mut Dice, number: u32) -> Product {
    let text = |dice: &mut Dice, text: &str| rarely_null(dice, text);
    Product {
        id: format!("{}{number}", dice.choose(&["p", "P", "é"])),
        name: format!("Product '{number}'"),
        description: text(dice, "a \"thing\""),
        price_hundredths: i64::from(dice.below(3000)),
        category: text(dice, "shoes"),
        brand: text(dice, "B"),
        style: text(dice, "plain"),
        color: None,
        sizes: (dice.below(4) > 0).then(|| vec!["S".to_owned(), "M \"\t".to_owned()]),
        stock: (dice.below(4) > 0).then_some(7),
        image_url: None,
        rating_hundredths: (dice.below(6) > 0).then(|| 450 + i64::from(dice.below(3))),
        reviews_count: (dice.below(6) > 0).then(|| dice.choose(&[0, 1, 2])),
        created_at_ms: 0,
    }
}

/// The same rows in both before the first statement.
pub(super) async fn furnish(stores: &Stores, pair: &mut Pair, dice: &mut Dice) -> Result<()> {
    const PUT: &str = "INSERT INTO catalog VALUES ($1, $2, $3, $4::float8::numeric / 100, $5, $6, \
        $7, $8, $9::text::jsonb, $10, $11, $12::float8::numeric / 100, $13)";
    let database = database::connect(stores.database_url()).await?;
    schema::apply(&database).await?;
    for number in 0..60 {
        let product = product(dice, number);
        let sizes = product
            .sizes
            .as_ref()
            .map(serde_json::to_string)
            .transpose()?;
        let rating = product.rating_hundredths.map(|rating| rating as f64);
        database
            .client
            .execute(
                PUT,
                &[
                    &product.id,
                    &product.name,
                    &product.description,
                    &(product.price_hundredths as f64),
                    &product.category,
                    &product.brand,
                    &product.style,
                    &product.color,
                    &sizes,
                    &product.stock,
                    &product.image_url,
                    &rating,
                    &product.reviews_count,
                ],
            )
            .await?;
        pair.server.put_product(product, BEGIN_MS);
    }
    for user in ["u1", "u2", "ü 3"] {
        let email = format!("{user}@users.invalid");
        let put = "INSERT INTO user_profiles (user_id, email) VALUES ($1, $2)";
        database.client.execute(put, &[&user, &email]).await?;
        pair.server.put_user(user, BEGIN_MS);
    }
    schema::note_changes(&database).await?;
    pair.server.note_changes();
    Ok(())
}

#[tokio::test]
async fn postgresql_answers_as_the_real_one() -> Result<()> {
    const TOLD_MAX: usize = 12;
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut dice = Dice::seeded(15);
    let mut pair = Pair::connect(&stores)?;
    furnish(&stores, &mut pair, &mut dice).await?;
    let mut differences = Vec::new();
    for _ in 0..6000 {
        let statement = random(&mut dice);
        if let Err(difference) = pair.compare(&statement) {
            differences.push(difference.to_string());
        }
        if differences.len() >= TOLD_MAX {
            break;
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    println!("{} rows and {} errors compared", pair.rows, pair.errors);
    Ok(())
}
