//! The report as a page: whatever stands in the report, the page is whole.
//!
//! How it looks and what it says in a browser is tried by `tests/browser`.

// The parts of a strategy are as many as it says.
#![allow(clippy::indexing_slicing)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use proptest::prelude::*;
use roxmltree::{Document, Node};
use sim::report::{
    Bound, Bucket, Latency, Limit, PlaceRow, Report, Row, Staleness, StoreLoad, Timeline, WhatIf,
    page,
};

#[path = "../examples/report/evening.rs"]
mod evening;

const SECTIONS: [&str; 11] = [
    "targets",
    "places",
    "latency",
    "tiers",
    "load",
    "staleness",
    "bounds",
    "limits",
    "what-if",
    "conditions",
    "notes",
];

fn sections(page: &str) -> Vec<&str> {
    let has = |name: &&str| page.contains(&format!("<section id=\"{name}\""));
    SECTIONS.into_iter().filter(has).collect()
}

/// Everything from one opening to its own end; the shapes of a chart are an SVG
/// within an SVG.
fn charts(page: &str) -> Vec<&str> {
    let mut charts = Vec::new();
    let (mut begin, mut depth) = (0, 0);
    for (place, _) in page.match_indices('<') {
        let rest = &page[place..];
        if rest.starts_with("<svg") {
            if depth == 0 {
                begin = place;
            }
            depth += 1;
        } else if rest.starts_with("</svg>") {
            depth -= 1;
            if depth == 0 {
                charts.push(&page[begin..place + "</svg>".len()]);
            }
        }
    }
    assert_eq!(depth, 0, "a chart has no end");
    charts
}

/// All numbers in an attribute, of which `L10 20.5` has two.
fn numbers<'a>(value: &'a str) -> impl Iterator<Item = f64> + 'a {
    value
        .split(|letter: char| !matches!(letter, '0'..='9' | '.' | '-'))
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().unwrap_or(f64::NAN))
}

fn assert_places_are_in(node: Node, chart: &str) {
    for name in [
        "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height",
    ] {
        let Some(value) = node.attribute(name) else {
            continue;
        };
        let letters: Vec<char> = value
            .chars()
            .filter(|letter| letter.is_alphabetic())
            .collect();
        assert!(
            letters.iter().all(|letter| "MLHVZ".contains(*letter)),
            "{name}={value} in {chart}"
        );
        let most = if value.contains('%') { 100.3 } else { 1000.0 };
        for number in numbers(value) {
            assert!((-8.0..=most).contains(&number), "{name}={value} in {chart}");
        }
    }
}

fn assert_is_whole(report: &Report) -> Result<()> {
    let page = page::html(report);
    assert_eq!(page, page::html(report));
    for foreign in ["<script", "http:", "https:", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    for chart in charts(&page) {
        let document = Document::parse(chart).with_context(|| chart.to_owned())?;
        document
            .descendants()
            .for_each(|node| assert_places_are_in(node, chart));
        if chart.starts_with("<svg class=\"plot\"") {
            let words = |name| {
                let mut children = document.root_element().children();
                let found = children.find(|child| child.has_tag_name(name));
                found.and_then(|child| child.text()).map(str::to_owned)
            };
            assert!(
                words("title").is_some() && words("desc").is_some(),
                "{chart}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_evening_fills_every_section() -> Result<()> {
    let report = evening::report()?;
    assert_is_whole(&report)?;
    let page = page::html(&report);
    assert_eq!(sections(&page), SECTIONS);
    let latencies = report.rows.iter().filter(|row| row.requests > 0).count();
    // And tiers, two stores, staleness, and a bar for each bound.
    assert_eq!(charts(&page).len(), latencies + 4 + report.bounds.len());
    Ok(())
}

#[test]
fn a_report_is_the_same_after_its_json() -> Result<()> {
    let report = evening::report()?;
    let again: Report = serde_json::from_str(&serde_json::to_string(&report)?)?;
    assert_eq!(again, report);
    Ok(())
}

#[test]
fn an_empty_report_says_that_nothing_was_replayed() -> Result<()> {
    let report = Report::default();
    assert_is_whole(&report)?;
    let page = page::html(&report);
    assert!(sections(&page).is_empty());
    assert!(page.contains("Nothing was replayed"));
    Ok(())
}

#[test]
fn a_section_is_there_when_it_has_numbers() -> Result<()> {
    let evening = evening::report()?;
    let report = Report {
        rows: evening.rows.iter().take(1).cloned().collect(),
        ..Report::default()
    };
    assert_is_whole(&report)?;
    assert_eq!(sections(&page::html(&report)), ["targets", "latency"]);

    let report = Report {
        staleness: Staleness {
            answers: 5,
            ..Staleness::default()
        },
        ..Report::default()
    };
    assert_is_whole(&report)?;
    let page = page::html(&report);
    assert_eq!(sections(&page), ["staleness"]);
    assert!(page.contains("Each of 5 answers"), "{page}");

    let idle = Timeline {
        bucket_ms: 1000,
        buckets: vec![Bucket::default(); 3],
    };
    let report = Report {
        timeline: idle,
        ..Report::default()
    };
    assert_is_whole(&report)?;
    let page = page::html(&report);
    assert_eq!(sections(&page), ["load"]);
    assert_eq!(page.matches("None reached it.").count(), 2);
    Ok(())
}

#[test]
fn a_long_timeline_makes_no_long_page() -> Result<()> {
    let mut report = evening::report()?;
    let page_length = page::html(&report).len();
    report.timeline.buckets = report.timeline.buckets.repeat(1000);
    assert_is_whole(&report)?;
    assert!(page::html(&report).len() < 2 * page_length);
    Ok(())
}

#[test]
fn what_stands_in_a_report_stays_text() -> Result<()> {
    let hostile = r#"</title></style><script>alert(1)</script><b title="'">&"#.to_owned();
    let mut report = evening::report()?;
    report.rows[0].operation = hostile.clone();
    report.stores[0].store = hostile.clone();
    report.stores[0].unit = hostile.clone();
    report.bounds[0].name = hostile.clone();
    report.what_if[0].settings = vec![(hostile.clone(), hostile.clone())];
    report.conditions = vec![(hostile.clone(), hostile.clone())];
    report.notes = vec![hostile];
    assert_is_whole(&report)?;
    let page = page::html(&report);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains("<b title"));
    Ok(())
}

/// Small and huge alike.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0_u64..100, any::<u64>(), Just(u64::MAX)]
}

fn numbers_of<const N: usize>() -> impl Strategy<Value = [u64; N]> {
    proptest::array::uniform(number())
}

fn part() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..=1.0,
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::NEG_INFINITY)
    ]
}

fn a_curve() -> impl Strategy<Value = Vec<(u64, f64)>> {
    prop::collection::vec((number(), part()), 0..4)
}

/// XML has no name for control characters, nor has a name of ours any.
fn name() -> impl Strategy<Value = String> {
    "[ -~–é]{0,12}"
}

fn row() -> impl Strategy<Value = Row> {
    let verdicts = prop::collection::vec(any::<bool>(), 0..4);
    (
        name(),
        numbers_of::<10>(),
        any::<bool>(),
        a_curve(),
        any::<Option<u32>>(),
        verdicts,
    )
        .prop_map(
            |(
                operation,
                [
                    requests,
                    l1,
                    l2,
                    l3,
                    errors,
                    absent,
                    p50_us,
                    p95_us,
                    p99_us,
                    max_us,
                ],
                has_l3,
                curve,
                target_ms,
                is_met,
            )| Row {
                operation,
                requests,
                l1,
                l2,
                l3,
                has_l3,
                errors,
                absent,
                latency: Latency {
                    p50_us,
                    p95_us,
                    p99_us,
                    max_us,
                    curve,
                },
                target_ms,
                is_met,
            },
        )
}

fn timeline() -> impl Strategy<Value = Timeline> {
    let buckets = prop::collection::vec(numbers_of::<7>(), 0..8);
    (number(), buckets).prop_map(|(bucket_ms, buckets)| Timeline {
        bucket_ms,
        buckets: buckets
            .into_iter()
            .map(
                |[
                    requests,
                    l1,
                    l2,
                    l3,
                    errors,
                    valkey_commands,
                    postgres_statements,
                ]| Bucket {
                    requests,
                    l1,
                    l2,
                    l3,
                    errors,
                    valkey_commands,
                    postgres_statements,
                },
            )
            .collect(),
    })
}

fn store() -> impl Strategy<Value = StoreLoad> {
    let store = prop_oneof![
        Just("Valkey".to_owned()),
        Just("PostgreSQL".to_owned()),
        name()
    ];
    (store, name(), numbers_of::<5>()).prop_map(
        |(
            store,
            unit,
            [
                total,
                peak_per_s,
                peak_at_ms,
                connections,
                connections_at_once_max,
            ],
        )| StoreLoad {
            store,
            unit,
            total,
            peak_per_s,
            peak_at_ms,
            connections,
            connections_at_once_max,
        },
    )
}

fn stale() -> impl Strategy<Value = Staleness> {
    (numbers_of::<5>(), a_curve()).prop_map(|([answers, stale, p50_ms, p99_ms, max_ms], curve)| {
        Staleness {
            answers,
            stale,
            p50_ms,
            p99_ms,
            max_ms,
            curve,
        }
    })
}

fn what_if() -> impl Strategy<Value = WhatIf> {
    let settings = prop::collection::vec((name(), name()), 0..3);
    let parts = [part(), part(), part()];
    (settings, parts, numbers_of::<6>(), any::<bool>()).prop_map(
        |(settings, parts, numbers, is_on_front)| WhatIf {
            settings,
            l1_share: parts[0],
            targets_missed: numbers[0],
            worst: parts[1],
            voice_p95_us: numbers[1],
            errors: numbers[2],
            postgres_peak_per_s: numbers[3],
            valkey_peak_per_s: numbers[4],
            stale_share: parts[2],
            stale_max_ms: numbers[5],
            is_on_front,
        },
    )
}

fn limit() -> impl Strategy<Value = Limit> {
    let unit = prop_oneof![
        Just(String::new()),
        Just("us".to_owned()),
        Just("bytes".to_owned()),
        name()
    ];
    (name(), unit, any::<[u64; 3]>()).prop_map(|(name, unit, [most, allowed, over])| Limit {
        name,
        unit,
        most,
        allowed,
        over,
    })
}

fn place() -> impl Strategy<Value = PlaceRow> {
    let voice_p95_us = prop::option::of(any::<u64>());
    (name(), any::<[u64; 8]>(), voice_p95_us).prop_map(|(place, numbers, voice_p95_us)| {
        let [requests, l1, l2, l3, errors, p50_us, p95_us, p99_us] = numbers;
        PlaceRow {
            place,
            requests,
            l1,
            l2,
            l3,
            errors,
            p50_us,
            p95_us,
            p99_us,
            voice_p95_us,
        }
    })
}

fn report() -> impl Strategy<Value = Report> {
    let some = 0..4;
    (
        prop::collection::vec((name(), name()), some.clone()),
        (
            prop::collection::vec(row(), some.clone()),
            prop::collection::vec(place(), some.clone()),
        ),
        timeline(),
        prop::collection::vec(store(), some.clone()),
        stale(),
        prop::collection::vec(
            (name(), part()).prop_map(|(name, hit_ratio)| Bound { name, hit_ratio }),
            some.clone(),
        ),
        prop::collection::vec(limit(), some.clone()),
        prop::collection::vec(what_if(), some.clone()),
        prop::collection::vec(name(), some),
    )
        .prop_map(
            |(
                conditions,
                (rows, places),
                timeline,
                stores,
                staleness,
                bounds,
                limits,
                what_if,
                notes,
            )| {
                Report {
                    conditions,
                    rows,
                    places,
                    timeline,
                    stores,
                    staleness,
                    bounds,
                    limits,
                    what_if,
                    notes,
                }
            },
        )
}

proptest! {
    #[test]
    fn no_numbers_break_a_page(report in report()) {
        assert_is_whole(&report).unwrap();
        // Nor what the terminal shows.
        assert!(!report.to_string().is_empty());
    }
}

fn report_command(arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sim"))
        .arg("report")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

#[test]
fn the_command_prints_the_table_or_writes_the_page() -> Result<()> {
    let report = evening::report()?;
    let json = serde_json::to_string(&report)?;
    let directory = tempfile::tempdir()?;
    let (source, page) = (
        directory.path().join("r.json"),
        directory.path().join("r.html"),
    );
    std::fs::write(&source, &json)?;
    let source = source.to_str().context("a path that is text")?;

    let printed = report_command(&["-"], &json)?;
    assert_eq!(String::from_utf8(printed.stdout)?, report.to_string());

    let written = report_command(&[source, "--html", page.to_str().context("text")?], "")?;
    assert!(
        written.status.success() && written.stdout.is_empty(),
        "{written:?}"
    );
    assert_eq!(std::fs::read_to_string(&page)?, page::html(&report));
    Ok(())
}

#[test]
fn the_command_says_in_a_sentence_what_is_wrong() -> Result<()> {
    for (arguments, input, said) in [
        (vec!["-"], "{}", "- is no report"),
        (
            vec!["nowhere.json"],
            "",
            "cannot read the report nowhere.json",
        ),
    ] {
        let refused = report_command(&arguments, input)?;
        assert!(!refused.status.success());
        let error = String::from_utf8(refused.stderr)?;
        assert!(
            error.contains(said) && error.lines().count() == 1,
            "{error}"
        );
    }
    Ok(())
}
