//! Static files of a site: GET and HEAD of what lies under `<sites_dir>/<site>/<content>`, and nothing outside it.
//!
//! Everything is decided by [`path`], [`open`] and [`negotiate`]; here the answer is put together. A folder is never
//! listed. Precompressed siblings (`x.br`, `x.gz`) are served in place of `x` to clients that take them.

mod negotiate;
mod open;
mod path;

use crate::body::{self, Content, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, LOCATION,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, StatusCode};
use negotiate::{Selection, Validators};
use open::{Found, Opened};
use path::SitePath;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

/// Up to this size a file is read at once, in the thread that opened it; above, it is streamed in chunks of this size.
const CHUNK: usize = 64 * 1024;

pub(crate) async fn serve<B>(sites_dir: &Path, site: &str, content: &str, request: &Request<B>) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return body::not_allowed("GET, HEAD");
    }
    let (Some(root), Some(path)) = (root(sites_dir, site, content), SitePath::parse(request.uri().path())) else {
        return not_found();
    };
    let job =
        Job { root, path, content: content.to_owned(), headers: request.headers().clone(), is_head: request.method() == Method::HEAD };
    let answer = tokio::task::spawn_blocking(move || job.run()).await;
    match answer {
        Ok(Ok(Answer::Ready(response))) => *response,
        Ok(Ok(Answer::Folder)) => redirect_to_folder(request),
        Ok(Ok(Answer::Nothing)) => not_found(),
        Ok(Err(error)) => {
            tracing::error!(%error, %site, "a file could not be read");
            body::text(StatusCode::INTERNAL_SERVER_ERROR, "The file could not be read.\n")
        }
        Err(_panic_or_shutdown) => body::text(StatusCode::INTERNAL_SERVER_ERROR, "The file could not be read.\n"),
    }
}

/// Both names come from the database; still they are held to one plain component each.
fn root(sites_dir: &Path, site: &str, content: &str) -> Option<PathBuf> {
    let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    (is_plain(site) && is_plain(content)).then(|| sites_dir.join(site).join(content))
}

enum Answer {
    Ready(Box<Response>),
    /// A folder asked for without its slash.
    Folder,
    Nothing,
}

/// What the blocking thread needs.
struct Job {
    root: PathBuf,
    path: SitePath,
    content: String,
    headers: HeaderMap,
    is_head: bool,
}

impl Job {
    fn run(self) -> std::io::Result<Answer> {
        let Some(root) = open::root(&self.root)? else { return Ok(Answer::Nothing) };
        let encodings = negotiate::accepted_encodings(&self.headers);
        let response = match open::find(&root, &self.path, &encodings)? {
            Opened::Found(found) => self.answer(found)?,
            Opened::Folder => return Ok(Answer::Folder),
            Opened::Nothing => match open::not_found_page(&root)? {
                Some(page) => self.missing(page)?,
                None => return Ok(Answer::Nothing),
            },
        };
        Ok(Answer::Ready(Box::new(response)))
    }

    fn answer(&self, found: Found) -> std::io::Result<Response> {
        let validators = Validators::new(&self.content, &found);
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(ETAG, validators.etag.clone());
        if let Some(date) = validators.last_modified() {
            headers.insert(LAST_MODIFIED, date);
        }
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        describe(&mut headers, &found);
        match negotiate::select(&self.headers, &validators, found.len) {
            Selection::Unchanged => {
                headers.remove(CONTENT_TYPE);
                headers.remove(CONTENT_ENCODING);
                Ok(body::empty(StatusCode::NOT_MODIFIED, headers))
            }
            Selection::Unsatisfiable => {
                let mut response = body::text(StatusCode::RANGE_NOT_SATISFIABLE, "The file is shorter than that.\n");
                insert(response.headers_mut(), CONTENT_RANGE, format!("bytes */{}", found.len));
                Ok(response)
            }
            Selection::Part { first, last } => {
                insert(&mut headers, CONTENT_RANGE, format!("bytes {first}-{last}/{}", found.len));
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                Ok(body::respond(StatusCode::PARTIAL_CONTENT, headers, self.read(found, first, last - first + 1)?))
            }
            Selection::Whole => {
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                let len = found.len;
                Ok(body::respond(StatusCode::OK, headers, self.read(found, 0, len)?))
            }
        }
    }

    /// The site's own page for what it does not have.
    fn missing(&self, page: Found) -> std::io::Result<Response> {
        let mut headers = HeaderMap::new();
        describe(&mut headers, &page);
        let len = page.len;
        Ok(body::respond(StatusCode::NOT_FOUND, headers, self.read(page, 0, len)?))
    }

    fn read(&self, found: Found, first: u64, len: u64) -> std::io::Result<Content> {
        let mut file = found.file;
        if first > 0 {
            file.seek(SeekFrom::Start(first))?;
        }
        // HEAD keeps the stream for its length alone; hyper never polls it.
        if len > CHUNK as u64 || self.is_head {
            let mut file = tokio::fs::File::from_std(file);
            file.set_max_buf_size(CHUNK);
            return Ok(Content::File { stream: ReaderStream::with_capacity(file.take(len), CHUNK), remaining: len });
        }
        let mut octets = Vec::with_capacity(len as usize);
        file.take(len).read_to_end(&mut octets)?;
        Ok(Content::Bytes(Bytes::from(octets)))
    }
}

/// The headers that say what a file is, not which version of it.
fn describe(headers: &mut HeaderMap, found: &Found) {
    let kind = negotiate::content_type(&found.name);
    let is_page = kind.starts_with("text/html");
    insert(headers, CONTENT_TYPE, kind);
    if let Some(encoding) = found.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
    }
    let policy = if is_page { "public, max-age=0, must-revalidate" } else { "public, max-age=3600" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn redirect_to_folder<B>(request: &Request<B>) -> Response {
    // `SitePath` refused empty components, so the path cannot start with two slashes and name another host.
    let uri = request.uri();
    let location = match uri.query() {
        Some(query) => format!("{}/?{query}", uri.path()),
        None => format!("{}/", uri.path()),
    };
    let mut headers = HeaderMap::new();
    insert(&mut headers, LOCATION, location);
    body::empty(StatusCode::PERMANENT_REDIRECT, headers)
}

fn not_found() -> Response {
    body::text(StatusCode::NOT_FOUND, "There is no such page.\n")
}

/// A value out of digits, a URI's path or a media type is always one that a header can carry.
fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
