//! PostgreSQL's connection against whatever a server sends.
#![no_main]

use edge_fuzz::pg;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(script) = pg::script(input) else {
        return Corpus::Reject;
    };
    pg::converse(script);
    Corpus::Keep
});
