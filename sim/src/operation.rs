//! What is measured: the operations of the API, and the whole voice query.
//!
//! Knows the routes, what each does to which kind of data, and the integration
//! guide's targets. Does not know what is asked for, nor who answers.

use edge::policy::Kind;

/// A row of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Session,
    Preferences,
    Recommendations,
    Products,
    Profile,
    Orders,
    Returns,
    Conversation,
    Generic,
    StoreSession,
    TouchSession,
    DeleteSession,
    StorePreferences,
    StoreRecommendations,
    StoreContext,
    StoreGeneric,
    DeleteGeneric,
    SaveProfile,
    CreateOrder,
    CreateReturn,
    /// Requests of one client that are sent one after the other: the guide's flow.
    VoiceQuery,
    /// An unknown path: what a request costs before any tier is asked.
    Floor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    pub const ALL: [Self; 3] = [Self::Get, Self::Post, Self::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// What an operation does to the thing that its key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Read,
    /// Makes it, or another content of it.
    Write,
    /// Prolongs its life.
    Touch,
    Delete,
    /// Nothing that a tier knows of.
    None,
}

/// Where the key stands in a route.
pub const KEY: &str = "{key}";

impl Operation {
    pub const ALL: [Self; 22] = [
        Self::Session,
        Self::Preferences,
        Self::Recommendations,
        Self::Products,
        Self::Profile,
        Self::Orders,
        Self::Returns,
        Self::Conversation,
        Self::Generic,
        Self::StoreSession,
        Self::TouchSession,
        Self::DeleteSession,
        Self::StorePreferences,
        Self::StoreRecommendations,
        Self::StoreContext,
        Self::StoreGeneric,
        Self::DeleteGeneric,
        Self::SaveProfile,
        Self::CreateOrder,
        Self::CreateReturn,
        Self::VoiceQuery,
        Self::Floor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session lookup",
            Self::Preferences => "preferences",
            Self::Recommendations => "recommendations",
            Self::Products => "products",
            Self::Profile => "user profile",
            Self::Orders => "orders of a user",
            Self::Returns => "returns of a user",
            Self::Conversation => "conversation",
            Self::Generic => "other key",
            Self::StoreSession => "store session",
            Self::TouchSession => "touch session",
            Self::DeleteSession => "delete session",
            Self::StorePreferences => "store preferences",
            Self::StoreRecommendations => "store recommendations",
            Self::StoreContext => "store context",
            Self::StoreGeneric => "store other key",
            Self::DeleteGeneric => "delete other key",
            Self::SaveProfile => "save profile",
            Self::CreateOrder => "create order",
            Self::CreateReturn => "create return",
            Self::VoiceQuery => "voice query (all)",
            Self::Floor => "unknown path",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.name() == name)
    }

    /// Method, and route below `/api/vultr` with [`KEY`] where the key stands.
    /// For products and returns it stands for the whole query, as it decides
    /// what is found; a voice query has no route.
    pub fn route(self) -> (Method, &'static str) {
        use Method::{Delete, Get, Post};
        match self {
            Self::Session => (Get, "/valkey/session/{key}"),
            Self::Preferences => (Get, "/valkey/cache/preferences/{key}"),
            Self::Recommendations => (Get, "/valkey/cache/recommendations/{key}"),
            Self::Products => (Get, "/postgres/products?{key}"),
            Self::Profile => (Get, "/postgres/users/{key}/profile"),
            Self::Orders => (Get, "/postgres/users/{key}/orders"),
            Self::Returns => (Get, "/postgres/returns?{key}"),
            Self::Conversation => (Get, "/valkey/cache/conversation/{key}"),
            Self::Generic => (Get, "/valkey/cache/{key}"),
            Self::StoreSession => (Post, "/valkey/session/{key}"),
            Self::TouchSession => (Post, "/valkey/session/{key}/touch"),
            Self::DeleteSession => (Delete, "/valkey/session/{key}"),
            Self::StorePreferences => (Post, "/valkey/cache/preferences/{key}"),
            Self::StoreRecommendations => (Post, "/valkey/cache/recommendations/{key}"),
            Self::StoreContext => (Post, "/valkey/cache/conversation/{key}"),
            Self::StoreGeneric => (Post, "/valkey/cache/{key}"),
            Self::DeleteGeneric => (Delete, "/valkey/cache/{key}"),
            Self::SaveProfile => (Post, "/postgres/users/{key}/profile"),
            Self::CreateOrder => (Post, "/postgres/orders"),
            Self::CreateReturn => (Post, "/postgres/returns"),
            Self::VoiceQuery => (Get, ""),
            Self::Floor => (Get, "/status"),
        }
    }

    /// The one with this method and route; none for a voice query.
    pub fn of_route(method: Method, route: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|operation| !route.is_empty() && operation.route() == (method, route))
    }

    /// What its key is a key of.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Session | Self::StoreSession | Self::TouchSession | Self::DeleteSession => {
                Kind::Session
            }
            Self::Preferences | Self::StorePreferences => Kind::Preferences,
            Self::Recommendations | Self::StoreRecommendations => Kind::Recommendations,
            Self::Conversation | Self::StoreContext => Kind::Conversation,
            Self::Generic | Self::StoreGeneric | Self::DeleteGeneric => Kind::Generic,
            Self::Products => Kind::Products,
            Self::Profile | Self::SaveProfile => Kind::Profile,
            Self::Orders | Self::CreateOrder => Kind::Orders,
            Self::Returns | Self::CreateReturn => Kind::Returns,
            Self::VoiceQuery | Self::Floor => return None,
        })
    }

    pub fn effect(self) -> Effect {
        match self {
            Self::VoiceQuery | Self::Floor => Effect::None,
            Self::DeleteSession | Self::DeleteGeneric => Effect::Delete,
            Self::TouchSession => Effect::Touch,
            _ if self.route().0 == Method::Get => Effect::Read,
            _ => Effect::Write,
        }
    }

    /// The integration guide's target, in ms; it names none for the others.
    pub fn target_ms(self) -> Option<u32> {
        match self {
            Self::Session => Some(10),
            Self::Preferences | Self::Recommendations => Some(5),
            Self::Products => Some(50),
            Self::Profile => Some(30),
            Self::VoiceQuery => Some(100),
            _ => None,
        }
    }

    /// Whether PostgreSQL is the truth, so that an answer may come from L3.
    pub fn has_l3(self) -> bool {
        matches!(
            self.kind(),
            Some(Kind::Products | Kind::Profile | Kind::Orders | Kind::Returns)
        )
    }
}

/// A kind of data as traces and reports name it.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session",
        Kind::Conversation => "conversation",
        Kind::Recommendations => "recommendations",
        Kind::Preferences => "preferences",
        Kind::Generic => "generic",
        Kind::Products => "products",
        Kind::Profile => "profile",
        Kind::Orders => "orders",
        Kind::Returns => "returns",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_routes_are_each_operations_own() {
        let names: HashSet<&str> = Operation::ALL.map(Operation::name).into();
        assert_eq!(names.len(), Operation::ALL.len());
        for operation in Operation::ALL {
            let (method, route) = operation.route();
            let found = Operation::of_route(method, route);
            let expected = (operation != Operation::VoiceQuery).then_some(operation);
            assert_eq!(found, expected, "{method:?} {route}");
            assert_eq!(Operation::named(operation.name()), Some(operation));
        }
    }

    #[test]
    fn every_kind_of_data_is_read_by_one_operation() {
        for kind in Kind::ALL {
            let readers = Operation::ALL
                .into_iter()
                .filter(|operation| operation.kind() == Some(kind))
                .filter(|operation| operation.effect() == Effect::Read);
            assert_eq!(readers.count(), 1, "{kind:?}");
        }
    }
}
