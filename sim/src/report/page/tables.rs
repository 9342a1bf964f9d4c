//! What the page shows in columns, in the numbers of the terminal's table.
//!
//! A table that is wider than the screen moves within its frame, not the page.
//! Good and bad are words; colour only repeats them.

use maud::{Markup, html};

use crate::report::figures::{NONE, amount, count, duration, milliseconds, percent, share, times};
use crate::report::table::PLACES;
use crate::report::{Bound, Limit, PlaceRow, Row, StoreLoad, WhatIf};

/// As on the terminal; a column for errors only when there are any.
pub fn targets(rows: &[Row]) -> Option<Markup> {
    if rows.is_empty() {
        return None;
    }
    let with_errors = rows.iter().any(|row| row.errors > 0);
    let absent = rows
        .iter()
        .map(|row| row.absent)
        .fold(0, u64::saturating_add);
    let has_targets = rows.iter().any(|row| row.target_ms.is_some());
    Some(html! {
        (framed("targets-title", &html! {
            thead {
                tr {
                    th scope="col" { "operation" }
                    th scope="col" { "requests" }
                    @for tier in ["L1 %", "L2 %", "L3 %"] { th scope="col" { (tier) } }
                    @if with_errors { th scope="col" { "errors" } }
                    @for quantile in ["p50 ms", "p95 ms", "p99 ms"] { th scope="col" { (quantile) } }
                    th scope="col" { "target" }
                    th.word scope="col" { "at p95" }
                }
            }
            tbody { @for row in rows { (target(row, with_errors)) } }
        }))
        @if has_targets {
            p.caption {
                "A target is met when 95 of 100 answers took less. Latencies that are not below the target are "
                span.over { "underlined" } "."
            }
        }
        @if absent > 0 {
            p.caption { (count(absent)) " answers were 404: what they asked for is not in the stores." }
        }
    })
}

fn target(row: &Row, with_errors: bool) -> Markup {
    let known = row.known();
    let latencies_us = [row.latency.p50_us, row.latency.p95_us, row.latency.p99_us];
    html! {
        tr {
            th scope="row" { (row.operation) }
            td { (count(row.requests)) }
            td { (share(row.l1, known)) }
            td { (share(row.l2, known)) }
            td { @if row.has_l3 { (share(row.l3, known)) } @else { (NONE) } }
            @if with_errors { td.missed[row.errors > 0] { (count(row.errors)) } }
            @for (place, us) in latencies_us.into_iter().enumerate() {
                td { span.over[row.is_met.get(place) == Some(&false)] { (milliseconds(us)) } }
            }
            td { @if let Some(ms) = row.target_ms { "< " (ms) " ms" } @else { (NONE) } }
            (verdict(row.verdict()))
        }
    }
}

fn verdict(verdict: Option<bool>) -> Markup {
    match verdict {
        Some(true) => html! { td.word.met { "met" } },
        Some(false) => html! { td.word.missed { "missed" } },
        None => html! { td.word { (NONE) } },
    }
}

pub fn places(places: &[PlaceRow]) -> Option<Markup> {
    (!places.is_empty()).then(|| {
        html! {
            (framed("places-title", &html! {
                thead { tr { @for name in PLACES { th scope="col" { (name) } } } }
                tbody {
                    @for row in places {
                        tr {
                            th scope="row" { (row.place) }
                            td { (count(row.requests)) }
                            @for answers in [row.l1, row.l2, row.l3] { td { (share(answers, row.known())) } }
                            td.missed[row.errors > 0] { (count(row.errors)) }
                            @for us in [row.p50_us, row.p95_us, row.p99_us] { td { (milliseconds(us)) } }
                            td { @if let Some(us) = row.voice_p95_us { (milliseconds(us)) } @else { (NONE) } }
                        }
                    }
                }
            }))
            p.caption { "All requests of each place; at the right, whole voice queries." }
        }
    })
}

pub fn stores(stores: &[StoreLoad]) -> Option<Markup> {
    (!stores.is_empty()).then(|| {
        framed(
            "load-title",
            &html! {
                thead {
                    tr {
                        th scope="col" { "store" }
                        th scope="col" { "in total" }
                        th scope="col" { "at its peak" }
                        th scope="col" { "which was after" }
                        th scope="col" { "connections" }
                        th scope="col" { "at once" }
                    }
                }
                tbody {
                    @for load in stores {
                        tr {
                            th scope="row" { (load.store) }
                            td { (count(load.total)) " " (load.unit) }
                            td { (count(load.peak_per_s)) "/s" }
                            td { (duration(load.peak_at_ms)) }
                            td { (count(load.connections)) }
                            td { (count(load.connections_at_once_max)) }
                        }
                    }
                }
            },
        )
    })
}

pub fn bounds(bounds: &[Bound]) -> Option<Markup> {
    (!bounds.is_empty()).then(|| {
        html! {
            p { "The same reads, asked of an L1 with another policy. What a policy does better than the edge's is what there is to gain." }
            (framed("bounds-title", &html! {
                thead {
                    tr {
                        th scope="col" { "L1" }
                        th scope="col" { "answers %" }
                        th.word scope="col" { "of all reads" }
                    }
                }
                tbody {
                    @for bound in bounds {
                        tr {
                            th scope="row" { (bound.name) }
                            td { (percent(bound.hit_ratio)) }
                            td.bar { (bar(bound.hit_ratio)) }
                        }
                    }
                }
            }))
        }
    })
}

pub fn limits(limits: &[Limit]) -> Option<Markup> {
    (!limits.is_empty()).then(|| {
        html! {
            p { "What a request or an isolate needed most of what Workers allow, where that was nearly all or more." }
            (framed("limits-title", &html! {
                thead {
                    tr {
                        th scope="col" { "limit" }
                        th scope="col" { "at most" }
                        th scope="col" { "allowed" }
                        th scope="col" { "needed more" }
                    }
                }
                tbody {
                    @for limit in limits {
                        tr {
                            th scope="row" { (limit.name) }
                            td.missed[limit.over > 0] { (amount(limit.most, &limit.unit)) }
                            td { (amount(limit.allowed, &limit.unit)) }
                            td { (count(limit.over)) }
                        }
                    }
                }
            }))
        }
    })
}

/// Says nothing that the number beside it does not.
fn bar(part: f64) -> Markup {
    let part = if part.is_finite() {
        part.clamp(0.0, 1.0)
    } else {
        0.0
    };
    html! {
        svg.share aria-hidden="true" width="100%" height="10" {
            rect.whole width="100%" height="10" {}
            rect.part width=(format!("{:.2}%", part * 100.0)) height="10" {}
        }
    }
}

pub fn what_if(lines: &[WhatIf]) -> Option<Markup> {
    let names = names_of_all(lines);
    (!lines.is_empty()).then(|| {
        html! {
            p {
                "The same traffic under other settings. A line is on the front when no other is as good in its "
                "worst latency, errors, load on PostgreSQL and stale answers, and better in one of them: "
                "what remains is a choice."
            }
            (framed("what-if-title", &html! {
                thead {
                    tr {
                        @for name in &names { th.setting scope="col" { (name) } }
                        @if names.is_empty() { th scope="col" { "settings" } }
                        th scope="col" { "L1 %" }
                        th scope="col" { "missed" }
                        th scope="col" { "worst" }
                        th scope="col" { "voice p95 ms" }
                        th scope="col" { "errors" }
                        th scope="col" { "PostgreSQL/s" }
                        th scope="col" { "Valkey/s" }
                        th scope="col" { "stale %" }
                        th scope="col" { "stale at most" }
                        th.word scope="col" { "front" }
                    }
                }
                tbody { @for line in lines { (alternative(line, !names.is_empty())) } }
            }))
            p.caption {
                "Missed: targets, at p95. Worst: p95 of the operation that is furthest from its target, as a multiple of it. A store has its peak."
            }
        }
    })
}

/// Of the settings, where all lines have the same.
fn names_of_all(lines: &[WhatIf]) -> Vec<&str> {
    let mut names = lines.iter().map(|line| {
        line.settings
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
    });
    let first: Vec<&str> = names.next().unwrap_or_default();
    if names.all(|others: Vec<&str>| others == first) {
        first
    } else {
        Vec::new()
    }
}

fn alternative(line: &WhatIf, has_columns: bool) -> Markup {
    html! {
        tr.front[line.is_on_front] {
            @if has_columns {
                @for (place, (_, value)) in line.settings.iter().enumerate() {
                    @if place == 0 { th scope="row" { (value) } } @else { td.setting { (value) } }
                }
            } @else {
                th scope="row" {
                    @if line.settings.is_empty() { "as it is" }
                    @for (name, value) in &line.settings { code { (name) " = " (value) } }
                }
            }
            td { (percent(line.l1_share)) }
            td { (count(line.targets_missed)) }
            td { (times(line.worst)) }
            td { (milliseconds(line.voice_p95_us)) }
            td { (count(line.errors)) }
            td { (count(line.postgres_peak_per_s)) }
            td { (count(line.valkey_peak_per_s)) }
            td { (percent(line.stale_share)) }
            td { (duration(line.stale_max_ms)) }
            td.word { @if line.is_on_front { "on it" } @else { (NONE) } }
        }
    }
}

pub fn conditions(conditions: &[(String, String)]) -> Option<Markup> {
    (!conditions.is_empty()).then(|| {
        html! {
            dl.conditions {
                @for (name, value) in conditions {
                    div { dt { (name) } dd { (value) } }
                }
            }
        }
    })
}

pub fn notes(notes: &[String]) -> Option<Markup> {
    (!notes.is_empty()).then(|| html! { ul { @for note in notes { li { (note) } } } })
}

/// Can be moved with the keyboard as well.
fn framed(label: &str, content: &Markup) -> Markup {
    html! {
        div.frame role="group" tabindex="0" aria-labelledby=(label) {
            table { (content) }
        }
    }
}
