//! What the stores have of one thing: its versions, and in L2 the copies of its
//! rows with their leases and blocks.
//!
//! All times are those of arrival at the store, in µs.

/// Never ends by itself.
pub(super) const NEVER_US: u64 = u64::MAX;
/// How long another one may load before its lease is free.
const LEASE_US: u64 = edge::tiers::valkey::LEASE_MS * 1000;
/// Older versions nobody reads any more: requests come nearly in order.
const VERSIONS_MAX: usize = 8;

/// What was there from a moment on.
#[derive(Clone, Copy)]
pub(super) struct Version {
    pub at_us: u64,
    pub turn: u64,
    pub until_us: u64,
    pub is_there: bool,
}

impl Version {
    pub const ABSENT: Self = Self {
        at_us: 0,
        turn: 0,
        until_us: NEVER_US,
        is_there: false,
    };
    pub const FIRST: Self = Self {
        is_there: true,
        ..Self::ABSENT
    };
}

/// Rows as L2 has them.
#[derive(Clone, Copy)]
pub(super) struct Copied {
    pub read_us: u64,
    pub filled_us: u64,
    pub version: Version,
}

/// Who may fill.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    Granted,
    NotGranted,
    Blocked,
}

#[derive(Clone, Default)]
pub(super) struct Stored {
    versions: Vec<Version>,
    /// The one before, and the last one, which may not have come yet.
    copies: [Option<Copied>; 2],
    /// Taken away from … to …
    lease_us: (u64, u64),
    /// Writers block fills from … to …
    blocked_us: (u64, u64),
}

impl Stored {
    pub fn is_known(&self) -> bool {
        !self.versions.is_empty()
    }

    pub fn read(&self, now_us: u64) -> Version {
        let versions = self.versions.iter().rev();
        match versions.into_iter().find(|version| version.at_us <= now_us) {
            Some(version) if version.until_us > now_us => *version,
            _ => Version::ABSENT,
        }
    }

    pub fn write(&mut self, version: Version) {
        let at_us = version.at_us;
        let place = self.versions.partition_point(|other| other.at_us <= at_us);
        self.versions.insert(place, version);
        if self.versions.len() > VERSIONS_MAX {
            self.versions.remove(0);
        }
    }

    /// The copy that is there and was read after `after_us`, and the lease when there
    /// is none younger than `refresh_us`.
    pub fn read_copy(
        &mut self,
        now_us: u64,
        refresh_us: u64,
        after_us: u64,
    ) -> (Option<Copied>, Lease) {
        let copies = self.copies.iter().rev().flatten();
        let copy = copies
            .into_iter()
            .find(|copy| copy.filled_us <= now_us)
            .filter(|copy| copy.read_us > after_us)
            .copied();
        if copy.is_some_and(|copy| now_us - copy.read_us < refresh_us) {
            return (copy, Lease::NotGranted);
        }
        if (self.blocked_us.0..self.blocked_us.1).contains(&now_us) {
            return (copy, Lease::Blocked);
        }
        if (self.lease_us.0..self.lease_us.1).contains(&now_us) {
            return (copy, Lease::NotGranted);
        }
        self.lease_us = (now_us, now_us + LEASE_US);
        (copy, Lease::Granted)
    }

    /// Fills under the lease that was granted then, unless a writer took it away.
    pub fn fill(&mut self, leased_us: u64, filled_us: u64, version: Version) {
        if self.lease_us.0 != leased_us || self.blocked_us.1 > leased_us {
            return;
        }
        self.lease_us.1 = filled_us;
        let copied = Copied {
            read_us: leased_us,
            filled_us,
            version,
        };
        self.copies = [self.copies[1], Some(copied)];
    }

    /// All that L2 has of it is gone.
    pub fn forget_copies(&mut self) {
        self.blocked_us = (0, 0);
        self.lease_us = (0, 0);
        self.copies = [None, None];
    }

    /// A writer blocks fills between these moments, and no copy outlives them.
    pub fn invalidate(&mut self, from_us: u64, to_us: u64) {
        self.blocked_us = (from_us, to_us.max(self.blocked_us.1));
        self.lease_us = (0, 0);
        self.copies = [None, None];
    }
}
