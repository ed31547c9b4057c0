//! A server to call, and a client that compares every answer with the OpenAPI document.

use certwright_edge::{Edge, EdgeConfig};
use certwright_engine::adapters::{StoreSource, StoredCa};
use certwright_engine::clock::Clock;
use certwright_engine::{Engine, EngineConfig, Parts, Running};
use certwright_model::answers::EdgeLocation;
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::planner::Policy;
use certwright_model::record::JobStep;
use certwright_model::site::SiteLifecycle;
use certwright_providers::dns::{Resolver, ResolverConfig};
use certwright_providers::issuer::internal::{InternalConfig, InternalIssuer};
use certwright_providers::probe::{ProbeConfig, Prober};
use certwright_server::{App, ServerConfig, ensure_admin_token, serve, serve_metrics};
use certwright_store::{ClaimedSite, CloseJobs, KekSource, SiteNext, SiteSave, Store, StoreConfig};
use jiff::SignedDuration;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zip::write::SimpleFileOptions;

pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) admin: String,
    pub(crate) dir: TempDir,
    pub(crate) stop: CancellationToken,
    client: Client,
    document: Value,
    running: Option<Running>,
}

/// Intent is stored, and nothing is done about it.
pub(crate) async fn idle() -> Server {
    Server::start(false, |_| {}).await
}

/// With the loops, the internal CA and the built-in edge.
pub(crate) async fn working() -> Server {
    Server::start(true, |_| {}).await
}

impl Server {
    pub(crate) async fn start(working: bool, adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = TempDir::new().unwrap();
        let clock = Clock::system();
        let url = format!("sqlite:{}", dir.path().join("db.sqlite").display());
        let kek = KekSource::File(dir.path().join("kek"));
        let store = Store::open(StoreConfig { url, kek, max_connections: 8 }, clock.now()).await.unwrap();
        let ca = StoredCa { store: store.clone(), clock: clock.clone() };
        let issuer = InternalIssuer::open(InternalConfig::default(), &ca, clock.now()).await.unwrap();
        let root_pem = issuer.root_pem();
        let sites_dir = dir.path().join("sites");
        std::fs::create_dir_all(&sites_dir).unwrap();
        let policy = Policy {
            edge: EdgeLocation { addresses: vec!["127.0.0.1".parse().unwrap()], ..EdgeLocation::default() },
            issuers: vec!["internal".into()],
            strict_ownership: false,
            dns_max_age: SignedDuration::from_mins(10),
            probe_every: SignedDuration::from_hours(1),
            expiring_warn: SignedDuration::from_hours(720),
            probing: true,
        };
        let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = EngineConfig::new(clock.node(), "sites.localhost", policy, sites_dir.clone());
        config.edge_address = Some(https.local_addr().unwrap());
        config.public_https_port = https.local_addr().unwrap().port();
        let roots_der = vec![issuer.root_der().to_vec()];
        let probe = ProbeConfig { timeout: Duration::from_secs(8), roots_der, system_roots: false, allow_private: true };
        let edge = Edge::new(EdgeConfig::new(&sites_dir), Arc::new(StoreSource(store.clone())));
        let engine = Engine::new(Parts {
            config,
            store,
            issuers: vec![Arc::new(issuer)],
            prober: Prober::new(probe).unwrap(),
            // Nobody listens there: no test may depend on somebody's resolver.
            resolver: Resolver::new(ResolverConfig { servers: vec!["127.0.0.1:1".parse().unwrap()], timeout: Duration::from_millis(200) })
                .unwrap(),
            edge: Some(edge.clone()),
            clock,
            step_hook: None,
        });
        let token_file = dir.path().join("admin.token");
        ensure_admin_token(&engine, &token_file).await.unwrap();
        let admin = std::fs::read_to_string(&token_file).unwrap().trim().to_owned();
        let mut config = ServerConfig::new(dir.path().join("uploads"));
        adjust(&mut config);
        let app = App::new(engine.clone(), config).with_root(&root_pem);
        let stop = CancellationToken::new();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (api, metrics_listener) = (bind().await.unwrap(), bind().await.unwrap());
        let (address, metrics) = (api.local_addr().unwrap(), metrics_listener.local_addr().unwrap());
        tokio::spawn(serve(api, app.clone(), stop.clone()));
        tokio::spawn(serve_metrics(metrics_listener, app, stop.clone()));
        let mut running = None;
        if working {
            tokio::spawn(edge.serve(vec![https], vec![], stop.clone()));
            running = Some(engine.start());
        }
        let client = Client::builder().no_proxy().build().unwrap();
        let document = serde_json::to_value(certwright_server::openapi()).unwrap();
        Self { engine, address, metrics, admin, dir, stop, client, document, running }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// As administrator.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_as(Some(&self.admin), method, path, body).await
    }

    pub(crate) async fn call_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.header("x-api-key", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.answer(method, path, request).await
    }

    pub(crate) async fn answer(&self, method: &str, path: &str, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        self.check(method, path, response).await
    }

    pub(crate) async fn upload(&self, path: &str, site: &str, zip: Vec<u8>) -> Answer {
        let form = Form::new().text("site", site.to_owned()).part("zip", Part::bytes(zip).file_name("site.zip"));
        let request = self.request("POST", path).bearer_auth(&self.admin).multipart(form);
        self.answer("POST", path, request).await
    }

    /// The status is one that the document declares, and an error is a whole problem document.
    async fn check(&self, method: &str, path: &str, response: Response) -> Answer {
        let status = response.status();
        let content_type = header(&response, "content-type");
        let request_id = header(&response, "x-request-id");
        let bytes = response.bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        assert!(!request_id.is_empty(), "{method} {path} has no x-request-id");
        if let Some(operation) = self.operation(method, path) {
            let declared = &operation["responses"][status.as_str()];
            assert!(declared.is_object(), "{method} {path} answered {status}, which is not declared: {body}");
        }
        let health = path == "/api/health";
        if status.as_u16() >= 400 && !health {
            assert_eq!(content_type, "application/problem+json", "{method} {path} {status}: {body}");
            assert_eq!(body["status"], status.as_u16(), "{body}");
            assert_eq!(body["instance"], format!("urn:certwright:request:{request_id}"));
            assert!(body["type"].as_str().unwrap().starts_with("https://certwright.dev/problems/"), "{body}");
            assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty(), "{body}");
        }
        Answer { status, body, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let (want, have): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
            want.len() == have.len() && want.iter().zip(&have).all(|(want, have)| want == have || want.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().unwrap();
        // A literal path goes before one with a variable.
        let mut fitting: Vec<&String> = paths.keys().filter(|template| fits(template)).collect();
        fitting.sort_by_key(|template| template.contains('{'));
        let operation = &paths[*fitting.first()?][method.to_lowercase()];
        operation.is_object().then_some(operation)
    }

    /// What the loop over sites does: steps for the site's jobs, and perhaps the end of them.
    pub(crate) async fn advance(&self, steps: &[&str], lifecycle: SiteLifecycle, end: Option<JobStatus>) {
        let (store, now) = (self.engine.store(), self.engine.clock().now());
        let claimed = store.claim_sites(self.engine.config().node, now, 60_000, 64).await.unwrap();
        assert!(!claimed.is_empty(), "no site is due");
        for ClaimedSite { lease, mut site, .. } in claimed {
            site.state.lifecycle = lifecycle;
            let step = |step: &&str| JobStep {
                at: now,
                step: (*step).to_owned(),
                status: StepStatus::Applied,
                message: format!("{step} is done"),
                elapsed_ms: Some(7),
            };
            let close = |status| CloseJobs { kinds: JobKind::ALL.to_vec(), status, error: None, asked_until: now };
            let save = SiteSave {
                id: site.intent.id,
                lease,
                state: site.state,
                job_steps: steps.iter().map(step).collect(),
                close_jobs: end.map(close),
                // Due again at once, so that it can be advanced again.
                next: SiteNext::Release(Some(now)),
            };
            store.save_site(save, now).await.unwrap();
        }
    }

    /// A proxy site that takes domains.
    pub(crate) async fn active_site(&self, name: &str) {
        let body = json!({ "site": name, "upstream": "http://127.0.0.1:3000" });
        self.call("POST", "/api/provision", Some(body)).await.is(202);
        self.advance(&[], SiteLifecycle::Active, Some(JobStatus::Succeeded)).await;
    }

    pub(crate) async fn token(&self, name: &str, role: &str) -> String {
        let answer = self.call("POST", "/v1/admin/tokens", Some(json!({ "name": name, "role": role }))).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["secret"].as_str().unwrap().to_owned()
    }

    /// Nothing that was uploaded is left, and nothing half unpacked.
    pub(crate) fn assert_no_leftovers(&self) {
        for dir in ["uploads", "sites/.incoming"] {
            let entries = std::fs::read_dir(self.dir.path().join(dir)).map(|entries| entries.count()).unwrap_or(0);
            assert_eq!(entries, 0, "{dir} is not empty");
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(5)).await;
        }
        self.engine.store().close().await;
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }

    /// A refusal whose field is named and whose sentence holds the words.
    #[track_caller]
    pub(crate) fn refuses(self, status: u16, field: Option<&str>, words: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.body["field"].as_str(), field, "{}", self.text);
        let detail = self.body["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail:?} does not say {words:?}");
    }
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(crate) fn page() -> Vec<u8> {
    zip_of(&[("index.html", b"<h1>hello</h1>")])
}
