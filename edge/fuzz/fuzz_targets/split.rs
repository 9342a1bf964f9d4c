//! Both protocols: what a server sends means the same wherever it is cut.
//!
//! The first byte chooses the protocol; the rest is a script, whose first cut
//! makes the chunks and whose second cuts these once more.
#![no_main]

use edge_fuzz::{pg, resp, script::Script};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&protocol, input)) = input.split_first() else {
        return Corpus::Reject;
    };
    let read = || {
        let script = match protocol & 1 {
            0 => pg::script(input),
            _ => Script::read(input, 0),
        };
        let mut script = script.filter(|script| script.len() <= 64 * 1024)?;
        let [chunk, piece] = script.cuts;
        script.cuts = [chunk; 2];
        Some((script, piece.max(1)))
    };
    let (Some((whole, _)), Some((cut, piece))) = (read(), read()) else {
        return Corpus::Reject;
    };
    if protocol & 1 == 0 {
        let scram = pg::scram();
        assert_eq!(
            pg::outcome(whole, usize::MAX, scram.clone()),
            pg::outcome(cut, piece, scram)
        );
    } else {
        let (whole, cut) = (resp::outcome(whole, usize::MAX), resp::outcome(cut, piece));
        // As text, in which NaN is equal to itself.
        assert_eq!(format!("{whole:?}"), format!("{cut:?}"));
    }
    Corpus::Keep
});
