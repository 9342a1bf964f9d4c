//! Promises broken on purpose, one at a time, so that a test can show that it
//! would notice. Compiled in only with the feature `mutations`, which no Worker
//! is built with.

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// An isolate keeps its copy when it writes.
    OwnWriteIsNotSeen,
    /// A load that was overtaken fills L1 all the same.
    OvertakenLoadFills,
    /// A copy from L2 is as young as the request that found it.
    AgeRestarts,
    /// Nobody tells L2 of a write.
    WriteDoesNotInvalidate,
    /// L2 is filled without its lease.
    FillNeedsNoLease,
    /// What cannot be asked is not there.
    OutageIsMiss,
    /// A second attempt at an insert has another id.
    IdForEachAttempt,
    /// A request joins any load that is under way.
    JoinsAnyLoad,
    /// A copy answers however old it is, and nobody refreshes it.
    StaleForEver,
    /// A copy in L2 answers although the isolate has answered with newer rows.
    IsolateGoesBack,
    /// A change behind the edge counts as told, and nobody was told.
    ChangeIsNotTold,
}

impl Mutation {
    pub const ALL: [Self; 11] = [
        Self::OwnWriteIsNotSeen,
        Self::OvertakenLoadFills,
        Self::AgeRestarts,
        Self::WriteDoesNotInvalidate,
        Self::FillNeedsNoLease,
        Self::OutageIsMiss,
        Self::IdForEachAttempt,
        Self::JoinsAnyLoad,
        Self::StaleForEver,
        Self::IsolateGoesBack,
        Self::ChangeIsNotTold,
    ];
}

#[cfg(feature = "mutations")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Breaks a promise on this thread, or none.
#[cfg(feature = "mutations")]
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

/// Whether that promise is broken.
#[cfg(feature = "mutations")]
pub fn is(mutation: Mutation) -> bool {
    CHOSEN.get() == Some(mutation)
}

#[cfg(not(feature = "mutations"))]
pub const fn is(_: Mutation) -> bool {
    false
}
