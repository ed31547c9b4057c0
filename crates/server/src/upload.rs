//! The multipart body of a static site: its archive goes to a file as it arrives, never into memory.
//!
//! The file is the owner's alone and is removed when the request is over, however it ends; what a killed process left is
//! removed when the server starts.

use crate::App;
use crate::extract::site_name;
use crate::problem::{Kind, Problem};
use axum::extract::multipart::{Field, Multipart, MultipartError};
use certwright_engine::content::ContentError;
use certwright_model::site::SiteName;
use http::StatusCode;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const PREFIX: &str = "upload-";

/// A file that goes with this value.
#[derive(Debug)]
pub(crate) struct Archive(PathBuf);

impl Archive {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) site: SiteName,
    pub(crate) archive: Archive,
}

pub(crate) async fn receive(app: &App, mut body: Multipart) -> Result<Upload, Problem> {
    let (mut site, mut archive) = (None, None);
    let mut left = app.config.max_upload_bytes;
    while let Some(field) = patient(app, body.next_field()).await? {
        match field.name().unwrap_or_default() {
            "site" if site.is_none() => site = Some(site_name(&short_text(app, field).await?)?),
            "zip" if archive.is_none() => archive = Some(save(app, field, &mut left).await?),
            name @ ("site" | "zip") => return Err(Problem::invalid(name, format!("the part `{name}` is there twice"))),
            other => {
                let name: String = other.chars().take(64).flat_map(char::escape_default).collect();
                return Err(Problem::invalid(name.clone(), format!("unknown part `{name}`; the parts are `site` and `zip`")));
            }
        }
    }
    let missing = |name: &str| Problem::invalid(name, format!("the part `{name}` is missing; the parts are `site` and `zip`"));
    Ok(Upload { site: site.ok_or_else(|| missing("site"))?, archive: archive.ok_or_else(|| missing("zip"))? })
}

async fn short_text(app: &App, mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = patient(app, field.chunk()).await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 256 {
            return Err(Problem::invalid("site", "the part `site` is longer than any site name"));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("site", "the part `site` is not UTF-8"))
}

async fn save(app: &App, mut field: Field<'_>, left: &mut u64) -> Result<Archive, Problem> {
    let dir = &app.config.upload_dir;
    tokio::fs::create_dir_all(dir).await.map_err(on_disk)?;
    let archive = Archive(dir.join(format!("{PREFIX}{}.zip", app.engine.clock().id())));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(archive.path()).await.map_err(on_disk)?;
    while let Some(chunk) = patient(app, field.chunk()).await? {
        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
            swallow(field).await;
            return Err(too_large(app));
        };
        *left = rest;
        file.write_all(&chunk).await.map_err(on_disk)?;
    }
    // A disk that is full may say so only now.
    file.flush().await.map_err(on_disk)?;
    Ok(archive)
}

/// A client that is still sending does not read the answer, and a connection closed on it would take the answer away: so
/// what comes within two seconds, up to the router's own limit, is read and thrown away.
async fn swallow(mut field: Field<'_>) {
    let _ = timeout(Duration::from_secs(2), async { while let Ok(Some(_)) = field.chunk().await {} }).await;
}

async fn patient<T>(app: &App, part: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Problem> {
    let seconds = app.config.read_timeout.as_secs();
    match timeout(app.config.read_timeout, part).await {
        Err(_) => Err(Problem::new(Kind::TooSlow, format!("nothing of the upload arrived for {seconds} s"))),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large(app)),
        Ok(Err(error)) => Err(Problem::new(Kind::InvalidInput, format!("the multipart body: {}", error.body_text()))),
        Ok(Ok(part)) => Ok(part),
    }
}

fn too_large(app: &App) -> Problem {
    Problem::new(Kind::TooLarge, format!("the upload is longer than {} bytes", app.config.max_upload_bytes))
}

fn on_disk(error: io::Error) -> Problem {
    ContentError::from(error).into()
}

/// What a process left that was killed while it received.
pub(crate) async fn sweep(dir: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
}
