//! Real stores: they start, hold the sample, and are gone afterwards, however
//! their owner ended.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sim::stores::{Data, Stores};
use sim::{database, dev, schema, valkey};

const GONE_WITHIN: Duration = Duration::from_secs(15);

fn runs(pid: u32) -> bool {
    // A zombie still has a directory, but nothing that it runs.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

fn gone(pid: u32) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    while runs(pid) && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    !runs(pid)
}

async fn count(database: &database::Database, table: &str) -> Result<i64> {
    Ok(database
        .client
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await?
        .try_get(0)?)
}

#[tokio::test]
async fn stores_start_hold_the_sample_and_are_gone_after_stop() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let pids = [stores.postgres.process.pid(), stores.valkey.process.pid()];
    let database = database::connect(stores.database_url()).await?;
    let missing = schema::check(&database)
        .await
        .map_or_else(|error| error.to_string(), |()| String::new());
    ensure!(
        missing.contains("no table catalog, user_profiles, orders, returns"),
        "{missing}"
    );
    // Twice, because the second run of `make run` does it again.
    dev::furnish(&stores).await?;
    dev::furnish(&stores).await?;
    schema::check(&database).await?;
    for (table, rows) in [
        ("catalog", 400),
        ("user_profiles", 50),
        ("orders", 200),
        ("returns", 40),
    ] {
        assert_eq!(count(&database, table).await?, rows, "{table}");
    }
    valkey::ping(stores.valkey_url()).await?;
    stores.stop();
    assert!(pids.into_iter().all(gone), "{pids:?}");
    Ok(())
}

#[tokio::test]
async fn wrong_urls_each_have_their_sentence() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let url = stores.database_url();
    let password = url
        .split([':', '@'])
        .nth(2)
        .context("the URL has a password")?;
    let cases = [
        (
            url.replace(password, "wrong"),
            "password of user shepherd is wrong",
        ),
        (
            url.replace("/style_shepherd", "/nowhere"),
            "has no database nowhere",
        ),
        (
            url.replace("127.0.0.1", "no-such-host.invalid"),
            "no-such-host.invalid is unknown",
        ),
        (url.replace("sslmode=disable", "sslmode=require"), "TLS"),
        (
            "postgres://u:p@127.0.0.1:1/d?sslmode=disable".to_owned(),
            "refuses connections",
        ),
    ];
    for (url, expected) in cases {
        let said = database::connect(&url)
            .await
            .map_or_else(|error| format!("{error:#}"), |_| String::new());
        assert!(
            said.contains("DATABASE_URL") && said.contains(expected),
            "{said}"
        );
        assert!(!said.contains(password), "{said}");
    }
    let url = stores.valkey_url();
    let cases = [
        (url.replace(password, "wrong"), "password is wrong"),
        (
            url.replace(&format!(":{password}@"), ""),
            "wants a password",
        ),
        (
            url.replace("127.0.0.1", "no-such-host.invalid"),
            "no-such-host.invalid is unknown",
        ),
        ("valkey://127.0.0.1:1".to_owned(), "refuses connections"),
        (
            format!("valkey://127.0.0.1:{}", stores.postgres.port),
            "not a Valkey",
        ),
    ];
    for (url, expected) in cases {
        let said = valkey::ping(&url)
            .await
            .map_or_else(|error| format!("{error:#}"), |()| String::new());
        assert!(
            said.contains("VALKEY_URL") && said.contains(expected),
            "{expected}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_update_trigger_works_and_an_existing_database_is_left_alone() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let database = database::connect(stores.database_url()).await?;
    schema::apply(&database).await?;
    let inventory = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT tablename || ' ' || indexname AS line FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT proname || ' ' || xmin::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace) AS all_of_it";
    // As another program might have named them.
    database
        .client
        .batch_execute(
            "ALTER INDEX idx_catalog_brand RENAME TO catalog_by_brand;
             ALTER TRIGGER update_orders_updated_at ON orders RENAME TO touch;",
        )
        .await?;
    let before: String = database
        .client
        .query_one(inventory, &[])
        .await?
        .try_get(0)?;
    schema::apply(&database).await?;
    let after: String = database
        .client
        .query_one(inventory, &[])
        .await?
        .try_get(0)?;
    assert_eq!(before, after);
    database
        .client
        .batch_execute(
            "INSERT INTO user_profiles (user_id, email, updated_at) VALUES ('u', 'u@x', '2000-01-01');
             UPDATE user_profiles SET first_name = 'U';",
        )
        .await?;
    let moved: bool = database
        .client
        .query_one("SELECT updated_at > '2020-01-01' FROM user_profiles", &[])
        .await?
        .try_get(0)?;
    assert!(moved);
    Ok(())
}

struct Run {
    process: Child,
    said: Value,
}

impl Run {
    fn start(data: &Path) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["stores", "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        Ok(Self {
            process,
            said: serde_json::from_str(&line)?,
        })
    }

    fn pids(&self) -> Result<[u32; 2]> {
        let pid = |name: &str| {
            let pid = self
                .said
                .get(name)
                .and_then(Value::as_u64)
                .context("a pid is printed")?;
            anyhow::Ok(u32::try_from(pid)?)
        };
        Ok([pid("postgres_pid")?, pid("valkey_pid")?])
    }
}

#[test]
fn stores_end_with_their_owners_stdin_and_even_when_it_is_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // PostgreSQL's account must be able to enter when the tests run as root.
    std::fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let data = directory.path().join("data");

    let mut killed = Run::start(&data)?;
    let pids = killed.pids()?;
    assert!(pids.into_iter().all(runs));
    killed.process.kill()?;
    killed.process.wait()?;

    // At once, while the old ones are still on their way out.
    let mut second = Run::start(&data)?;
    assert!(pids.into_iter().all(gone), "{pids:?}");
    let pids = second.pids()?;
    drop(second.process.stdin.take());
    assert!(second.process.wait()?.success());
    assert!(!pids.into_iter().any(runs), "{pids:?}");

    // A pid file that names somebody who is not PostgreSQL: us.
    let release = std::fs::read_dir(&data)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("postgres-"))
        .context("there is a cluster")?;
    std::fs::write(
        data.join(release).join("postmaster.pid"),
        format!("{}\n", std::process::id()),
    )?;
    let mut third = Run::start(&data)?;
    drop(third.process.stdin.take());
    assert!(third.process.wait()?.success());
    Ok(())
}
