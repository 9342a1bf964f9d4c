//! An edge, asked for one thing after another: what fills stores, waits for
//! health, and is one client of a closed loop.
//!
//! Knows HTTP. Does not judge what comes back.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::target::ANSWER_BYTES_MAX;
use crate::operation::Method;
use crate::traffic::call::Call;

/// Far beyond any deadline of the edge; a later answer is none.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// An edge to talk to.
#[derive(Debug, Clone)]
pub struct Edge {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub cache_status: String,
    pub body: Bytes,
}

impl Edge {
    /// `base` is `http://host:port`.
    pub fn at(base: &str) -> Self {
        let mut connector = HttpConnector::new();
        // Small requests must not wait for acknowledgements.
        connector.set_nodelay(true);
        Self {
            base: base.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// Nobody answers, or not in time.
    pub async fn send(&self, call: &Call) -> Result<Answer> {
        let Call {
            method,
            target,
            body,
        } = call;
        let mut request = Request::builder()
            .uri(format!("{}{target}", self.base))
            .method(match method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
                Method::Delete => hyper::Method::DELETE,
            });
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Bytes::from(body.clone().unwrap_or_default());
        let request = request
            .body(Full::new(body))
            .with_context(|| format!("{} is not a URL", self.base))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            let values = head.headers.get_all("cache-status");
            let values: Vec<&str> = values
                .iter()
                .filter_map(|value| value.to_str().ok())
                .collect();
            Ok(Answer {
                status: head.status,
                cache_status: values.join(", "),
                body: Limited::new(body, ANSWER_BYTES_MAX)
                    .collect()
                    .await
                    .map_err(anyhow::Error::from_boxed)?
                    .to_bytes(),
            })
        };
        timeout(ANSWER_WITHIN, exchange)
            .await
            .map_err(|_| {
                anyhow!(
                    "{} does not answer {target} within {ANSWER_WITHIN:?}",
                    self.base
                )
            })?
            .map_err(|error: anyhow::Error| error.context(format!("{} does not answer", self.base)))
    }
}
