//! `jsonb` and `numeric`: random texts, right and wrong ones, to both servers.

use anyhow::{Result, ensure};
use edge::tiers::postgres as sql;
use edge::wire::pg::Statement;
use sim::dice::Dice;
use sim::stores::{Data, Stores};

use super::postgres::{Pair, furnish};

const ROUNDS: u32 = 3000;

fn text(dice: &mut Dice, out: &mut String) {
    out.push('"');
    for _ in 0..dice.below(5) {
        out.push_str(dice.choose(&[
            "a",
            "b",
            "é",
            "中",
            "😀",
            "\u{7f}",
            "/",
            "\\/",
            "\\\\",
            "\\\"",
            "\\n",
            "\\b",
            "\\u0041",
            "\\u001f",
            "\\ud83d\\ude00",
            " ",
            "1.50",
            "'",
        ]));
    }
    out.push('"');
}

fn number(dice: &mut Dice, out: &mut String) {
    let sign = dice.choose(&["", "", "-"]);
    let whole = dice.choose(&["0", "1", "10", "123", "99999999", "12345678901234567890"]);
    let fraction = dice.choose(&["", "", ".0", ".5", ".10", ".005", ".994", ".995", ".000"]);
    let exponent = dice.choose(&["", "", "", "e2", "E+3", "e-2", "e-7", "e0", "e20"]);
    for part in [sign, whole, fraction, exponent] {
        out.push_str(part);
    }
}

fn space(dice: &mut Dice, out: &mut String) {
    out.push_str(dice.choose(&["", "", "", " ", "\n", "\t ", "\r"]));
}

fn value(dice: &mut Dice, depth: u32, out: &mut String) {
    space(dice, out);
    let kinds = if depth > 4 { 5 } else { 8 };
    match dice.below(kinds) {
        0 | 1 => text(dice, out),
        2 | 3 => number(dice, out),
        4 => out.push_str(dice.choose(&["true", "false", "null"])),
        5 => elements(dice, out, ('[', ']'), &mut |dice, out| {
            value(dice, depth + 1, out)
        }),
        _ => elements(dice, out, ('{', '}'), &mut |dice, out| {
            space(dice, out);
            text(dice, out);
            space(dice, out);
            out.push(':');
            value(dice, depth + 1, out);
        }),
    }
    space(dice, out);
}

fn elements(
    dice: &mut Dice,
    out: &mut String,
    (open, close): (char, char),
    element: &mut dyn FnMut(&mut Dice, &mut String),
) {
    out.push(open);
    let count = dice.below(5);
    for place in 0..count {
        if place > 0 {
            out.push(',');
        }
        element(dice, out);
    }
    space(dice, out);
    out.push(close);
}

/// Mostly right; else with one character lost, doubled or exchanged.
fn json(dice: &mut Dice) -> String {
    let mut out = String::new();
    value(dice, 0, &mut out);
    if dice.below(3) > 0 {
        return out;
    }
    let mut characters: Vec<char> = out.chars().collect();
    let count = u32::try_from(characters.len()).unwrap_or_default();
    let place = usize::try_from(dice.below(count)).unwrap_or_default();
    let other = [
        ',', ':', '"', '}', '0', 'e', '.', '-', '\\', '\u{1}', 'u', '+',
    ];
    let lost = characters.remove(place);
    match dice.below(3) {
        0 => {}
        1 => characters.splice(place..place, [lost, lost]).for_each(drop),
        _ => characters.insert(place, dice.choose(&other)),
    }
    characters.into_iter().collect()
}

#[tokio::test]
async fn jsonb_and_numeric_are_those_of_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut dice = Dice::seeded(4);
    let mut pair = Pair::connect(&stores)?;
    furnish(&stores, &mut pair, &mut dice).await?;
    let some = |text: &str| Some(text.to_owned());
    let mut told = Vec::new();
    for round in 0..ROUNDS {
        let mut total = String::new();
        number(&mut dice, &mut total);
        let save = vec![some("u1"), Some(json(&mut dice)), None, some("u1@x")];
        let items = json(&mut dice);
        // The same id with the same or with other numbers.
        let order = format!("o{}", round / 3);
        let place = vec![
            Some(order),
            some("u1"),
            Some(items),
            Some(total.clone()),
            None,
        ];
        let mut other = String::new();
        number(&mut dice, &mut other);
        let filter = vec![None, None, Some(total), Some(other), some("9")];
        for (sql, parameters) in [
            (sql::SAVE_PROFILE, save),
            (sql::PLACE_ORDER, place),
            (sql::PRODUCTS, filter),
        ] {
            told.extend(pair.compare(&Statement { sql, parameters }).err());
        }
    }
    told.truncate(10);
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

#[tokio::test]
async fn deep_json_is_taken_as_deep_as_the_edge_lets_it_in() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut dice = Dice::seeded(5);
    let mut pair = Pair::connect(&stores)?;
    furnish(&stores, &mut pair, &mut dice).await?;
    for depth in [1000, edge::limits::JSON_DEPTH_MAX, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = [&open.repeat(depth), "1", &close.repeat(depth)].concat();
            let parameters = vec![Some("u1".to_owned()), Some(nested), None, None];
            pair.compare(&Statement {
                sql: sql::SAVE_PROFILE,
                parameters,
            })?;
        }
    }
    Ok(())
}
