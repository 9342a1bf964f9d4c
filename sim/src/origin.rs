//! Where a server of HTTP is: scheme, host and port (an origin, RFC 9110, section 4.3.1).
//!
//! What is read here stands in reports and in what is said to others, so that a
//! name and a password have no place in it.

use anyhow::{Context, Result, ensure};
use url::Url;

/// # Errors
/// It is none, or has more in it.
pub fn origin(text: &str) -> Result<Url> {
    // Not repeated: what cannot be read may still have a password in it.
    ensure!(
        !text.contains('@'),
        "a URL with a user or a password in it is not taken, as it would be seen in reports: write http://host:port or https://host"
    );
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| matches!(url.path(), "" | "/"))
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .with_context(|| {
            format!("{text:?} is not where a server can be: write http://host:port or https://host")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_nothing_else() -> Result<()> {
        assert_eq!(origin("http://localhost:8787")?.port(), Some(8787));
        assert_eq!(origin("https://[::1]/")?.host_str(), Some("[::1]"));
        for text in [
            "localhost:8787",
            "ftp://localhost",
            "http://",
            "http://x/api",
            "http://x?y",
            "http://x#y",
            "",
        ] {
            let error = origin(text).unwrap_err().to_string();
            assert!(error.contains("write http://host:port"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in ["http://u:hunter2@x", "//u:hunter2@", "http://hunter2@x/a b"] {
            let error = origin(text).unwrap_err().to_string();
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}
