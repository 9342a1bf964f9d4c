//! One line per kind of data: how long copies of it may live, and where.
//!
//! Knows names, defaults and how an operator writes other numbers. Does not
//! know what is done with them.
//!
//! The words are HTTP's: a copy is *fresh* up to its max-age (RFC 9111, section
//! 4.2), and answers beyond it only when the truth cannot be asked, up to
//! *stale-if-error* (RFC 5861, section 4). *Stale-while-revalidate* (section 3)
//! lies within the max-age here, in its last part: see [`REFRESH_FROM`].

use crate::limits;

/// The kinds of data of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Session,
    Conversation,
    Recommendations,
    Preferences,
    Generic,
    Products,
    Profile,
    Orders,
    Returns,
}

/// How long copies of one kind may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For how long an isolate answers without asking a tier below, in ms.
    pub isolate_ms: u64,
    /// How old a copy of a row may be in any tier, in ms. For what Valkey is
    /// the truth of there is no tier between, and this is the same.
    pub max_age_ms: u64,
    /// The same for the remembered absence of a row.
    pub absence_ms: u64,
    /// How long beyond that a copy answers when the truth cannot be asked, in ms.
    pub stale_if_error_ms: u64,
    /// TTL in Valkey of a value that came without one; None: it never expires.
    pub ttl_s: Option<u64>,
}

impl Policy {
    /// How old a copy of a value or row, or of its absence, may be, in ms.
    pub fn age_ms_max(&self, is_absence: bool) -> u64 {
        if is_absence {
            self.absence_ms
        } else {
            self.max_age_ms
        }
    }

    /// Whether a copy of a row may ever answer, be it in the truth's absence.
    pub fn allows_copies(&self) -> bool {
        self.max_age_ms > 0 || self.stale_if_error_ms > 0
    }
}

/// The policies of all kinds.
#[derive(Debug, Clone)]
pub struct Policies([Policy; Kind::ALL.len()]);

/// A refresh begins when this part of the max-age is over, in percent: from …
/// up to …, drawn for each copy, so that copies that were made together are not
/// refreshed together.
pub const REFRESH_FROM: (u64, u64) = (60, 80);
/// A max-age is shortened by up to this part, in percent, for the same reason.
pub const JITTER: u64 = 10;

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Session,
        Self::Conversation,
        Self::Recommendations,
        Self::Preferences,
        Self::Generic,
        Self::Products,
        Self::Profile,
        Self::Orders,
        Self::Returns,
    ];

    /// The setting that changes its policy.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Session => "POLICY_SESSION",
            Self::Conversation => "POLICY_CONVERSATION",
            Self::Recommendations => "POLICY_RECOMMENDATIONS",
            Self::Preferences => "POLICY_PREFERENCES",
            Self::Generic => "POLICY_GENERIC",
            Self::Products => "POLICY_PRODUCTS",
            Self::Profile => "POLICY_PROFILE",
            Self::Orders => "POLICY_ORDERS",
            Self::Returns => "POLICY_RETURNS",
        }
    }

    /// Of the keys that a generic route names, too: they are one keyspace.
    pub fn of_key(key: &str) -> Self {
        match key.split_once(':') {
            Some(("session", _)) => Self::Session,
            Some(("conversation", _)) => Self::Conversation,
            Some(("recommendations", _)) => Self::Recommendations,
            Some(("preferences", _)) => Self::Preferences,
            _ => Self::Generic,
        }
    }

    /// Whether PostgreSQL is the truth, and Valkey a tier between.
    pub fn is_of_rows(self) -> bool {
        matches!(
            self,
            Self::Products | Self::Profile | Self::Orders | Self::Returns
        )
    }
}

impl Policies {
    /// The defaults, with the isolate's and the rows' max-age as set for all.
    pub fn new(isolate_ms: u64, row_ms: u64) -> Self {
        // Stale-if-error is short where an old answer misleads (a session that
        // was ended, an order that is not there yet), long where it does not,
        // and none where nobody knows what a key means.
        let value = |ttl_s, stale_s: u64| Policy {
            isolate_ms,
            max_age_ms: isolate_ms,
            absence_ms: isolate_ms,
            stale_if_error_ms: stale_s * 1000,
            ttl_s,
        };
        let rows = |stale_s: u64| Policy {
            isolate_ms: isolate_ms.min(row_ms),
            max_age_ms: row_ms,
            absence_ms: row_ms.min(limits::ABSENCE_AGE_MS_MAX),
            stale_if_error_ms: stale_s * 1000,
            ttl_s: None,
        };
        Self(Kind::ALL.map(|kind| match kind {
            Kind::Session => value(Some(86_400), 30),
            Kind::Conversation => value(Some(3_600), 30),
            Kind::Recommendations => value(Some(1_800), 300),
            Kind::Preferences => value(Some(3_600), 300),
            Kind::Generic => value(None, 0),
            Kind::Products => rows(300),
            Kind::Profile | Kind::Orders | Kind::Returns => rows(60),
        }))
    }

    pub fn of(&self, kind: Kind) -> &Policy {
        let [
            session,
            conversation,
            recommendations,
            preferences,
            generic,
            products,
            profile,
            orders,
            returns,
        ] = &self.0;
        match kind {
            Kind::Session => session,
            Kind::Conversation => conversation,
            Kind::Recommendations => recommendations,
            Kind::Preferences => preferences,
            Kind::Generic => generic,
            Kind::Products => products,
            Kind::Profile => profile,
            Kind::Orders => orders,
            Kind::Returns => returns,
        }
    }

    /// Changes one policy as an operator writes it: `max-age=30,
    /// stale-if-error=60`, in seconds, like a Cache-Control field.
    ///
    /// # Errors
    /// What is allowed, as a sentence without the setting's name.
    pub fn set(&mut self, kind: Kind, text: &str) -> Result<(), String> {
        let mut policy = *self.of(kind);
        for directive in text.split(',').map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let within = |max_s: u64| {
                let seconds = value.parse().ok().filter(|seconds| *seconds <= max_s);
                seconds.ok_or_else(|| format!("{name} is a whole number of seconds up to {max_s}"))
            };
            match name {
                "isolate-max-age" => {
                    policy.isolate_ms = within(limits::L1_AGE_MS_MAX / 1000)? * 1000;
                    if !kind.is_of_rows() {
                        policy.max_age_ms = policy.isolate_ms;
                        policy.absence_ms = policy.isolate_ms;
                    }
                }
                "max-age" if kind.is_of_rows() => {
                    policy.max_age_ms = within(limits::COPY_AGE_MS_MAX / 1000)? * 1000;
                    policy.absence_ms = policy.max_age_ms.min(limits::ABSENCE_AGE_MS_MAX);
                }
                "stale-if-error" => {
                    policy.stale_if_error_ms = within(limits::STALE_IF_ERROR_S_MAX)? * 1000;
                }
                "ttl" if !kind.is_of_rows() => {
                    policy.ttl_s = Some(within(limits::TTL_S_MAX)?).filter(|ttl_s| *ttl_s > 0);
                }
                _ => {
                    let own = if kind.is_of_rows() { "max-age" } else { "ttl" };
                    return Err(format!(
                        "its directives are isolate-max-age, {own} and stale-if-error"
                    ));
                }
            }
        }
        policy.isolate_ms = policy.isolate_ms.min(policy.max_age_ms);
        if let Some(place) = Kind::ALL.iter().position(|one| *one == kind)
            && let Some(old) = self.0.get_mut(place)
        {
            *old = policy;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_line() {
        let mut policies = Policies::new(5_000, 30_000);
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            let text = format!("stale-if-error={place}");
            policies.set(kind, &text).unwrap();
        }
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            let stale_ms = policies.of(kind).stale_if_error_ms;
            assert_eq!(stale_ms, place as u64 * 1000, "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_directive_is_refused() {
        let mut policies = Policies::new(5_000, 30_000);
        for (kind, text) in [
            (Kind::Session, "max-age=3"),
            (Kind::Orders, "ttl=3"),
            (Kind::Orders, "max-age=-1"),
            (Kind::Orders, "max-age"),
            (Kind::Session, "isolate-max-age=6"),
            (Kind::Session, "stale-if-error=1.5"),
            (Kind::Session, ""),
        ] {
            assert!(policies.set(kind, text).is_err(), "{kind:?}: {text}");
        }
        assert_eq!(policies.of(Kind::Orders).max_age_ms, 30_000);
    }

    #[test]
    fn an_isolate_keeps_nothing_longer_than_any_tier_may() {
        let mut policies = Policies::new(5_000, 30_000);
        policies.set(Kind::Orders, "max-age=2").unwrap();
        assert_eq!(policies.of(Kind::Orders).isolate_ms, 2_000);
        assert_eq!(Policies::new(5_000, 0).of(Kind::Profile).isolate_ms, 0);
    }
}
