//! Valkey's connection against whatever a server sends.
#![no_main]

use edge_fuzz::{resp, script::Script};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(script) = Script::read(input, 0) else {
        return Corpus::Reject;
    };
    resp::converse(script);
    Corpus::Keep
});
