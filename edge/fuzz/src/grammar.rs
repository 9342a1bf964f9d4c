//! The grammar of JSON (RFC 8259), as plainly as possible and without recursion.

/// How deep a JSON text nests; None when it is none.
pub fn depth(text: &[u8]) -> Option<usize> {
    let mut open: Vec<u8> = Vec::new();
    let mut deepest = 0;
    let mut rest = space(text);
    loop {
        // A value begins here.
        match rest {
            [bracket @ (b'[' | b'{'), after @ ..] => {
                open.push(bracket + 2);
                deepest = deepest.max(open.len());
                rest = space(after);
                if rest.first() != open.last() {
                    if *bracket == b'{' {
                        rest = key(rest)?;
                    }
                    continue;
                }
            }
            [b'"', ..] => rest = string(rest)?,
            _ => rest = literal(rest).or_else(|| number(rest))?,
        }
        // A value has ended, or an empty container may.
        loop {
            rest = space(rest);
            match (open.last(), rest) {
                (None, _) => return rest.is_empty().then_some(deepest),
                (Some(end), [byte, after @ ..]) if byte == end => {
                    open.pop();
                    rest = after;
                }
                (Some(end), [b',', after @ ..]) => {
                    rest = space(after);
                    if *end == b'}' {
                        rest = key(rest)?;
                    }
                    break;
                }
                _ => return None,
            }
        }
    }
}

fn space(text: &[u8]) -> &[u8] {
    let length = text
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .count();
    &text[length..]
}

/// Behind a name and its colon.
fn key(text: &[u8]) -> Option<&[u8]> {
    space(string(text)?).strip_prefix(b":").map(space)
}

fn literal(text: &[u8]) -> Option<&[u8]> {
    [&b"true"[..], b"false", b"null"]
        .into_iter()
        .find_map(|literal| text.strip_prefix(literal))
}

fn string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'u', after @ ..] => {
                let (digits, after) = after.split_at_checked(4)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(after)?
            }
            [b'\\', escape, after @ ..] => b"\"\\/bfnrt".contains(escape).then_some(after)?,
            [0x20..=0xFF, after @ ..] => after,
            _ => return None,
        };
    }
}

fn number(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match text {
        [b'0', after @ ..] => after,
        _ => digits(text)?,
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = digits(fraction)?;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let unsigned = exponent
            .strip_prefix(b"+")
            .or_else(|| exponent.strip_prefix(b"-"));
        rest = digits(unsigned.unwrap_or(exponent))?;
    }
    Some(rest)
}

/// Behind at least one digit.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then_some(&text[length..])
}
