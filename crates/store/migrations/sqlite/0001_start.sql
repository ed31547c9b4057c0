-- Times are milliseconds since 1970. A claim leaves `due_at` where it is and sets `lease_until`,
-- which no index has: to claim a row rewrites that row and nothing else.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- `wrapped` is sealed by the key-encryption key; `kek_check` tells a wrong one from a damaged row.
CREATE TABLE data_keys (
    id INTEGER PRIMARY KEY,
    wrapped BLOB NOT NULL,
    kek_check TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('static', 'proxy')),
    detail TEXT NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    lifecycle TEXT NOT NULL CHECK (lifecycle IN ('CREATED', 'PROVISIONING', 'ACTIVE', 'DESTROYING', 'DESTROYED', 'FAILED')),
    lifecycle_since INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT,
    last_reconciled_at INTEGER,
    look TEXT NOT NULL,
    due_at INTEGER,
    lease_until INTEGER,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT,
    woken INTEGER NOT NULL DEFAULT 0 CHECK (woken IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX sites_name ON sites (name);
CREATE INDEX sites_due ON sites (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sites_lifecycle ON sites (lifecycle, name);

CREATE TABLE custom_domains (
    id TEXT PRIMARY KEY,
    hostname TEXT NOT NULL,
    site_id TEXT REFERENCES sites (id),
    kind TEXT NOT NULL CHECK (kind IN ('default', 'custom')),
    desired TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    route_to TEXT CHECK (route_to IN ('site', 'upstream', 'tunnel')),
    route_detail TEXT,
    route_target TEXT,
    region TEXT,
    tls_mode TEXT NOT NULL CHECK (tls_mode IN ('termination', 'passthrough')),
    cert_failure_policy TEXT NOT NULL CHECK (cert_failure_policy IN ('standard', 'strict', 'hold')),
    issuers TEXT NOT NULL,
    key_type TEXT NOT NULL CHECK (key_type IN ('ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-4096', 'other')),
    ownership_token TEXT NOT NULL,
    renew_requested_at INTEGER,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    lifecycle TEXT NOT NULL CHECK (lifecycle IN ('PENDING', 'VALIDATING', 'ROUTING', 'ACTIVE', 'REMOVING')),
    lifecycle_since INTEGER NOT NULL,
    published INTEGER NOT NULL CHECK (published IN (0, 1)),
    certificate_id TEXT,
    staged_certificate_id TEXT,
    tls_status TEXT NOT NULL
        CHECK (tls_status IN ('pending_route', 'pending_issue', 'issued', 'expiring', 'tls_error', 'passthrough_unverified')),
    certificate_ref TEXT,
    tls_not_after INTEGER,
    tls_last_error TEXT,
    tls_last_checked_at INTEGER,
    cert_failure_count INTEGER NOT NULL,
    cert_retry_backoff_seconds INTEGER,
    cert_next_retry_at INTEGER,
    cert_last_event_type TEXT CHECK (cert_last_event_type IN
        ('issuance_succeeded', 'issuance_failed', 'renewal_succeeded', 'renewal_failed', 'certificate_expiring')),
    cert_last_event_at INTEGER,
    cert_renewal_due_at INTEGER,
    proven INTEGER NOT NULL CHECK (proven IN (0, 1)),
    reason TEXT,
    look TEXT NOT NULL,
    due_at INTEGER,
    lease_until INTEGER,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT,
    woken INTEGER NOT NULL DEFAULT 0 CHECK (woken IN (0, 1)),
    budget_issuer TEXT,
    budget_deadline INTEGER,
    budget_granted INTEGER NOT NULL DEFAULT 0 CHECK (budget_granted IN (0, 1)),
    edge_changed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX custom_domains_hostname ON custom_domains (hostname);
CREATE INDEX custom_domains_site ON custom_domains (site_id, hostname) WHERE site_id IS NOT NULL;
CREATE INDEX custom_domains_due ON custom_domains (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX custom_domains_parked ON custom_domains (budget_issuer, budget_deadline) WHERE budget_issuer IS NOT NULL;
CREATE INDEX custom_domains_published ON custom_domains (hostname) WHERE published = 1;
CREATE INDEX custom_domains_edge ON custom_domains (edge_changed_at) WHERE edge_changed_at IS NOT NULL;
CREATE INDEX custom_domains_status ON custom_domains (tls_status, hostname);
CREATE INDEX custom_domains_region ON custom_domains (region, hostname) WHERE region IS NOT NULL;

-- Names that left the edge, kept for a day so that every node hears of it.
CREATE TABLE edge_removals (
    hostname TEXT PRIMARY KEY,
    edge_changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX edge_removals_at ON edge_removals (edge_changed_at);

CREATE TABLE certificates (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL REFERENCES custom_domains (id) ON DELETE CASCADE,
    certificate_ref TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    facts TEXT NOT NULL,
    chain_pem TEXT NOT NULL,
    key_sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX certificates_domain ON certificates (domain_id, id);
CREATE INDEX certificates_ref ON certificates (certificate_ref);

CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL REFERENCES custom_domains (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('intended', 'placed', 'finalizing')),
    order_url TEXT,
    key_sealed BLOB,
    key_type TEXT NOT NULL,
    replaces TEXT,
    is_renewal INTEGER NOT NULL CHECK (is_renewal IN (0, 1)),
    created_at INTEGER NOT NULL,
    outcome TEXT CHECK (outcome IN ('issued', 'failed')),
    error TEXT,
    finished_at INTEGER,
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    -- The key of an open order is here; afterwards it is the certificate's, or nobody's.
    CHECK ((outcome IS NULL) = (key_sealed IS NOT NULL))
) STRICT;
-- Nothing is ordered twice for one need.
CREATE UNIQUE INDEX orders_open ON orders (domain_id) WHERE finished_at IS NULL;
CREATE INDEX orders_domain ON orders (domain_id, id);

CREATE TABLE challenges (
    kind TEXT NOT NULL CHECK (kind IN ('http-01', 'tls-alpn-01')),
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    key_authorization TEXT NOT NULL,
    order_id TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, host, token)
) STRICT;
CREATE INDEX challenges_order ON challenges (order_id);
CREATE INDEX challenges_expiry ON challenges (expires_at);

CREATE TABLE acme_accounts (
    issuer TEXT NOT NULL,
    directory_url TEXT NOT NULL,
    url TEXT NOT NULL,
    credentials_sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, directory_url)
) STRICT;

CREATE TABLE ca_keys (
    role TEXT PRIMARY KEY CHECK (role IN ('root', 'intermediate')),
    cert_pem TEXT NOT NULL,
    key_sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE ca_budgets (
    issuer TEXT PRIMARY KEY,
    full_at INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('provision', 'destroy', 'domain_set', 'domain_remove', 'cert_retry')),
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed')),
    site_id TEXT,
    domain_id TEXT,
    subject TEXT NOT NULL,
    error TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    last_seq INTEGER NOT NULL DEFAULT 0,
    CHECK ((finished_at IS NULL) = (status IN ('queued', 'running', 'waiting')))
) STRICT;
-- A site with an active job takes no second one; a waiting job blocks nothing.
CREATE UNIQUE INDEX jobs_active_site ON jobs (site_id) WHERE site_id IS NOT NULL AND status IN ('queued', 'running');
CREATE INDEX jobs_open_site ON jobs (site_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_open_domain ON jobs (domain_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_site ON jobs (site_id, id);

CREATE TABLE job_steps (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    step TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('started', 'applied', 'rejected', 'unknown', 'waiting')),
    message TEXT NOT NULL,
    elapsed_ms INTEGER,
    PRIMARY KEY (job_id, seq)
) STRICT;

CREATE TABLE audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'ingest', 'edge')),
    sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE UNIQUE INDEX tokens_name ON tokens (name);
CREATE UNIQUE INDEX tokens_sha256 ON tokens (sha256);
