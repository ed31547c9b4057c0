//! Calls to a server: found through the environment or the data folder, answers typed, problems told with what to do.
//!
//! Invariants: the token of a data folder is sent to that folder's server or to this machine, never elsewhere; no token is
//! part of an error.

pub(crate) mod admin;
pub(crate) mod cert;
pub(crate) mod doctor;
pub(crate) mod domain;
pub(crate) mod event;
mod follow;
pub(crate) mod site;
mod wishes;

pub(crate) use follow::{Followed, follow, settle};

use crate::args::ClientArgs;
use crate::running::{ROOT_FILE, SERVER_FILE, TOKEN_FILE, read_server_file};
use crate::settings;
use certwright_server::problem::Document;
use certwright_server::wire::Listing;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// Between two parts of an answer.
const SILENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(
        "no server is running on {}: start one with `certwright serve`, name its data folder with --data-dir DIR, or set CERTWRIGHT_URL",
        .0.display()
    )]
    NoServer(PathBuf),
    #[error("`{0}` is not the URL of a server, such as http://127.0.0.1:9440")]
    BadUrl(String),
    #[error("the token in {} cannot be read: {source}; set CERTWRIGHT_TOKEN, or run this as the user of the server", path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error("the server at {url} does not answer ({why}); start it, or name another with --url URL")]
    Unreachable { url: String, why: String },
    #[error("{}", explain(.0))]
    Problem(Box<Document>),
    #[error("the server answered {status} with something else than expected ({why}); is {url} a Certwright server of this version?")]
    Strange { url: String, status: StatusCode, why: String },
}

impl CallError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Problem(document) if document.status == 404)
    }
}

fn explain(document: &Document) -> String {
    let advice = match document.status {
        401 => "; set CERTWRIGHT_TOKEN to a valid token (`certwright token create`), or name the server's data folder with --data-dir DIR",
        403 => "; use a token of another role (`certwright token list` shows them)",
        503 => "; try again in a moment",
        _ => "",
    };
    let field = document.field.as_ref().map(|field| format!(" ({field})")).unwrap_or_default();
    format!("{}{field}: {}{advice}", document.title, document.detail)
}

pub(crate) struct Api {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Api {
    pub(crate) fn find(args: &ClientArgs) -> Result<Self, CallError> {
        let dir = settings::data_dir(args.data_dir.as_deref());
        let token = std::env::var("CERTWRIGHT_TOKEN").ok().filter(|token| !token.trim().is_empty());
        match args.url.as_deref().filter(|url| !url.trim().is_empty()) {
            Some(url) => {
                let base = parse_url(url)?;
                let own = is_loopback(&base).then(|| read_token(&dir)).transpose();
                // Without a file there is no token to send, and the server says what it needs.
                Self::new(base, token.or(own.unwrap_or_default()))
            }
            None => {
                let server = read_server_file(&dir.join(SERVER_FILE)).map_err(|_| CallError::NoServer(dir.clone()))?;
                let token = token.map_or_else(|| read_token(&dir), Ok)?;
                Self::new(parse_url(&server.url)?, Some(token))
            }
        }
    }

    fn new(base: Url, token: Option<String>) -> Result<Self, CallError> {
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).tcp_nodelay(true);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| CallError::Unreachable { url: base.to_string(), why: error.to_string() })?;
        Ok(Self { http, base, token: token.map(|token| token.trim().to_owned()) })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.ask(self.request(Method::GET, path)?).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, CallError> {
        self.ask(self.request(Method::POST, path)?.json(body)).await
    }

    pub(crate) async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.ask(self.request(Method::POST, path)?).await
    }

    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, CallError> {
        self.ask(self.request(Method::PATCH, path)?.json(body)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.ask(self.request(Method::DELETE, path)?).await
    }

    /// A list from all its pages, up to `limit`.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)], limit: usize) -> Result<Vec<T>, CallError> {
        let (mut items, mut cursor): (Vec<T>, Option<String>) = (Vec::new(), None);
        while items.len() < limit {
            let size = (limit - items.len()).min(PAGE).to_string();
            let paging = [("limit", Some(size)), ("cursor", cursor.take())].into_iter().filter_map(|(name, value)| Some((name, value?)));
            let query: Vec<(&str, String)> = query.iter().cloned().chain(paging).collect();
            let page: Listing<T> = self.ask(self.request(Method::GET, path)?.query(&query)).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(items)
    }

    /// A path is made of segments that [`segment`] has escaped.
    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|_| CallError::BadUrl(format!("{}{path}", self.base)))?;
        let request = self.http.request(method, url).header(ACCEPT, "application/json");
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let response = self.send(request).await?;
        let status = response.status();
        response.json().await.map_err(|error| self.strange(status, &error))
    }

    /// The response, if it is no error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let document: Result<Document, _> = response.json().await;
        Err(document.map_or_else(|error| self.strange(status, &error), |document| CallError::Problem(Box::new(document))))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        CallError::Unreachable { url: self.base.to_string(), why: root_cause(error) }
    }

    fn strange(&self, status: StatusCode, error: &reqwest::Error) -> CallError {
        CallError::Strange { url: self.base.to_string(), status, why: root_cause(error) }
    }
}

/// One segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'*');
    let escaped: String =
        text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect();
    // What a URL would take as "this folder" and "the one above".
    match escaped.as_str() {
        "." | ".." => escaped.replace('.', "%2E"),
        _ => escaped,
    }
}

fn parse_url(text: &str) -> Result<Url, CallError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| CallError::BadUrl(text.to_owned()))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read_token(dir: &Path) -> Result<String, CallError> {
    let path = dir.join(TOKEN_FILE);
    std::fs::read_to_string(&path).map_err(|source| CallError::Token { path, source })
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The root certificate lies beside the token.
pub(crate) fn root_file(args: &ClientArgs) -> PathBuf {
    settings::data_dir(args.data_dir.as_deref()).join(ROOT_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        for (text, escaped) in
            [("shop-1", "shop-1"), ("*.example.com", "*.example.com"), ("../x", "..%2Fx"), ("..", "%2E%2E"), ("ü?", "%C3%BC%3F")]
        {
            assert_eq!(segment(text), escaped);
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("https://example.com", false),
            ("http://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&parse_url(url).unwrap()), loopback, "{url}");
        }
        for bad in ["", "example.com", "ftp://x", "/a"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
