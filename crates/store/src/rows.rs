//! Columns and their values: how a site, a domain, an order and a job are laid out in a row, and read back.
//!
//! A word that no enum knows, or JSON that does not fit, is `Corrupt`; a CHECK constraint should have refused it.

use crate::backend::{Row, clean};
use crate::seal::Sealer;
use crate::{Result, StoreError};
use certwright_model::Hostname;
use certwright_model::certificate::CertificateRef;
use certwright_model::domain::Route;
use certwright_model::record::{Domain, DomainIntent, DomainState, Job, Order, Site, SiteIntent, SiteState};
use certwright_model::site::{SiteKind, SiteName};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Display;
use std::str::FromStr;

macro_rules! site_columns {
    () => {
        "id, name, kind, detail, desired, created_at, changed_at, \
         lifecycle, lifecycle_since, attempts, reason, last_reconciled_at, look"
    };
}
macro_rules! domain_columns {
    () => {
        "id, hostname, site_id, kind, desired, route_to, route_detail, route_target, region, tls_mode, cert_failure_policy, \
         issuers, key_type, ownership_token, renew_requested_at, created_at, changed_at, \
         lifecycle, lifecycle_since, published, certificate_id, staged_certificate_id, tls_status, certificate_ref, \
         tls_not_after, tls_last_error, tls_last_checked_at, cert_failure_count, cert_retry_backoff_seconds, \
         cert_next_retry_at, cert_last_event_type, cert_last_event_at, cert_renewal_due_at, proven, reason, look"
    };
}
macro_rules! job_columns {
    () => {
        "id, kind, status, site_id, domain_id, subject, error, created_at, finished_at"
    };
}
macro_rules! order_columns {
    () => {
        "id, domain_id, issuer, stage, order_url, key_sealed, key_type, replaces, is_renewal, created_at"
    };
}
pub(crate) use {domain_columns, job_columns, order_columns, site_columns};

/// The number of columns that `domain_columns` and `site_columns` name: where the extra ones of a claim start.
pub(crate) const DOMAIN_WIDTH: usize = 36;
pub(crate) const SITE_WIDTH: usize = 13;

/// Reads the columns of a row one after the other.
pub(crate) struct Cells<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(crate) fn new(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }
    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
    pub(crate) fn int(&mut self) -> Result<i64> {
        let index = self.step();
        self.row.int(index)
    }
    pub(crate) fn int_opt(&mut self) -> Result<Option<i64>> {
        let index = self.step();
        self.row.int_opt(index)
    }
    pub(crate) fn flag(&mut self) -> Result<bool> {
        self.int().map(|value| value != 0)
    }
    pub(crate) fn count(&mut self) -> Result<u32> {
        self.int().map(|value| u32::try_from(value.max(0)).unwrap_or(u32::MAX))
    }
    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        self.int().and_then(time)
    }
    pub(crate) fn time_opt(&mut self) -> Result<Option<Timestamp>> {
        self.int_opt()?.map(time).transpose()
    }
    pub(crate) fn text(&mut self) -> Result<String> {
        let index = self.step();
        self.row.text(index)
    }
    pub(crate) fn text_opt(&mut self) -> Result<Option<String>> {
        let index = self.step();
        self.row.text_opt(index)
    }
    pub(crate) fn blob(&mut self) -> Result<Vec<u8>> {
        let index = self.step();
        self.row.blob(index)
    }
    /// One of an enum's words.
    pub(crate) fn word<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<T> {
        word(&self.text()?, parse)
    }
    pub(crate) fn word_opt<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
        self.text_opt()?.map(|text| word(&text, parse)).transpose()
    }
    /// An id, a hostname: whatever reads back from its own text.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T> {
        parsed(&self.text()?)
    }
    pub(crate) fn parsed_opt<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>> {
        self.text_opt()?.map(|text| parsed(&text)).transpose()
    }
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        from_json(&self.text()?)
    }
    pub(crate) fn json_opt<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        self.text_opt()?.map(|text| from_json(&text)).transpose()
    }
    pub(crate) fn hostname(&mut self) -> Result<Hostname> {
        hostname(&self.text()?)
    }
    pub(crate) fn certificate_ref_opt(&mut self) -> Result<Option<CertificateRef>> {
        self.text_opt()?.map(|text| CertificateRef::parse(&text).map_err(corrupt)).transpose()
    }
}

pub(crate) fn corrupt(error: impl Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

pub(crate) fn hostname(text: &str) -> Result<Hostname> {
    Hostname::parse(text).map_err(corrupt)
}

pub(crate) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error| StoreError::Corrupt(format!("`{text}`: {error}")))
}

fn word<T>(text: &str, parse: fn(&str) -> Option<T>) -> Result<T> {
    parse(text).ok_or_else(|| StoreError::Corrupt(format!("unknown word `{text}`")))
}

pub(crate) fn time(ms: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(corrupt)
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(corrupt)
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Backend(error.to_string()))
}

/// `[[id], …]`: what `SELECT v.value->>0 FROM json_each($1) AS v` unpacks on both engines.
pub(crate) fn id_list<T: Display>(ids: impl IntoIterator<Item = T>) -> String {
    Value::Array(ids.into_iter().map(|id| json!([id.to_string()])).collect()).to_string()
}

pub(crate) fn site(row: &Row) -> Result<Site> {
    let mut cells = Cells::new(row);
    let id = cells.parsed()?;
    let name = SiteName::parse(&cells.text()?).map_err(corrupt)?;
    let kind = site_kind(&cells.text()?, cells.text()?)?;
    let intent = SiteIntent {
        id,
        name,
        kind,
        desired: cells.word(certwright_model::domain::Desired::parse)?,
        created_at: cells.time()?,
        changed_at: cells.time()?,
    };
    let state = SiteState {
        lifecycle: cells.word(certwright_model::site::SiteLifecycle::parse)?,
        lifecycle_since: cells.time()?,
        attempts: cells.count()?,
        reason: cells.json_opt()?,
        last_reconciled_at: cells.time_opt()?,
        look: cells.json()?,
    };
    Ok(Site { intent, state })
}

pub(crate) fn site_kind(kind: &str, detail: String) -> Result<SiteKind> {
    match kind {
        "static" => Ok(SiteKind::Static { content: detail }),
        "proxy" => Ok(SiteKind::Proxy { upstream: detail }),
        other => Err(StoreError::Corrupt(format!("unknown site kind `{other}`"))),
    }
}

pub(crate) fn site_detail(kind: &SiteKind) -> &str {
    match kind {
        SiteKind::Static { content } => content,
        SiteKind::Proxy { upstream } => upstream,
    }
}

pub(crate) fn domain(row: &Row) -> Result<Domain> {
    use certwright_model::certificate::KeyType;
    use certwright_model::domain::{Desired, DomainKind, DomainLifecycle, FailurePolicy, TlsMode, TlsStatus};
    use certwright_model::record::EventType;
    let mut cells = Cells::new(row);
    let intent = DomainIntent {
        id: cells.parsed()?,
        hostname: cells.hostname()?,
        site_id: cells.parsed_opt()?,
        kind: cells.word(DomainKind::parse)?,
        desired: cells.word(Desired::parse)?,
        route: route(cells.text_opt()?, cells.text_opt()?, cells.text_opt()?, cells.text_opt()?)?,
        tls_mode: cells.word(TlsMode::parse)?,
        failure_policy: cells.word(FailurePolicy::parse)?,
        issuers: cells.json()?,
        key_type: cells.word(KeyType::parse)?,
        ownership_token: cells.text()?,
        renew_requested_at: cells.time_opt()?,
        created_at: cells.time()?,
        changed_at: cells.time()?,
    };
    let state = DomainState {
        lifecycle: cells.word(DomainLifecycle::parse)?,
        lifecycle_since: cells.time()?,
        published: cells.flag()?,
        certificate_id: cells.parsed_opt()?,
        staged_certificate_id: cells.parsed_opt()?,
        tls_status: cells.word(TlsStatus::parse)?,
        certificate_ref: cells.certificate_ref_opt()?,
        tls_not_after: cells.time_opt()?,
        tls_last_error: cells.text_opt()?,
        tls_last_checked_at: cells.time_opt()?,
        cert_failure_count: cells.count()?,
        cert_retry_backoff_seconds: cells.int_opt()?,
        cert_next_retry_at: cells.time_opt()?,
        cert_last_event_type: cells.word_opt(EventType::parse)?,
        cert_last_event_at: cells.time_opt()?,
        cert_renewal_due_at: cells.time_opt()?,
        proven: cells.flag()?,
        reason: cells.json_opt()?,
        look: cells.json()?,
    };
    Ok(Domain { intent, state })
}

fn route(to: Option<String>, detail: Option<String>, target: Option<String>, region: Option<String>) -> Result<Option<Route>> {
    let detail = detail.unwrap_or_default();
    match to.as_deref() {
        None => Ok(None),
        Some("site") => Ok(Some(Route::Site)),
        Some("upstream") => Ok(Some(Route::Upstream { upstream: detail, region })),
        Some("tunnel") => Ok(Some(Route::Tunnel { tunnel: detail, target, region })),
        Some(other) => Err(StoreError::Corrupt(format!("unknown route `{other}`"))),
    }
}

/// `route_to, route_detail, route_target, region`
pub(crate) fn route_cells(route: Option<&Route>) -> [Option<String>; 4] {
    let own = |text: &str| Some(text.to_owned());
    match route {
        None => [None, None, None, None],
        Some(Route::Site) => [own("site"), None, None, None],
        Some(Route::Upstream { upstream, region }) => [own("upstream"), own(upstream), None, region.clone()],
        Some(Route::Tunnel { tunnel, target, region }) => [own("tunnel"), own(tunnel), target.clone(), region.clone()],
    }
}

/// A whole domain as one JSON array, in the order of `domain_columns`.
pub(crate) fn domain_cells(domain: &Domain) -> Result<Value> {
    let Domain { intent, state } = domain;
    let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let [to, detail, target, region] = route_cells(intent.route.as_ref()).map(|cell| cell.map(clean));
    Ok(json!([
        intent.id.to_string(),
        intent.hostname.as_str(),
        intent.site_id.map(|id| id.to_string()),
        intent.kind.as_str(),
        intent.desired.as_str(),
        to,
        detail,
        target,
        region,
        intent.tls_mode.as_str(),
        intent.failure_policy.as_str(),
        to_json(&intent.issuers)?,
        intent.key_type.as_str(),
        clean(intent.ownership_token.clone()),
        ms(intent.renew_requested_at),
        intent.created_at.as_millisecond(),
        intent.changed_at.as_millisecond(),
        state.lifecycle.as_str(),
        state.lifecycle_since.as_millisecond(),
        i64::from(state.published),
        state.certificate_id.map(|id| id.to_string()),
        state.staged_certificate_id.map(|id| id.to_string()),
        state.tls_status.as_str(),
        state.certificate_ref.as_ref().map(CertificateRef::as_str),
        ms(state.tls_not_after),
        state.tls_last_error.clone().map(clean),
        ms(state.tls_last_checked_at),
        state.cert_failure_count,
        state.cert_retry_backoff_seconds,
        ms(state.cert_next_retry_at),
        state.cert_last_event_type.map(|kind| kind.as_str()),
        ms(state.cert_last_event_at),
        ms(state.cert_renewal_due_at),
        i64::from(state.proven),
        state.reason.as_ref().map(to_json).transpose()?,
        to_json(&state.look)?,
    ]))
}

pub(crate) fn job(row: &Row) -> Result<Job> {
    let mut cells = Cells::new(row);
    Ok(Job {
        id: cells.parsed()?,
        kind: cells.word(certwright_model::job::JobKind::parse)?,
        status: cells.word(certwright_model::job::JobStatus::parse)?,
        site_id: cells.parsed_opt()?,
        domain_id: cells.parsed_opt()?,
        subject: cells.text()?,
        error: cells.text_opt()?,
        created_at: cells.time()?,
        finished_at: cells.time_opt()?,
    })
}

pub(crate) fn order(row: &Row, sealer: &Sealer) -> Result<Order> {
    let mut cells = Cells::new(row);
    let id = cells.text()?;
    Ok(Order {
        id: parsed(&id)?,
        domain_id: cells.parsed()?,
        issuer: cells.text()?,
        stage: cells.word(certwright_model::record::OrderStage::parse)?,
        order_url: cells.text_opt()?,
        key_pkcs8_der: sealer.unseal("orders", &id, &cells.blob()?)?.to_vec(),
        key_type: cells.word(certwright_model::certificate::KeyType::parse)?,
        replaces: cells.text_opt()?,
        is_renewal: cells.flag()?,
        created_at: cells.time()?,
    })
}
