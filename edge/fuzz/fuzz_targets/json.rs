//! JSON in requests, against the grammar and against serde_json's own tree.
#![no_main]

use edge::json::{Object, check, elements, quoted, string};
use edge::limits::JSON_DEPTH_MAX;
use edge_fuzz::grammar;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some(text) = read(input) else { return };
    let text = text.as_str();
    let tree = serde_json::from_str::<Value>(text).ok();

    let depth = grammar::depth(text.as_bytes());
    assert_eq!(
        check(text).is_ok(),
        depth.is_some_and(|depth| depth <= JSON_DEPTH_MAX)
    );
    assert!(tree.is_none() || check(text).is_ok());

    let is_object = text.trim_start().starts_with('{');
    match Object::parse(text) {
        Ok(object) => {
            assert!(is_object && check(text).is_ok());
            if let Some(Value::Object(members)) = &tree {
                for (name, value) in members {
                    let field = object.field(name).expect("a member");
                    assert_eq!(
                        serde_json::from_str::<Value>(field).as_ref().ok(),
                        Some(value)
                    );
                    assert_eq!(object.present(name).is_none(), value.is_null());
                    // As it was written, not written anew.
                    assert!(text.as_bytes().as_ptr_range().contains(&field.as_ptr()));
                }
            }
        }
        // Names are looked at closer than values: they must be Unicode.
        Err(_) => assert!(!matches!(tree, Some(Value::Object(_)))),
    }

    let is_array = depth.is_some() && text.trim_ascii_start().starts_with('[');
    let parts = elements(text);
    assert_eq!(parts.is_some(), is_array);
    if let (Some(parts), Some(Value::Array(values))) = (parts, &tree) {
        let parts: Vec<Value> = parts
            .iter()
            .map(|part| serde_json::from_str(part.get()).expect("a value"))
            .collect();
        assert_eq!(&parts, values);
    }

    assert_eq!(
        string(text).as_deref(),
        tree.as_ref().and_then(Value::as_str)
    );
    assert!(check(&quoted(text)).is_ok());
    assert_eq!(string(&quoted(text)).as_deref(), Some(text));
});

/// The first byte says how often (2ⁿ) each half of the rest comes, so that a
/// short input can nest deep.
fn read(input: &[u8]) -> Option<String> {
    let (times, text) = input.split_first()?;
    let text = str::from_utf8(text).ok()?;
    let (front, back) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let times = 1 << times.saturating_sub(0xF0).min(13);
    (times * text.len() <= 256 * 1024).then(|| front.repeat(times) + &back.repeat(times))
}
