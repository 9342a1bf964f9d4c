//! The recording proxy in front of the native edge: what was sent is what is
//! recorded, and what was answered is what is answered through it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sim::certificate;
use sim::load::Edge;
use sim::operation::{Effect, Operation};
use sim::record::proxy::{self, Recorder};
use sim::record::{Form, Hashing, Pseudonyms, Recording};
use sim::traffic::call::Call;
use sim::traffic::path::replace_ids;
use sim::traffic::synth::Shop;
use sim::traffic::{Request, Traffic, ndjson};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

const KEY: &str = "a key of the tests";
const ENOUGH: usize = 300;

fn traffic() -> Result<Traffic> {
    let shop = Shop {
        seed: 3,
        users: 20,
        days: 1,
        duration: Some(Duration::from_secs(120)),
        requests_per_s: 5.0,
        zipf: 0.9,
        places: vec!["FRA=1".parse().map_err(anyhow::Error::msg)?],
    };
    let mut traffic = shop.traffic()?;
    traffic.requests.truncate(ENOUGH);
    // Keys that a path has to encode.
    for key in ["a/b", "50%", "ü k", "session:s1", "conversation/u"] {
        for operation in [Operation::StoreGeneric, Operation::Generic] {
            let key = traffic.keys.number(key);
            traffic.push(Request::new(traffic.duration_ms(), operation, key));
        }
    }
    Ok(traffic)
}

/// Sends all through a proxy before an edge, and reads what was recorded.
async fn recorded(traffic: &Traffic, file: &Path) -> Result<(Traffic, u64, String)> {
    let behind = TcpListener::bind("127.0.0.1:0").await?;
    let to = format!("http://{}", behind.local_addr()?);
    // Without stores: it answers that they are not set up.
    tokio::task::spawn_local(async move { edge::host::native::serve(behind, &|_| None).await });
    let front = TcpListener::bind("127.0.0.1:0").await?;
    let through = Edge::at(&format!("http://{}", front.local_addr()?));
    let recording = Recording::new(&Hashing {
        key: Some(KEY.to_owned()),
        hash_all: false,
    })?;
    let recorder = Recorder::create(recording, file)?;
    let (end, ended) = oneshot::channel::<()>();
    let to_proxy = proxy::server(&to)?;
    let proxy = tokio::task::spawn_local(async move {
        let end = async {
            ended.await?;
            Ok(())
        };
        proxy::record(front, to_proxy, recorder, end).await
    });
    let directly = Edge::at(&to);
    for request in &traffic.requests {
        let call = Call::of(traffic, request, 0);
        let answer = through.send(&call).await?;
        let expected = directly.send(&call).await?;
        assert_eq!(answer.status, expected.status, "{}", call.target);
        assert_eq!(answer.body, expected.body, "{}", call.target);
    }
    through
        .send(&Call::get("/api/vultr/valkey/metrics"))
        .await?;
    through.send(&Call::get("/favicon.ico")).await?;
    end.send(()).ok().context("the proxy has ended by itself")?;
    let (written, account) = proxy.await??;
    Ok((ndjson::open(file)?, written, account.to_string()))
}

#[tokio::test]
async fn what_was_sent_is_what_is_recorded() -> Result<()> {
    let (sent, directory) = (traffic()?, tempfile::tempdir()?);
    let pseudonyms = Pseudonyms::keyed(KEY.as_bytes());
    for name in ["traffic.ndjson", "traffic.ndjson.zst"] {
        let file = directory.path().join(name);
        let (recorded, written, account) =
            LocalSet::new().run_until(recorded(&sent, &file)).await?;
        assert_eq!(written, sent.requests.len() as u64);
        assert_eq!(recorded.requests.len(), sent.requests.len());
        assert_eq!(recorded.oddities, sim::trace::Oddities::default());
        for (one, other) in sent.requests.iter().zip(&recorded.requests) {
            assert_eq!(one.operation, other.operation);
            let key = replace_ids(one.operation, sent.key(one), |id| pseudonyms.of(id));
            assert_eq!(recorded.key(other), key, "{:?}", one.operation);
            if one.operation.effect() == Effect::Write {
                let body = Call::of(&sent, one, 0).body.unwrap_or_default();
                assert_eq!(other.size_bytes as usize, body.len());
            } else {
                // What says that there are no stores is no value.
                assert_eq!(other.size_bytes, 0);
            }
        }
        assert_eq!(recorded.clients.len(), 1);
        assert!(account.contains("metrics (1)"), "{account}");
        assert!(account.contains("GET /favicon.ico"), "{account}");
    }
    Ok(())
}

/// A process that ends with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_the_edge_says_of_its_requests_is_what_was_sent() -> Result<()> {
    let (sent, directory) = (traffic()?, tempfile::tempdir()?);
    let log = directory.path().join("edge.log");
    let edge = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env_clear()
        .envs([("TRACE_SAMPLE", "1"), ("TRACE_KEY", KEY)])
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()?;
    let mut edge = Killed(edge);
    let mut line = String::new();
    let stdout = edge.0.stdout.take().context("it has a stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let url = line.trim().strip_prefix("Serving on ").context("no URL")?;
    let client = Edge::at(url);
    for request in &sent.requests {
        client.send(&Call::of(&sent, request, 0)).await?;
    }
    drop(edge);

    let mut recording = Recording::new(&Hashing::default())?;
    recording.read(&log, Some(Form::Log))?;
    let (recorded, _) = recording.finish()?;
    assert_eq!(recorded.requests.len(), sent.requests.len());
    let pseudonyms = Pseudonyms::keyed(KEY.as_bytes());
    for (one, other) in sent.requests.iter().zip(&recorded.requests) {
        assert_eq!(one.operation, other.operation);
        let key = replace_ids(one.operation, sent.key(one), |id| pseudonyms.of(id));
        assert_eq!(recorded.key(other), key, "{:?}", one.operation);
        assert_eq!(
            recorded.clients.name(other.client),
            pseudonyms.of("127.0.0.1")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_and_recorded_all_the_same() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("traffic.ndjson");
    let front = TcpListener::bind("127.0.0.1:0").await?;
    let through = Edge::at(&format!("http://{}", front.local_addr()?));
    let recorder = Recorder::create(Recording::new(&Hashing::default())?, &file)?;
    let end = async {
        let answer = through
            .send(&Call::get("/api/vultr/valkey/session/s"))
            .await?;
        assert_eq!(answer.status, 502);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(
            text.starts_with("http://127.0.0.1:9/ does not answer"),
            "{text}"
        );
        Ok(())
    };
    let nobody = proxy::server("http://127.0.0.1:9")?;
    let (written, _) = proxy::record(front, nobody, recorder, end).await?;
    assert_eq!(written, 1);
    Ok(())
}

/// TLS before a server that has none; what was said first on each connection.
async fn with_tls(
    listener: TcpListener,
    to: std::net::SocketAddr,
    made: &certificate::Certificate,
) -> Result<Rc<RefCell<Vec<String>>>> {
    let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let said = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&said);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, heard) = (acceptor.clone(), Rc::clone(&heard));
            tokio::task::spawn_local(async move {
                // Who does not trust us goes away.
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return anyhow::Ok(());
                };
                let mut first = vec![0; 16 * 1024];
                let count = client.read(&mut first).await?;
                first.truncate(count);
                let text = String::from_utf8_lossy(&first).into_owned();
                heard.borrow_mut().push(text);
                let mut server = TcpStream::connect(to).await?;
                server.write_all(&first).await?;
                copy_bidirectional(&mut client, &mut server).await?;
                Ok(())
            });
        }
    });
    Ok(said)
}

/// The command itself, before a server whose root a file names; where it listens.
fn proxy_to(url: &str, roots: &Path, output: &Path) -> Result<(Killed, String)> {
    let proxy = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args([
            "record",
            "--proxy",
            "--listen",
            "127.0.0.1:0",
            "--to",
            url,
            "-o",
        ])
        .arg(output)
        .env("SSL_CERT_FILE", roots)
        .env("TRACE_KEY", KEY)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut proxy = Killed(proxy);
    let stderr = proxy.0.stderr.take().context("it has a stderr")?;
    let mut line = String::new();
    BufReader::new(stderr).read_line(&mut line)?;
    let from = line
        .split(" from ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let from = from
        .with_context(|| format!("no address in {line:?}"))?
        .to_owned();
    Ok((proxy, from))
}

#[tokio::test]
async fn a_server_with_tls_is_recorded_when_its_certificate_is_good() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name);
    let made = certificate::make(vec!["localhost".to_owned(), "127.0.0.1".to_owned()], false)?;
    let other = certificate::make(vec!["localhost".to_owned()], false)?;
    std::fs::write(file("root.pem"), &made.authority)?;
    std::fs::write(file("other.pem"), &other.authority)?;
    let work = async {
        let behind = TcpListener::bind("127.0.0.1:0").await?;
        let to = behind.local_addr()?;
        tokio::task::spawn_local(async move { edge::host::native::serve(behind, &|_| None).await });
        let front = TcpListener::bind("127.0.0.1:0").await?;
        let port = front.local_addr()?.port();
        let said = with_tls(front, to, &made).await?;
        let directly = Edge::at(&format!("http://{to}"));
        let call = Call::get("/api/vultr/valkey/session/s1");
        let expected = directly.send(&call).await?;
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}");
            let output = file(&format!("{host}.ndjson"));
            let (mut proxy, from) = proxy_to(&url, &file("root.pem"), &output)?;
            let through = Edge::at(&from);
            for _ in 0..3 {
                let answer = through.send(&call).await?;
                assert_eq!(answer.status, expected.status, "{host}");
                assert_eq!(answer.body, expected.body, "{host}");
            }
            // By its own name, by which it tells its sites apart.
            let asked = said.borrow_mut().pop().context("it was not asked")?;
            let host = format!("host: {host}:{port}\r\n");
            assert!(asked.to_ascii_lowercase().contains(&host), "{asked}");
            let pid = rustix::process::Pid::from_child(&proxy.0);
            rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
            assert!(proxy.0.wait()?.success());
            assert_eq!(ndjson::open(&output)?.requests.len(), 3);
        }
        let url = format!("https://localhost:{port}");
        let (_proxy, from) = proxy_to(&url, &file("other.pem"), &file("none.ndjson"))?;
        let answer = Edge::at(&from).send(&call).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 502);
        assert!(text.contains("certificate"), "{text}");
        anyhow::Ok(())
    };
    LocalSet::new().run_until(work).await
}
