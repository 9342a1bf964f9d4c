//! SASLprep (RFC 4013) as PostgreSQL does it (`src/common/saslprep.c`), which
//! decides what it keeps of a password, and so what proves to know it.
//!
//! Unlike the RFC, PostgreSQL looks for what is prohibited before it normalizes,
//! and takes a password that SASLprep refuses as it is.
//!
//! It does not know NFKC, whose tables every platform has, and no Wasm carries.
//! What is left out is the table D.2 of RFC 3454: what reads from left to right
//! is told by being a letter. That is wrong for some symbols, digits and vowel
//! signs, and matters where one stands amid text from right to left.

use std::borrow::Cow;

use stringprep::tables;

pub(super) fn saslprep(password: &str, nfkc: fn(&str) -> String) -> Cow<'_, str> {
    // Also with control characters, which the RFC prohibits.
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let mapped: String = password.chars().filter_map(map).collect();
    if mapped.is_empty() || mapped.contains(is_prohibited) || is_mixed(&mapped) {
        return Cow::Borrowed(password);
    }
    Cow::Owned(nfkc(&mapped))
}

/// RFC 4013, section 2.1.
fn map(c: char) -> Option<char> {
    if tables::non_ascii_space_character(c) {
        return Some(' ');
    }
    (!tables::commonly_mapped_to_nothing(c)).then_some(c)
}

/// Sections 2.3 and 2.5.
fn is_prohibited(c: char) -> bool {
    tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// Section 2.4: text from right to left, but not all of it.
fn is_mixed(text: &str) -> bool {
    text.contains(is_right_to_left)
        && (text.contains(is_left_to_right)
            || !text.starts_with(is_right_to_left)
            || !text.ends_with(is_right_to_left))
}

/// Table D.1 of RFC 3454, which is not the Unicode of today.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{05BE}' | '\u{05C0}' | '\u{05C3}' | '\u{05D0}'..='\u{05EA}'
        | '\u{05F0}'..='\u{05F4}' | '\u{061B}' | '\u{061F}' | '\u{0621}'..='\u{063A}'
        | '\u{0640}'..='\u{064A}' | '\u{066D}'..='\u{066F}' | '\u{0671}'..='\u{06D5}'
        | '\u{06DD}' | '\u{06E5}'..='\u{06E6}' | '\u{06FA}'..='\u{06FE}'
        | '\u{0700}'..='\u{070D}' | '\u{0710}' | '\u{0712}'..='\u{072C}'
        | '\u{0780}'..='\u{07A5}' | '\u{07B1}' | '\u{200F}' | '\u{FB1D}'
        | '\u{FB1F}'..='\u{FB28}' | '\u{FB2A}'..='\u{FB36}' | '\u{FB38}'..='\u{FB3C}'
        | '\u{FB3E}' | '\u{FB40}'..='\u{FB41}' | '\u{FB43}'..='\u{FB44}'
        | '\u{FB46}'..='\u{FBB1}' | '\u{FBD3}'..='\u{FD3D}' | '\u{FD50}'..='\u{FD8F}'
        | '\u{FD92}'..='\u{FDC7}' | '\u{FDF0}'..='\u{FDFC}' | '\u{FE70}'..='\u{FE74}'
        | '\u{FE76}'..='\u{FEFC}')
}

/// A letter outside of the blocks of D.1, whose vowel signs belong to no side.
fn is_left_to_right(c: char) -> bool {
    c.is_alphabetic() && !matches!(c, '\u{0590}'..='\u{07BF}' | '\u{FB1D}'..='\u{FEFC}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn prepared(password: &str) -> Cow<'_, str> {
        saslprep(password, |text| text.nfkc().collect())
    }

    /// What a real PostgreSQL says to these is tried in `sim/tests/scram.rs`.
    #[test]
    fn passwords_become_what_postgresql_keeps() {
        for (password, expected) in [
            // RFC 4013, section 3.
            ("I\u{AD}X", "IX"),
            ("\u{AA}", "a"),
            ("\u{2168}", "IX"),
            ("u\u{308}ber", "über"),
            ("a\u{3000}b\u{200B}c", "a b c"),
            ("\u{645}\u{6CC}\u{200C}\u{62E}", "\u{645}\u{6CC}\u{62E}"),
        ] {
            assert_eq!(prepared(password), expected);
        }
    }

    #[test]
    fn what_is_refused_stays_as_it_is() {
        for password in [
            "\u{7}",
            "\u{AD}",
            "u\u{308}\u{7}",
            "u\u{308}\u{E000}",
            "u\u{308}\u{340}",
            // A smile is younger than Unicode 3.2.
            "u\u{308}\u{1F600}",
            "\u{627}\u{AD}1",
            "\u{627}\u{AD}a\u{628}",
        ] {
            assert_eq!(prepared(password), password);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(password in ".*", marks in "[\\u{5BE}-\\u{7B1}\u{AD}a1]*") {
            prepared(&password);
            prepared(&marks);
        }

        #[test]
        fn ascii_stays_as_it_is(password in "[\\x00-\\x7f]*") {
            prop_assert_eq!(prepared(&password), password.as_str());
        }
    }
}
