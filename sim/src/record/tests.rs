//! The recordings in `tests/data/recordings`, made by hand, and what becomes of them.

use super::*;

const KEY: &str = "a key of the tests";

fn recording() -> Result<Recording> {
    Recording::new(&Hashing {
        key: Some(KEY.to_owned()),
        hash_all: false,
    })
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/recordings")
        .join(name)
}

fn read(name: &str) -> Result<(Traffic, String)> {
    let mut recording = recording()?;
    recording.read(&sample(name), None)?;
    let (traffic, account) = recording.finish()?;
    Ok((traffic, account.to_string()))
}

fn asked(traffic: &Traffic) -> Vec<(Operation, &str)> {
    let requests = traffic.requests.iter();
    requests
        .map(|request| (request.operation, traffic.key(request)))
        .collect()
}

fn id(name: &str) -> String {
    Pseudonyms::keyed(KEY.as_bytes()).of(name)
}

#[test]
fn a_tail_becomes_traffic() -> Result<()> {
    let (traffic, account) = read("tail.json")?;
    assert_eq!(
        asked(&traffic),
        [
            (Operation::StoreSession, id("s1").as_str()),
            (Operation::Session, &id("s1")),
            (
                Operation::Products,
                "category=dresses&maxPrice=100&limit=20"
            ),
            (Operation::CreateOrder, &id("192.0.2.7")),
        ]
    );
    let first = &traffic.requests[0];
    assert_eq!(first.time_ms, 1_764_195_600_000);
    assert_eq!(traffic.places.name(first.place), "FRA");
    assert_eq!(traffic.clients.name(first.client), id("192.0.2.7"));
    for said in [
        "Written down after later ones, and sorted by time: 1.",
        "a check of health (1)",
        "an event that is no request (1)",
        "no such route: 1; the first: GET https://api.shop.example/favicon.ico",
        "stands for it: 1.",
        "1 line could not be read",
    ] {
        assert!(account.contains(said), "{said}: {account}");
    }
    Ok(())
}

#[test]
fn the_edges_own_lines_are_taken_before_urls() -> Result<()> {
    let (traffic, account) = read("traced.ndjson")?;
    assert_eq!(
        asked(&traffic),
        [
            (Operation::Preferences, "00112233aabbccdd"),
            (Operation::Session, "8899aabbccddeeff"),
        ]
    );
    let first = &traffic.requests[0];
    assert_eq!((first.time_ms, first.size_bytes), (1_764_195_600_100, 512));
    assert_eq!(traffic.clients.name(first.client), "0123456789abcdef");
    assert_eq!(traffic.places.name(first.place), "LHR");
    assert!(account.contains("not of its sample): 1."), "{account}");
    Ok(())
}

#[test]
fn an_archive_becomes_traffic_with_sizes_and_users() -> Result<()> {
    let (traffic, account) = read("browser.har")?;
    assert_eq!(
        asked(&traffic),
        [
            (Operation::Profile, id("user-007").as_str()),
            (Operation::CreateOrder, &id("user-007")),
            (Operation::Orders, &id("user-007")),
        ]
    );
    let sizes: Vec<u32> = traffic.requests.iter().map(|one| one.size_bytes).collect();
    assert_eq!(sizes, [420, 68, 900]);
    assert_eq!(traffic.requests[1].time_ms, 1_764_195_601_250);
    assert!(account.contains("a browser's question before a request (1)"));
    assert!(account.contains("1 line could not be read"), "{account}");
    Ok(())
}

#[test]
fn an_access_log_becomes_traffic() -> Result<()> {
    let (traffic, account) = read("access.log")?;
    assert_eq!(
        asked(&traffic),
        [
            (Operation::Conversation, id("user-007").as_str()),
            (Operation::TouchSession, &id("a/b")),
            (
                Operation::DeleteGeneric,
                &format!("recommendations:{}", id("user-007"))
            ),
        ]
    );
    assert_eq!(traffic.clients.len(), 2);
    assert!(account.contains("2 lines could not be read"), "{account}");
    Ok(())
}

#[test]
fn a_trace_of_keys_becomes_traffic() -> Result<()> {
    let mut recording = recording()?;
    recording.read(&sample("../weblog-424-norobots-evening.slt.gz"), None)?;
    let (traffic, _) = recording.finish()?;
    assert_eq!(traffic.requests.len(), 5_000);
    Ok(())
}

#[test]
fn no_id_leaves_as_it_was() -> Result<()> {
    for name in ["tail.json", "browser.har", "access.log"] {
        let mut text = Vec::new();
        ndjson::write(&read(name)?.0, &mut text)?;
        let text = String::from_utf8(text)?;
        for id in ["user-007", "192.0.2", "\"s1\"", "a/b", "2001:db8"] {
            assert!(!text.contains(id), "{name}: {id} in {text}");
        }
    }
    Ok(())
}

#[test]
fn searches_stay_readable_unless_all_is_hashed() -> Result<()> {
    let mut recording = Recording::new(&Hashing {
        key: Some(KEY.to_owned()),
        hash_all: true,
    })?;
    recording.read(&sample("tail.json"), Some(Form::Tail))?;
    let (traffic, _) = recording.finish()?;
    let query = id("category=dresses&maxPrice=100&limit=20");
    assert!(asked(&traffic).contains(&(Operation::Products, &query)));
    Ok(())
}

#[test]
fn what_was_not_recorded_is_refused_with_a_reason() -> Result<()> {
    for (text, reason) in [
        ("", "it is empty"),
        ("once upon a time\n", "say as what with --from"),
    ] {
        let error = recording()?.read_from(text.as_bytes(), None).unwrap_err();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
    let mut nothing = recording()?;
    nothing.read_from("{}\n".as_bytes(), None)?;
    let error = nothing.finish().map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("not one request") && error.contains("no request (1)"),
        "{error}"
    );
    Ok(())
}

/// What comes of such texts, one file after another.
fn of_texts(texts: &[&str]) -> Result<(Traffic, String)> {
    let mut recording = recording()?;
    for text in texts {
        recording.read_from(text.as_bytes(), None)?;
    }
    let (traffic, account) = recording.finish()?;
    Ok((traffic, account.to_string()))
}

const TRACED: &str = r#"{"trace":1,"time_ms":1764195600100,"method":"GET","route":"/valkey/session/{key}","key":"00112233aabbccdd","size_bytes":5,"client":"c","place":"FRA"}"#;
const LOGGED: &str = r#"192.0.2.7 - - [26/Nov/2025:22:20:48 +0000] "GET /api/vultr/valkey/session/s1 HTTP/1.1" 200 420"#;
const ELSEWHERE: &str =
    r#"192.0.2.7 - - [26/Nov/2025:22:20:48 +0000] "GET /favicon.ico HTTP/1.1" 200 1"#;

#[test]
fn trace_lines_hide_no_unknown_route() -> Result<()> {
    let (traffic, account) = of_texts(&[&format!("{TRACED}\n{LOGGED}\n{ELSEWHERE}\n")])?;
    assert_eq!(traffic.requests.len(), 1);
    assert!(account.contains("not of its sample): 1."), "{account}");
    assert!(
        account.contains("no such route: 1; the first: GET /favicon.ico"),
        "{account}"
    );
    Ok(())
}

#[test]
fn a_file_with_trace_lines_hides_no_other_file() -> Result<()> {
    for texts in [[TRACED, LOGGED], [LOGGED, TRACED]] {
        let (traffic, account) = of_texts(&texts)?;
        assert_eq!(asked(&traffic).len(), 2, "{account}");
        let keys = [id("s1"), "00112233aabbccdd".to_owned()];
        assert!(
            asked(&traffic)
                .iter()
                .all(|(_, key)| keys.iter().any(|one| one == key))
        );
        assert_eq!(traffic.clients.len(), 2);
    }
    Ok(())
}

#[test]
fn what_is_too_long_for_a_line_forges_no_request() -> Result<()> {
    let long = format!(
        "{ELSEWHERE} \"{}{LOGGED}\"\n{LOGGED}\n",
        "x".repeat(64 * 1024 - ELSEWHERE.len() - 2)
    );
    let (traffic, account) = of_texts(&[&format!("{LOGGED}\n{long}")])?;
    assert_eq!(traffic.requests.len(), 2);
    assert!(
        account.contains("line 2: it has more than 65536 bytes"),
        "{account}"
    );
    let event = |logs: &str| format!(r#"{{"eventTimestamp":1,"event":null,"logs":["{logs}"]}}"#);
    let (traffic, account) = of_texts(&[
        LOGGED,
        &format!("{}\n", event(&format!("{}\n{{", "x".repeat(5 << 20)))),
    ])?;
    assert_eq!(traffic.requests.len(), 1);
    assert!(account.contains("more than 4194304 bytes"), "{account}");
    Ok(())
}

#[test]
fn an_odd_entry_spoils_no_archive() -> Result<()> {
    let entry = r#"{"startedDateTime":"2025-11-26T22:20:00Z","request":{"method":"GET","url":"https://x/api/vultr/valkey/session/s1"},"response":{"status":200}}"#;
    let (traffic, account) = of_texts(&[&format!(
        r#"{{"_by":"some browser","log":{{"entries":[{entry},{{"startedDateTime":7}},null,{entry}]}}}}"#
    )])?;
    assert_eq!(traffic.requests.len(), 2);
    assert!(account.contains("2 lines could not be read"), "{account}");
    assert!(account.contains("entry 2: "), "{account}");
    Ok(())
}

#[test]
fn a_key_that_can_be_guessed_is_refused_and_not_repeated() {
    let hashing = Hashing {
        key: Some("hunter2".to_owned()),
        hash_all: false,
    };
    let error = Recording::new(&hashing)
        .err()
        .map(|error| error.to_string());
    let error = error.unwrap_or_default();
    assert!(
        error.contains("has 7 characters") && !error.contains("hunter"),
        "{error}"
    );
}

#[test]
fn traffic_is_not_recorded_again() -> Result<()> {
    let line = r#"{"time_ms":1,"method":"GET","route":"/valkey/session/{key}","key":"s"}"#;
    let error = recording()?.read_from(line.as_bytes(), None).unwrap_err();
    assert!(
        error.to_string().contains("it is traffic already"),
        "{error}"
    );
    Ok(())
}
