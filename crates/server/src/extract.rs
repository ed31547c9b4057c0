//! What handlers take from a request, each with its limits, and each refusal a problem document.

use crate::App;
use crate::problem::{Kind, Problem};
use axum::body::Body as AxumBody;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use certwright_model::Hostname;
use certwright_model::authority::Role;
use certwright_model::site::SiteName;
use certwright_store::Who;
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::IntoParams;

/// Whose token it is. The gate puts it there.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Caller {
    pub(crate) fn who(&self) -> Who {
        Who { actor: self.name.clone() }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Problem::internal("a handler asks for a caller on a public route"))
    }
}

/// A JSON body of at most `TIMES` times the configured size, read within the configured time.
#[derive(Debug)]
pub(crate) struct Body<T, const TIMES: usize = 1>(pub(crate) T);

impl<T: DeserializeOwned, const TIMES: usize> FromRequest<App> for Body<T, TIMES> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(Kind::UnsupportedType, "send the body as `content-type: application/json`"));
        }
        let limit = app.config.max_body_bytes.saturating_mul(TIMES);
        let bytes = read_raw(request.into_body(), limit, app.config.read_timeout).await?;
        parse(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A body as it came, for what has to be checked byte by byte.
pub(crate) async fn read_raw(mut body: AxumBody, limit: usize, patience: Duration) -> Result<Bytes, Problem> {
    let collected = timeout(patience, Limited::new(&mut body, limit).collect()).await;
    let collected =
        collected.map_err(|_| Problem::new(Kind::TooSlow, format!("the body did not arrive within {} s", patience.as_secs())))?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let detail = format!("the body is longer than {limit} bytes");
            swallow(body, limit).await;
            Err(Problem::new(Kind::TooLarge, detail))
        }
        Err(error) => Err(Problem::new(Kind::InvalidInput, format!("the body broke off: {error}"))),
    }
}

/// A client that is still sending does not read the answer, and a connection closed on it would take the answer away: so a
/// little more is read and thrown away.
async fn swallow(mut body: AxumBody, limit: usize) {
    let mut left = limit.saturating_mul(8);
    let _ = timeout(Duration::from_secs(2), async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    })
    .await;
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::new(Kind::InvalidInput, "the body is not UTF-8"))?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // "unknown field `x`, expected …": the name is worth a member of its own.
        let field = ["unknown field `", "missing field `"].iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
        match field {
            Some(field) => Problem::invalid(field, format!("the body: {message}")),
            None => Problem::new(Kind::InvalidInput, format!("the body: {message}")),
        }
    })
}

/// The query; an unknown name is refused.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, app).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|rejection| Problem::new(Kind::InvalidInput, format!("the query: {}", rejection.body_text())))
    }
}

/// The one variable part of a path.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<App> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(text)| Self(text))
            .map_err(|rejection| Problem::new(Kind::InvalidInput, format!("the path: {}", rejection.body_text())))
    }
}

impl Segment {
    pub(crate) fn site(&self) -> Result<SiteName, Problem> {
        site_name(&self.0)
    }

    pub(crate) fn id<T: std::str::FromStr>(&self, what: &str) -> Result<T, Problem> {
        self.0
            .parse()
            .map_err(|_| Problem::invalid("id", format!("the id of a {what} is a UUID, such as 0193e9a2-7d1c-7c3a-9f64-2f8e6a1b5c0d")))
    }
}

pub(crate) fn site_name(text: &str) -> Result<SiteName, Problem> {
    SiteName::parse(text).map_err(|error| Problem::invalid("site", error.to_string()))
}

pub(crate) fn hostname(text: &str) -> Result<Hostname, Problem> {
    Hostname::parse(text).map_err(|error| Problem::invalid("domain", error.to_string()))
}

/// Text that goes into the database as it is: printable and short. PostgreSQL takes no NUL.
pub(crate) fn plain(field: &'static str, text: String, longest: usize) -> Result<String, Problem> {
    if text.is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
        return Err(Problem::invalid(field, format!("`{field}` is 1 to {longest} characters without control characters")));
    }
    Ok(text)
}

/// Where a list goes on, and how much of it.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The `next_cursor` of the page before.
    #[param(max_length = 300)]
    pub(crate) cursor: Option<String>,
    /// 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<u32>,
}

impl PageQuery {
    pub(crate) fn check(self) -> Result<(Option<String>, u32), Problem> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=1000).contains(&limit) {
            return Err(Problem::invalid("limit", "`limit` is 1 to 1000"));
        }
        let cursor = self.cursor.map(|cursor| plain("cursor", cursor, 300)).transpose()?;
        Ok((cursor, limit))
    }
}
