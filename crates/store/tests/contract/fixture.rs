//! A place for a database, and the values that tests fill it with.

use certwright_model::Hostname;
use certwright_model::certificate::{CertificateFacts, CertificateRef, KeyType};
use certwright_model::domain::{Desired, DomainKind, FailurePolicy, Route, TlsMode};
use certwright_model::ids::{CertificateId, DomainId, JobId, NodeId, OrderId, SiteId};
use certwright_model::job::{JobKind, JobStatus};
use certwright_model::record::{Domain, DomainIntent, DomainState, Job, Order, OrderStage, Site, SiteIntent, SiteLook, SiteState};
use certwright_model::site::{SiteKind, SiteLifecycle, SiteName};
use certwright_store::{ClaimedDomain, DomainSave, KekSource, NewCertificate, Next, Store, StoreConfig, Who};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    admin: Option<(String, String)>,
}

static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        Self { url: format!("sqlite:{}", folder.path().join("store.db").display()), folder, admin: None }
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(admin) = std::env::var("CERTWRIGHT_TEST_POSTGRES") else {
            eprintln!("not run: PostgreSQL (CERTWRIGHT_TEST_POSTGRES is not set)");
            return None;
        };
        let name = format!("certwright_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = sqlx::PgConnection::connect(&admin).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        let url = format!("{}/{name}", admin.rsplit_once('/').unwrap().0);
        Some(Self { url, folder: TempDir::new().unwrap(), admin: Some((admin, name)) })
    }

    pub(crate) async fn remove(self) {
        if let Some((admin, name)) = self.admin {
            let mut connection = sqlx::PgConnection::connect(&admin).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut connection).await.unwrap();
        }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("kek")
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig { url: self.url.clone(), kek: KekSource::File(self.key_file()), max_connections: 8 }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.config(), at(0)).await.unwrap()
    }

    /// A statement past the store: what a disaster or another version would have done.
    pub(crate) async fn raw(&self, sql: &'static str) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite:{path}")).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
            None => {
                let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            }
        }
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Ascending, as UUID version 7 is.
pub(crate) fn uuid() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) fn who() -> Who {
    Who { actor: "alice".into() }
}

pub(crate) fn node() -> NodeId {
    NodeId(Uuid::from_u128(77))
}

pub(crate) fn host(text: &str) -> Hostname {
    Hostname::parse(text).unwrap()
}

pub(crate) fn site(name: &str) -> Site {
    Site {
        intent: SiteIntent {
            id: SiteId(uuid()),
            name: SiteName::parse(name).unwrap(),
            kind: SiteKind::Static { content: "v1".into() },
            desired: Desired::Present,
            created_at: at(0),
            changed_at: at(0),
        },
        state: SiteState {
            lifecycle: SiteLifecycle::Created,
            lifecycle_since: at(0),
            attempts: 0,
            reason: None,
            last_reconciled_at: None,
            look: SiteLook::default(),
        },
    }
}

pub(crate) fn domain(name: &str, site: Option<SiteId>) -> Domain {
    Domain {
        intent: DomainIntent {
            id: DomainId(uuid()),
            hostname: host(name),
            site_id: site,
            kind: DomainKind::Custom,
            desired: Desired::Present,
            route: Some(match site {
                Some(_) => Route::Site,
                None => Route::Upstream { upstream: "http://127.0.0.1:3000".into(), region: Some("eu".into()) },
            }),
            tls_mode: TlsMode::Termination,
            failure_policy: FailurePolicy::Standard,
            issuers: vec!["internal".into()],
            key_type: KeyType::EcdsaP256,
            ownership_token: "tok".into(),
            renew_requested_at: None,
            created_at: at(0),
            changed_at: at(0),
        },
        state: DomainState::new(at(0)),
    }
}

pub(crate) fn job(kind: JobKind, site: Option<SiteId>, domain: Option<DomainId>) -> Job {
    Job {
        id: JobId(uuid()),
        kind,
        status: JobStatus::Queued,
        site_id: site,
        domain_id: domain,
        subject: "a subject".into(),
        error: None,
        created_at: at(0),
        finished_at: None,
    }
}

pub(crate) fn order(domain: DomainId) -> Order {
    Order {
        id: OrderId(uuid()),
        domain_id: domain,
        issuer: "internal".into(),
        stage: OrderStage::Intended,
        order_url: None,
        key_pkcs8_der: vec![1, 2, 3, 0, 255],
        key_type: KeyType::EcdsaP256,
        replaces: None,
        is_renewal: false,
        created_at: at(1),
    }
}

pub(crate) fn certificate(digest: u8) -> NewCertificate {
    NewCertificate {
        id: CertificateId(uuid()),
        facts: CertificateFacts {
            certificate_ref: CertificateRef::from_digest(&[digest; 32]),
            names: vec!["a.example.com".into()],
            not_before: at(0),
            not_after: at(86_400 * 90),
            key_type: KeyType::EcdsaP256,
            issuer: "internal".into(),
            issuer_dn: "CN=Test".into(),
            serial: "01".into(),
            ari_id: None,
        },
        chain_pem:
            "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nBAU=\n-----END CERTIFICATE-----\n"
                .into(),
    }
}

/// A site with its default domain and its job, as a request makes them.
pub(crate) async fn stored_site(store: &Store, name: &str) -> (Site, Domain) {
    let site = site(name);
    let mut default = domain(&format!("{name}.sites.example.net"), Some(site.intent.id));
    default.intent.kind = DomainKind::Default;
    let job = job(JobKind::Provision, Some(site.intent.id), None);
    store.create_site(site.clone(), default.clone(), job, &who(), at(0)).await.unwrap();
    (site, default)
}

pub(crate) async fn stored_domain(store: &Store, name: &str) -> Domain {
    let domain = domain(name, None);
    store.attach_domain(domain.clone(), None, &who(), at(0)).await.unwrap();
    domain
}

/// Claims everything that is due and picks one.
pub(crate) async fn claimed(store: &Store, id: DomainId, now: Timestamp) -> ClaimedDomain {
    let claimed = store.claim_domains(node(), now, 60_000, 1000).await.unwrap();
    claimed.into_iter().find(|row| row.domain.intent.id == id).expect("the domain is due")
}

pub(crate) fn save(claimed: &ClaimedDomain, next: Next) -> DomainSave {
    DomainSave {
        id: claimed.domain.intent.id,
        lease: claimed.lease,
        state: claimed.domain.state.clone(),
        events: vec![],
        job_steps: vec![],
        close_jobs: None,
        next,
    }
}
