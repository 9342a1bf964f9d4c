//! The settings, read by name from whatever the host offers.
//!
//! Knows names and defaults. Does not know where a host keeps its variables.
//! A sentence about a setting names it and never repeats its value. Nothing
//! malformed is silently replaced by a default: it is answered with 503.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;

use url::Url;

use crate::error::{Error, Fault, Store};
use crate::host::{Address, Tls};
use crate::limits;
use crate::policy::{Kind, Policies};
use crate::tiers::memory::L1Policy;
use crate::trace::Tracing;
use crate::wire::pg::{self, SslMode};
use crate::wire::resp;

/// PostgreSQL: where, and how to log in.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub address: Address,
    pub login: pg::Login,
}

/// Valkey: where, and how to log in.
#[derive(Debug, Clone)]
pub struct Valkey {
    pub address: Address,
    pub tls: Tls,
    pub login: resp::Login,
}

/// Who has the connections to the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Each request, for as long as it takes.
    Direct,
    /// So many gateways, which keep them from one request to the next.
    Gateway { shards: u64 },
}

/// Everything that an operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    postgres: Result<Postgres, String>,
    valkey: Result<Arc<Valkey>, String>,
    /// Origins that a browser may call from; `*` for any.
    pub origins: Vec<String>,
    pub backend: Backend,
    pub l1_bytes: u64,
    pub l1_policy: L1Policy,
    pub policies: Policies,
    /// How long Valkey may take for a request, in ms.
    pub valkey_deadline_ms: u64,
    /// How long a request that needs PostgreSQL may take in all, in ms.
    pub postgres_deadline_ms: u64,
    /// Failures in a row after which a store is left alone for a moment; 0: never.
    pub breaker_failures: u64,
    /// How often L2 is told of changes behind the edge, in ms; None: nobody said.
    pub changes_every_ms: Option<u64>,
    /// None: off.
    pub tracing: Option<Tracing>,
}

const ORIGINS_DEFAULT: &str = "http://localhost:5173,http://localhost:8080,http://localhost:3000";

impl Settings {
    /// Reads every setting. A store that is not set up well answers with its
    /// own sentence; the other one still works. Any other malformed setting is
    /// answered by both.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let malformed = RefCell::new(None);
        let complain = |what: String| {
            malformed.borrow_mut().get_or_insert(what);
        };
        let number = |name: &str, default: u64, range: RangeInclusive<u64>| {
            let Some(text) = set(name) else {
                return default;
            };
            let given = text.parse().ok().filter(|number| range.contains(number));
            given.unwrap_or_else(|| {
                let (from, to) = range.into_inner();
                complain(format!("{name} is a whole number from {from} to {to}"));
                default
            })
        };
        let mut settings = Self {
            postgres: postgres(&set),
            valkey: valkey(&set).map(Arc::new),
            origins: origins(&set("CORS_ORIGINS").unwrap_or_else(|| ORIGINS_DEFAULT.to_owned()))
                .unwrap_or_else(|what| {
                    complain(what);
                    Vec::new()
                }),
            backend: match set("BACKEND").as_deref() {
                None | Some("direct") => Backend::Direct,
                Some("gateway") => Backend::Gateway {
                    shards: number(
                        "GATEWAY_SHARDS",
                        limits::GATEWAY_SHARDS_DEFAULT,
                        1..=limits::GATEWAY_SHARDS_MAX,
                    ),
                },
                Some(_) => {
                    complain("BACKEND is direct or gateway".to_owned());
                    Backend::Direct
                }
            },
            l1_bytes: number(
                "L1_BYTES",
                limits::L1_BYTES_DEFAULT,
                0..=limits::L1_BYTES_MAX,
            ),
            l1_policy: match set("L1_POLICY").as_deref() {
                None | Some("adaptive") => L1Policy::Adaptive,
                Some("moka") => L1Policy::Moka,
                Some(_) => {
                    complain("L1_POLICY is adaptive or moka".to_owned());
                    L1Policy::Adaptive
                }
            },
            policies: Policies::new(
                number(
                    "L1_MAX_AGE_MS",
                    limits::L1_AGE_MS_MAX,
                    0..=limits::L1_AGE_MS_MAX,
                ),
                number("COPY_MAX_AGE_MS", 30_000, 0..=limits::COPY_AGE_MS_MAX),
            ),
            valkey_deadline_ms: number("VALKEY_DEADLINE_MS", 900, 1..=limits::DEADLINE_MS_MAX),
            postgres_deadline_ms: number("POSTGRES_DEADLINE_MS", 900, 1..=limits::DEADLINE_MS_MAX),
            breaker_failures: number(
                "BREAKER_FAILURES",
                limits::BREAKER_FAILURES_DEFAULT,
                0..=limits::BREAKER_FAILURES_MAX,
            ),
            changes_every_ms: set("CHANGES_EVERY_MS").map(|_| {
                number(
                    "CHANGES_EVERY_MS",
                    limits::CHANGES_EVERY_MS_DEFAULT,
                    limits::CHANGES_EVERY_MS_MIN..=limits::CHANGES_EVERY_MS_MAX,
                )
            }),
            tracing: tracing(&set).unwrap_or_else(|what| {
                complain(what);
                None
            }),
        };
        for kind in Kind::ALL {
            if let Some(text) = set(kind.setting())
                && let Err(what) = settings.policies.set(kind, &text)
            {
                complain(format!("{}: {what}", kind.setting()));
            }
        }
        if let Some(what) = malformed.into_inner() {
            settings.postgres = Err(what.clone());
            settings.valkey = Err(what);
        }
        settings
    }

    /// # Errors
    /// PostgreSQL's settings are missing or malformed.
    pub fn postgres(&self) -> Result<&Postgres, Error> {
        self.postgres
            .as_ref()
            .map_err(|what| Error::Store(Store::Postgres, Fault::Settings(what.clone())))
    }

    /// # Errors
    /// Valkey's settings are missing or malformed.
    pub fn valkey(&self) -> Result<&Arc<Valkey>, Error> {
        self.valkey
            .as_ref()
            .map_err(|what| Error::Store(Store::Valkey, Fault::Settings(what.clone())))
    }
}

type Set<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Origins as browsers send them (RFC 6454, section 6.2), or `*`.
fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins = text.split(',').map(str::trim).map(|origin| {
        let same = |url: Url| url.origin().ascii_serialization() == origin;
        if origin == "*" || Url::parse(origin).is_ok_and(same) {
            Ok(origin.to_owned())
        } else {
            Err(
                "CORS_ORIGINS is a list like https://shop.example,http://localhost:5173 (no path, no slash at the end), or *",
            )
        }
    });
    origins.collect::<Result<_, _>>().map_err(str::to_owned)
}

fn tracing(set: Set) -> Result<Option<Tracing>, String> {
    let Some(text) = set("TRACE_SAMPLE") else {
        return Ok(None);
    };
    let share: f64 = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or("TRACE_SAMPLE is a number from 0 to 1")?;
    if share == 0.0 {
        return Ok(None);
    }
    let key = set("TRACE_KEY")
        .filter(|key| key.len() >= limits::TRACE_KEY_BYTES_MIN)
        .ok_or_else(|| {
            let least = limits::TRACE_KEY_BYTES_MIN;
            format!(
                "TRACE_KEY is a secret of at least {least} characters where TRACE_SAMPLE is above 0"
            )
        })?;
    Ok(Some(Tracing::new(share, &key)))
}

fn postgres(set: Set) -> Result<Postgres, String> {
    // A binding, not a variable: only the Workers host answers to this name.
    if let Some(text) = set("HYPERDRIVE") {
        let mut postgres = postgres_url("HYPERDRIVE", &text)?;
        postgres.login.ssl = SslMode::Private;
        return Ok(postgres);
    }
    if let Some(text) = set("DATABASE_URL") {
        return postgres_url("DATABASE_URL", &text);
    }
    let need =
        |name: &str| set(name).ok_or_else(|| format!("{name} is not set (nor is DATABASE_URL)"));
    Ok(Postgres {
        address: Address {
            host: need("VULTR_POSTGRES_HOST")?,
            port: port(set, "VULTR_POSTGRES_PORT", 5432)?,
        },
        login: pg::Login {
            user: need("VULTR_POSTGRES_USER")?,
            password: set("VULTR_POSTGRES_PASSWORD"),
            database: need("VULTR_POSTGRES_DATABASE")?,
            ssl: match set("VULTR_POSTGRES_SSL") {
                None => SslMode::VerifyFull,
                Some(text) => ssl_mode(&text).ok_or(
                    "VULTR_POSTGRES_SSL is one of disable, require, verify-full, true, false",
                )?,
            },
        },
    })
}

fn postgres_url(name: &str, text: &str) -> Result<Postgres, String> {
    let malformed =
        || format!("{name} is malformed: write postgres://user:password@host:port/database");
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
        .ok_or_else(malformed)?;
    let mut ssl = SslMode::VerifyFull;
    for (parameter, value) in url.query_pairs() {
        if parameter == "sslmode" {
            ssl = ssl_mode(&value).ok_or_else(|| {
                format!("{name}: sslmode is one of disable, require, verify-full")
            })?;
        }
    }
    let user = decoded(url.username());
    let database = decoded(url.path().trim_start_matches('/'));
    if user.is_empty() || database.is_empty() {
        return Err(malformed());
    }
    Ok(Postgres {
        address: address(&url, 5432).ok_or_else(malformed)?,
        login: pg::Login {
            user,
            password: url.password().map(decoded),
            database,
            ssl,
        },
    })
}

fn valkey(set: Set) -> Result<Valkey, String> {
    if let Some(text) = set("VALKEY_URL") {
        let url = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "valkey" | "valkeys" | "redis" | "rediss"))
            .ok_or("VALKEY_URL is malformed: write valkeys://user:password@host:port (valkey:// without TLS)")?;
        let user = decoded(url.username());
        return Ok(Valkey {
            address: address(&url, 6379).ok_or("VALKEY_URL names no host")?,
            tls: if url.scheme().ends_with('s') && url.scheme() != "redis" {
                Tls::AtOnce
            } else {
                Tls::Off
            },
            login: resp::Login {
                user: Some(user).filter(|user| !user.is_empty()),
                password: url.password().map(decoded),
            },
        });
    }
    Ok(Valkey {
        address: Address {
            host: set("VULTR_VALKEY_HOST")
                .ok_or("VULTR_VALKEY_HOST is not set (nor is VALKEY_URL)")?,
            port: port(set, "VULTR_VALKEY_PORT", 6379)?,
        },
        tls: match set("VULTR_VALKEY_TLS").as_deref() {
            None | Some("true" | "1") => Tls::AtOnce,
            Some("false" | "0") => Tls::Off,
            Some(_) => return Err("VULTR_VALKEY_TLS is true or false".to_owned()),
        },
        login: resp::Login {
            user: set("VULTR_VALKEY_USER"),
            password: set("VULTR_VALKEY_PASSWORD"),
        },
    })
}

fn ssl_mode(text: &str) -> Option<SslMode> {
    match text {
        "disable" | "false" => Some(SslMode::Disable),
        "require" => Some(SslMode::Require),
        "verify-full" | "true" => Some(SslMode::VerifyFull),
        _ => None,
    }
}

fn port(set: Set, name: &str, default: u16) -> Result<u16, String> {
    set(name).map_or(Ok(default), |text| {
        text.parse()
            .map_err(|_| format!("{name} is not a port number"))
    })
}

fn address(url: &Url, port: u16) -> Option<Address> {
    Some(Address {
        host: url.host_str().filter(|host| !host.is_empty())?.to_owned(),
        port: url.port().unwrap_or(port),
    })
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Settings {
        Settings::read(&|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_missing_setting_is_named() {
        let settings = read(&[]);
        assert!(
            settings
                .postgres()
                .unwrap_err()
                .to_string()
                .contains("VULTR_POSTGRES_HOST")
        );
        assert!(
            settings
                .valkey()
                .unwrap_err()
                .to_string()
                .contains("VULTR_VALKEY_HOST")
        );
    }

    #[test]
    fn urls_are_read_and_decoded() {
        let settings = read(&[
            (
                "DATABASE_URL",
                "postgres://u%40x:p%3Aw@db:6000/shop?sslmode=disable",
            ),
            ("VALKEY_URL", "valkey://:secret@kv:6400"),
        ]);
        let postgres = settings.postgres().unwrap();
        assert_eq!(
            postgres.address,
            Address {
                host: "db".into(),
                port: 6000
            }
        );
        assert_eq!(postgres.login.user, "u@x");
        assert_eq!(postgres.login.password.as_deref(), Some("p:w"));
        assert_eq!(postgres.login.ssl, SslMode::Disable);
        let valkey = settings.valkey().unwrap();
        assert_eq!(valkey.tls, Tls::Off);
        assert_eq!(valkey.login.password.as_deref(), Some("secret"));
    }

    #[test]
    fn a_malformed_setting_is_named_and_its_value_is_not_repeated() {
        let settings = read(&[
            ("DATABASE_URL", "hunter2"),
            ("VULTR_VALKEY_HOST", "h"),
            ("VULTR_VALKEY_PORT", "hunter3"),
        ]);
        let postgres = settings.postgres().unwrap_err().to_string();
        let valkey = settings.valkey().unwrap_err().to_string();
        assert!(postgres.contains("DATABASE_URL") && !postgres.contains("hunter2"));
        assert!(valkey.contains("VULTR_VALKEY_PORT") && !valkey.contains("hunter3"));
    }

    #[test]
    fn no_malformed_setting_is_replaced_by_a_default() {
        let stores = [
            ("DATABASE_URL", "postgres://u:p@db/shop"),
            ("VALKEY_URL", "valkey://kv"),
        ];
        for (name, value) in [
            ("L1_BYTES", "32MiB"),
            ("L1_BYTES", "99999999999"),
            ("L1_POLICY", "lru"),
            ("L1_MAX_AGE_MS", "5001"),
            ("L1_MAX_AGE_MS", "-1"),
            ("COPY_MAX_AGE_MS", "1e3"),
            ("VALKEY_DEADLINE_MS", "0"),
            ("POSTGRES_DEADLINE_MS", "soon"),
            ("POLICY_ORDERS", "max-age=soon"),
            ("CORS_ORIGINS", "https://shop.example/"),
            ("CORS_ORIGINS", "shop.example"),
            ("TRACE_SAMPLE", "1.1"),
            ("TRACE_SAMPLE", "NaN"),
            ("TRACE_SAMPLE", "all"),
        ] {
            let settings = read(&[stores[0], stores[1], (name, value)]);
            for error in [
                settings.postgres().map(|_| ()).unwrap_err(),
                settings.valkey().map(|_| ()).unwrap_err(),
            ] {
                assert_eq!(error.status(), 503);
                assert!(error.to_string().starts_with(name), "{error}");
            }
        }
        let settings = read(&[
            stores[0],
            stores[1],
            ("CORS_ORIGINS", "*, https://a.example:8443"),
        ]);
        assert!(settings.postgres().is_ok() && settings.valkey().is_ok());
        assert_eq!(settings.origins, ["*", "https://a.example:8443"]);
    }

    #[test]
    fn nobody_is_traced_without_a_key_that_cannot_be_guessed() {
        let stores = [
            ("DATABASE_URL", "postgres://u:p@db/shop"),
            ("VALKEY_URL", "valkey://kv"),
        ];
        let with = |more: &[(&str, &str)]| read(&[stores.as_slice(), more].concat());
        for more in [
            [("TRACE_SAMPLE", "0.1"), ("TRACE_KEY", "")],
            [("TRACE_SAMPLE", "1"), ("TRACE_KEY", "hunter2")],
        ] {
            let error = with(&more).valkey().map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("TRACE_KEY"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let key = ("TRACE_KEY", "0123456789abcdef");
        let traced = with(&[("TRACE_SAMPLE", "0.1"), key]);
        assert!(traced.valkey().is_ok() && traced.tracing.is_some());
        assert!(!format!("{traced:?}").contains(key.1));
        assert!(with(&[("TRACE_SAMPLE", "0")]).valkey().is_ok());
        assert!(with(&[key]).tracing.is_none());
    }

    #[test]
    fn only_a_hyperdrive_binding_makes_a_private_channel() {
        let binding = "postgres://u:p@hash.hyperdrive.local:5432/shop?sslmode=disable";
        let settings = read(&[("HYPERDRIVE", binding), ("DATABASE_URL", "nonsense")]);
        assert_eq!(settings.postgres().unwrap().login.ssl, SslMode::Private);
        let settings = read(&[("DATABASE_URL", "postgres://u@db/shop?sslmode=private")]);
        assert!(settings.postgres().is_err());
    }
}
