//! A calibration of the native edge in front of real stores: what comes out is a
//! model of them.

use std::time::Duration;

use anyhow::{Context, Result};
use sim::calibrate::{self, Options};
use sim::dev;
use sim::model::{Model, Times};
use sim::stores::{Data, Stores};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(120);

fn p50(times: &Times) -> u64 {
    match times {
        Times::Always(us) => *us,
        Times::Quantiles(quantiles) => quantiles.get(quantiles.len() / 2).copied().unwrap_or(0),
    }
}

async fn calibrated(stores: &Stores) -> Result<Model> {
    let urls = (
        stores.database_url().to_owned(),
        stores.valkey_url().to_owned(),
    );
    let (database_url, valkey_url) = urls.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    spawn_local(async move {
        // A busy machine is no fault.
        let lookup = |name: &str| match name {
            "DATABASE_URL" => Some(database_url.clone()),
            "VALKEY_URL" => Some(valkey_url.clone()),
            "POSTGRES_DEADLINE_MS" | "VALKEY_DEADLINE_MS" => Some("5000".to_owned()),
            _ => None,
        };
        edge::host::native::serve(listener, &lookup).await
    });
    let options = Options {
        url,
        database_url: Some(urls.0),
        valkey_url: Some(urls.1),
        output: None,
        samples: 40,
        rate: 40,
    };
    let file = tempfile::NamedTempFile::new()?;
    calibrate::calibrate(&options).await?.save(file.path())?;
    Model::open(file.path())
}

#[tokio::test]
async fn a_calibration_makes_a_model_of_real_stores() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    dev::furnish(&stores).await?;
    let local = LocalSet::new();
    let work = local.run_until(calibrated(&stores));
    let model = timeout(PATIENCE, work)
        .await
        .context("it takes too long")??;
    assert_eq!((model.places.len(), model.isolates.per_place), (1, 1));
    // TCP, two flights of SCRAM, and the one with the statement.
    assert_eq!(model.postgres.connect_round_trips, 1);
    assert_eq!(model.postgres.log_in_round_trips, 2);
    assert_eq!(model.valkey.connect_round_trips, 1);
    assert_eq!(model.valkey.log_in_round_trips, 0);
    // Those that it was started with, less three; and no more at once than there are cores.
    assert_eq!(model.postgres.connections_max, 197);
    let cores = std::thread::available_parallelism()?.get() as u32;
    assert!((1..=cores + 1).contains(&model.postgres.workers));
    assert_eq!(
        (model.valkey.workers, model.valkey.connections_max),
        (1, 10_000)
    );
    // A new process for each connection is more than an answer from memory.
    assert!(p50(&model.postgres.log_in_us) > p50(&model.valkey.service_us));
    assert!(p50(&model.edge.floor_us) > 0);
    let busy = model.edge.busy;
    assert!(busy.request_us > 0 && busy.valkey_us > 0, "{busy:?}");
    Ok(())
}
