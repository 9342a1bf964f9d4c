//! Runs, replays and judges Shepherd Edge natively.
