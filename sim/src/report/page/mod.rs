//! The report as one page that needs nothing else: no network, no script.
//!
//! - [`tables`]: what has columns. [`charts`]: what has axes.
//! - [`plot`]: a chart as SVG, whatever it shows.
//! - `style.css`: all colours and sizes, in light, in dark and on paper.
//!
//! Knows in which order things are said. What a report has no numbers for is left
//! out. Computes no number but sums, and asks nobody but the report.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figures::{count, share};
use super::{Report, Row};

mod charts;
mod plot;
mod tables;

const STYLE: &str = include_str!("style.css");
/// Nothing may be loaded and nothing run, whatever gets into a report.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The whole file.
pub fn html(report: &Report) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Replay report – Shepherd Edge" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.product { "Shepherd Edge" }
                    h1 { "Replay report" }
                    (facts(report))
                }
                main {
                    (section("targets", "Targets", &tables::targets(&report.rows)))
                    (section("places", "Places", &tables::places(&report.places)))
                    (section("latency", "Latency", &charts::latencies(&report.rows)))
                    (section("tiers", "Who answered, over time", &charts::tiers(&report.timeline)))
                    (section("load", "Load on the stores", &load(report)))
                    (section("staleness", "Staleness", &charts::staleness(&report.staleness)))
                    (section("bounds", "What other L1s would answer", &tables::bounds(&report.bounds)))
                    (section("limits", "Limits of the platform", &tables::limits(&report.limits)))
                    (section("what-if", "What if", &tables::what_if(&report.what_if)))
                    (section("conditions", "Conditions", &tables::conditions(&report.conditions)))
                    (section("notes", "Notes", &tables::notes(&report.notes)))
                }
            }
        }
    }
    .into_string()
}

fn section(id: &str, title: &str, content: &Option<Markup>) -> Markup {
    html! {
        @if let Some(content) = content {
            section id=(id) aria-labelledby=(format!("{id}-title")) {
                h2 id=(format!("{id}-title")) { (title) }
                (content)
            }
        }
    }
}

fn load(report: &Report) -> Option<Markup> {
    let charts = charts::loads(&report.timeline, &report.stores);
    let table = tables::stores(&report.stores);
    (charts.is_some() || table.is_some()).then(|| {
        html! {
            @if let Some(charts) = charts { (charts) }
            @if let Some(table) = table { (table) }
        }
    })
}

/// What one wants to know first.
fn facts(report: &Report) -> Markup {
    let sum = |count: fn(&Row) -> u64| report.requests().map(count).fold(0, u64::saturating_add);
    let sent = sum(|row| row.requests);
    if sent == 0 {
        return html! { p.lead { "Nothing was replayed: there are no requests to report on." } };
    }
    let verdicts = report.rows.iter().filter_map(Row::verdict);
    let (met, judged) = verdicts.fold((0, 0), |(met, judged), verdict| {
        (met + u64::from(verdict), judged + 1)
    });
    let (l1, known, errors) = (sum(|row| row.l1), sum(Row::known), sum(|row| row.errors));
    html! {
        dl.facts {
            @if judged > 0 {
                (fact("Targets met at p95", &format!("{met} of {judged}"), if met == judged { "met" } else { "missed" }))
            }
            (fact("Requests", &count(sent), ""))
            @if errors > 0 { (fact("Errors", &count(errors), "missed")) }
            @if known > 0 { (fact("Answered by L1", &format!("{} %", share(l1, known)), "")) }
            @for store in &report.stores {
                (fact(&format!("Peak on {}", store.store), &format!("{}/s", count(store.peak_per_s)), ""))
            }
            @if report.staleness.answers > 0 {
                (fact("Stale answers", &format!("{} %", share(report.staleness.stale, report.staleness.answers)), ""))
            }
        }
    }
}

fn fact(name: &str, value: &str, class: &str) -> Markup {
    html! {
        div {
            dt { (name) }
            dd class=(class) { (value) }
        }
    }
}
