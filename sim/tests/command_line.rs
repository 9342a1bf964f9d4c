//! What the commands say to options that cannot be, and to an output that nobody
//! reads: a sentence, and never a panic.

// A test that fails stops.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::Result;

fn sim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn excerpt() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/weblog-424-norobots-evening.slt.gz");
    path.to_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn what_cannot_be_is_refused_in_words() -> Result<()> {
    let excerpt = excerpt();
    let directory = tempfile::tempdir()?;
    let deletes = directory.path().join("deletes.csv");
    std::fs::write(&deletes, "0,a,1,1,1,delete,0\n")?;
    let deletes = deletes.to_str().unwrap();
    for (arguments, reason) in [
        (
            vec!["mrc", &excerpt, "--sample", "0.001"],
            "give a larger --sample",
        ),
        (vec!["mrc", deletes], "has only deletes"),
        (vec!["policies", deletes], "has only deletes"),
        (
            vec!["check", "-", "--errors-percent", "nan"],
            "from 0 to 100",
        ),
        (
            vec!["check", "-", "--target", "products=inf"],
            "not a number above 0",
        ),
        (
            vec!["load", &excerpt, "--url", "http://x", "--rate", "1e300"],
            "not a number above 0",
        ),
        (
            vec!["load", &excerpt, "--url", "http://x", "--speed", "1e-300"],
            "not a number above 0",
        ),
        (
            vec![
                "load",
                &excerpt,
                "--url",
                "http://x",
                "--lag-limit",
                "1e300",
            ],
            "not a number",
        ),
        (
            vec![
                "load",
                &excerpt,
                "--url",
                "http://x",
                "--connections",
                "99999",
            ],
            "1..=10000",
        ),
        (
            vec![
                "load",
                &excerpt,
                "--url",
                "http://x",
                "--tolerance-points",
                "nan",
            ],
            "not a number",
        ),
        (
            vec!["load", &excerpt, "--url", "http://u:hunter2@x"],
            "a user or a password",
        ),
        (
            vec!["calibrate", "--url", "http://u:hunter2@x"],
            "a user or a password",
        ),
        (
            vec![
                "record",
                "--proxy",
                "--listen",
                "127.0.0.1:0",
                "--to",
                "http://u:hunter2@x",
            ],
            "a user or a password",
        ),
        (
            vec!["replay-sample", "--url", "http://u:hunter2@x"],
            "a user or a password",
        ),
        (
            vec!["replay", &excerpt, "--fault", "valkey@1s+0s"],
            "less than 1 ms",
        ),
        (vec!["replay", &excerpt, "--isolates", "0"], "from 1 to"),
        (
            vec![
                "replay",
                &excerpt,
                "--level",
                "fast",
                "--l1",
                "lru",
                "--l1-entries",
                "0",
            ],
            "--l1-entries",
        ),
        (
            vec![
                "replay",
                &excerpt,
                "--level",
                "fast",
                "--l1",
                "unbounded",
                "--l1-entries",
                "5",
            ],
            "has room for all",
        ),
        (vec!["chaos", "--seeds", "0"], "--seeds"),
        (vec!["chaos", "--isolates", "0"], "--isolates"),
        (
            vec!["chaos", "--traffic-ms", "18446744073709551615"],
            "--traffic-ms",
        ),
        (vec!["synth", "--duration", "4000y"], "--duration is"),
        (
            vec!["synth", "--days", "31", "--requests-per-s", "100000"],
            "less at a time",
        ),
    ] {
        let output = sim(&arguments).current_dir(directory.path()).output()?;
        let said = said(&output);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(!said.contains("hunter"), "{said}");
    }
    Ok(())
}

#[test]
fn an_output_that_nobody_reads_ends_quietly() -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = sim(&["policies", &excerpt(), "--sizes", "10"])
        .stdout(writer)
        .output()?;
    assert_eq!((output.status.code(), &*said(&output)), (Some(141), ""));
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written_is_said() -> Result<()> {
    for arguments in [
        vec!["policies", &excerpt(), "--sizes", "10"],
        vec!["mrc", &excerpt(), "--json"],
        vec!["replay", &excerpt(), "--level", "fast"],
    ] {
        let output = sim(&arguments)
            .stdout(File::options().write(true).open("/dev/full")?)
            .output()?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the output cannot be written"), "{said}");
    }
    Ok(())
}

#[test]
fn a_trace_of_years_is_refused_and_not_counted_second_by_second() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("years.ndjson");
    let line = |time_ms: u64| {
        format!(
            r#"{{"time_ms":{time_ms},"method":"GET","route":"/valkey/session/{{key}}","key":"s"}}"#
        )
    };
    std::fs::write(&file, format!("{}\n{}\n", line(0), line(u64::MAX)))?;
    for level in ["full", "fast"] {
        let output = sim(&["replay", file.to_str().unwrap(), "--level", level]).output()?;
        let said = said(&output);
        assert!(
            !output.status.success() && said.contains("a replay at most"),
            "{said}"
        );
    }
    Ok(())
}
