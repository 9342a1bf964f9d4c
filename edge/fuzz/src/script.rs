//! A fuzzer's input, read as what a server sends and where that is cut.
//!
//! ```text
//! situation  form  cut  cut  tail  bytes of the server …
//! ```
//!
//! The bytes of the server are in one piece, so that the fuzzer can move and
//! join them; how they are cut stands in front.

/// How many bytes a server may send in all, so that no run takes long. Enough
/// to reach every limit but those of 16 MiB and more on values, which the unit
/// tests reach.
const SENT_BYTES_MAX: usize = 2 << 20;
const HEADER_BYTES: usize = 5;

pub struct Script {
    /// Which login, how many statements or commands.
    pub situation: u8,
    /// Sizes of the chunks, in turn; 0 is all that is left.
    pub cuts: [usize; 2],
    bytes: Vec<u8>,
    at: usize,
    turn: usize,
}

impl Script {
    /// `raw` bytes in front of the messages are never framed.
    ///
    /// Form: with the lowest bit, the bytes are read as messages of PostgreSQL
    /// with a length of one byte, and get the right one; so a change of length
    /// leaves a message whole. The upper four bits say how often (2ⁿ) the last
    /// `tail` bytes come.
    pub fn read(input: &[u8], raw: usize) -> Option<Self> {
        let (&[situation, form, cut, other_cut, tail], rest) =
            input.split_first_chunk::<HEADER_BYTES>()?;
        let (raw, rest) = rest.split_at_checked(raw)?;
        let mut bytes = raw.to_vec();
        if form & 1 == 1 {
            frame(rest, &mut bytes);
        } else {
            bytes.extend_from_slice(rest);
        }
        let tail = bytes.split_off(bytes.len().saturating_sub(tail.into()));
        let most = SENT_BYTES_MAX / tail.len().max(1);
        bytes.extend(tail.repeat((1 << (form >> 4)).min(most)));
        let script = Self {
            situation,
            cuts: [cut.into(), other_cut.into()],
            bytes,
            at: 0,
            turn: 0,
        };
        (!script.is_slow()).then_some(script)
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next chunk; None at the end.
    pub fn next_chunk(&mut self) -> Option<&[u8]> {
        let left = self.bytes.get(self.at..).filter(|left| !left.is_empty())?;
        // A long stream is not cut into single bytes: that only takes time.
        let least = self.bytes.len() / 1024;
        let size = match self.cuts[self.turn % self.cuts.len()] {
            0 => left.len(),
            cut => left.len().min(cut.max(least)),
        };
        self.turn += 1;
        self.at += size;
        Some(&left[..size])
    }

    /// What was sent until now.
    pub fn sent(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    /// Replaces what was left open in the bytes that are still to come.
    pub fn replace(&mut self, mark: &[u8], by: &[u8]) {
        assert_eq!(mark.len(), by.len());
        let mut place = self.at;
        while let Some(found) = find(&self.bytes[place..], mark) {
            place += found;
            self.bytes[place..place + by.len()].copy_from_slice(by);
            place += by.len();
        }
    }

    /// SCRAM iterations that are allowed and take a fuzzer's time.
    fn is_slow(&self) -> bool {
        let mut rest = &self.bytes[..];
        while let Some(found) = find(rest, b",i=") {
            rest = &rest[found + 3..];
            let count =
                rest.iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .fold(0_u64, |count, digit| {
                        count
                            .saturating_mul(10)
                            .saturating_add(u64::from(digit - b'0'))
                    });
            if (100..=u64::from(edge::limits::SCRAM_ITERATIONS_MAX)).contains(&count) {
                return true;
            }
        }
        false
    }
}

fn frame(mut rest: &[u8], bytes: &mut Vec<u8>) {
    while let [tag, length, body @ ..] = rest {
        let (body, after) = body.split_at(usize::from(*length).min(body.len()));
        bytes.push(*tag);
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        rest = after;
    }
}

pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
