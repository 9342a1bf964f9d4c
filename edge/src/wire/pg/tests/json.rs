//! JSON of every type that our tables use, and of what a bad server sends.

use super::server::rows as answer;
use super::*;
use crate::limits::{PG_NAME_BYTES_MAX, PG_RESULT_BYTES_MAX};

fn rows(columns: &[(&str, u32)], fields: &[Vec<Option<&[u8]>>]) -> Rows {
    answer_to_one(&answer(columns, fields))
        .answers
        .remove(0)
        .unwrap()
}

fn value(type_oid: u32, text: &str) -> Result<String, WireError> {
    let object = rows(&[("v", type_oid)], &[vec![Some(text.as_bytes())]]).json_object(0)?;
    let object = String::from_utf8(object).unwrap();
    let _: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(&object).expect("JSON");
    Ok(object
        .strip_prefix("{\"v\":")
        .unwrap()
        .strip_suffix('}')
        .unwrap()
        .to_owned())
}

fn check(type_oid: u32, text: &str, json: &str) {
    assert_eq!(value(type_oid, text), Ok(json.to_owned()), "{text}");
}

fn check_bad(type_oid: u32, texts: &[&str]) {
    for text in texts {
        assert!(
            matches!(value(type_oid, text), Err(WireError::Protocol(_))),
            "{text}"
        );
    }
}

#[test]
fn numbers_keep_their_digits() {
    for type_oid in [20, 21, 23, 700, 701, 1700] {
        for text in [
            "0",
            "-1",
            "19.90",
            "0.10",
            "9007199254740993",
            "1e+20",
            "1.5E-7",
            "-0",
        ] {
            check(type_oid, text, text);
        }
        for text in ["NaN", "Infinity", "-Infinity"] {
            check(type_oid, text, "null");
        }
        check_bad(
            type_oid,
            &[
                "", "-", "+1", "01", "-01", ".5", "5.", "1e", "1e+", "0x1", "1 ", " 1", "1,2",
                "1}", "--1", "inf", "nan", "1.e5", "1e5.5", "null", "\"1\"", "٣",
            ],
        );
    }
    let long = format!("{}.{}", "7".repeat(500), "1".repeat(500));
    check(1700, &long, &long);
}

#[test]
fn booleans() {
    check(16, "t", "true");
    check(16, "f", "false");
    check_bad(16, &["", "true", "T", "1"]);
}

#[test]
fn stored_json_is_spliced_after_a_check() {
    for type_oid in [114, 3802] {
        for text in ["{\"a\": [1, 2.50]}", "null", "\"x\"", "1e400", "[]"] {
            check(type_oid, text, text);
        }
        check(type_oid, " {}\n", "{}");
        check_bad(
            type_oid,
            &[
                "",
                "{",
                "{}}",
                "nul",
                "{\"a\":1},{\"b\":2}",
                "1 2",
                "\"\n\"",
                "'x'",
            ],
        );
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let object = rows(&[("v", type_oid)], &[vec![Some(deep.as_bytes())]]).json_object(0);
        assert_eq!(object.unwrap().len(), deep.len() + 6);
    }
}

#[test]
fn timestamps_are_iso_8601_in_utc() {
    check(1114, "2026-01-02 03:04:05", "\"2026-01-02T03:04:05Z\"");
    check(
        1114,
        "2026-01-02 03:04:05.678",
        "\"2026-01-02T03:04:05.678Z\"",
    );
    check(
        1114,
        "2026-01-02 03:04:05.678901",
        "\"2026-01-02T03:04:05.678901Z\"",
    );
    check(
        1184,
        "2026-01-02 03:04:05.6+00",
        "\"2026-01-02T03:04:05.6Z\"",
    );
    for type_oid in [1114, 1184] {
        check(type_oid, "infinity", "null");
        check(type_oid, "-infinity", "null");
        for text in [
            "0044-03-15 12:00:00 BC",
            "0044-03-15 12:00:00+00 BC",
            "12026-01-02 03:04:05",
            "2026-01-02 03:04:05+02",
            "2026-01-02",
            "2026-01-02 03:04:05.",
            "2026-01-02 03:04:05.1234567",
            "2026-01-02 03:04:05.12a",
            "202x-01-02 03:04:05",
            "",
        ] {
            check(type_oid, text, &format!("\"{text}\""));
        }
    }
    check(1114, "2026-01-02 03:04:05+00", "\"2026-01-02 03:04:05+00\"");
    check(1184, "2026-01-02 03:04:05", "\"2026-01-02 03:04:05\"");
    check(1114, "\" \\", "\"\\\" \\\\\"");
}

#[test]
fn everything_else_is_a_string() {
    for type_oid in [25, 1043, 1082, 2950, 0, u32::MAX] {
        check(
            type_oid,
            "a\"b\\c\n\u{1}ü\u{2028}",
            "\"a\\\"b\\\\c\\n\\u0001ü\u{2028}\"",
        );
    }
}

#[test]
fn arrays_objects_and_nulls() {
    let rows = rows(
        &[("id", 23), ("a \"key\"", 25)],
        &[vec![Some(b"1"), None], vec![None, Some(b"x")]],
    );
    let object = br#"{"id":1,"a \"key\"":null}"#;
    assert_eq!(rows.json_object(0).unwrap(), object);
    assert_eq!(rows.json_object(2).unwrap(), b"null");
    assert_eq!(
        rows.json_array().unwrap(),
        br#"[{"id":1,"a \"key\"":null},{"id":null,"a \"key\"":"x"}]"#
    );
    assert_eq!(Rows::default().json_array().unwrap(), b"[]");
    let empty = self::rows(&[], &[vec![], vec![]]);
    assert_eq!(empty.json_array().unwrap(), b"[{},{}]");
}

#[test]
fn long_keys_cannot_multiply_without_end() {
    let name = "k".repeat(PG_NAME_BYTES_MAX);
    let row: Vec<Option<&[u8]>> = vec![None];
    let many = rows(
        &[(name.as_str(), 25)],
        &vec![row; PG_RESULT_BYTES_MAX / PG_NAME_BYTES_MAX],
    );
    assert!(matches!(many.json_array(), Err(WireError::Limit(_))));
    assert!(many.json_object(0).is_ok());
    let name = "k".repeat(PG_NAME_BYTES_MAX + 1);
    let refused = answer_to_one(&answer(&[(name.as_str(), 25)], &[]));
    assert!(refused.answers.is_empty());
}

#[test]
fn escapes_stop_at_the_limit_within_one_string() {
    let text = vec![1; PG_RESULT_BYTES_MAX / 4];
    let one = rows(&[("v", 25)], &[vec![Some(text.as_slice())]]);
    assert!(matches!(one.json_object(0), Err(WireError::Limit(_))));
    assert!(matches!(one.json_array(), Err(WireError::Limit(_))));
}
