-- The PostgreSQL twin of the SQLite migration with this number: the same tables, bytewise text order, and `json_each`
-- with the shape that SQLite's has for an array.

CREATE FUNCTION json_each(text) RETURNS TABLE (value jsonb)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 100
    AS $$ SELECT jsonb_array_elements($1::jsonb) $$;

-- Times are milliseconds since 1970. A claim leaves `due_at` where it is and sets `lease_until`,
-- which no index has: to claim a row rewrites that row and nothing else.

-- Tables with leases keep room in their pages, so that the new version of a claimed row fits beside the old one.

CREATE TABLE meta (
    key TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- `wrapped` is sealed by the key-encryption key; `kek_check` tells a wrong one from a damaged row.
CREATE TABLE data_keys (
    id BIGINT PRIMARY KEY,
    wrapped BYTEA NOT NULL,
    kek_check TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE sites (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('static', 'proxy')),
    detail TEXT COLLATE "C" NOT NULL,
    desired TEXT COLLATE "C" NOT NULL CHECK (desired IN ('present', 'absent')),
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    lifecycle TEXT COLLATE "C" NOT NULL CHECK (lifecycle IN ('CREATED', 'PROVISIONING', 'ACTIVE', 'DESTROYING', 'DESTROYED', 'FAILED')),
    lifecycle_since BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT COLLATE "C",
    last_reconciled_at BIGINT,
    look TEXT COLLATE "C" NOT NULL,
    due_at BIGINT,
    lease_until BIGINT,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT COLLATE "C",
    woken BIGINT NOT NULL DEFAULT 0 CHECK (woken IN (0, 1))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX sites_name ON sites (name);
CREATE INDEX sites_due ON sites (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sites_lifecycle ON sites (lifecycle, name);

CREATE TABLE custom_domains (
    id TEXT COLLATE "C" PRIMARY KEY,
    hostname TEXT COLLATE "C" NOT NULL,
    site_id TEXT COLLATE "C" REFERENCES sites (id),
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('default', 'custom')),
    desired TEXT COLLATE "C" NOT NULL CHECK (desired IN ('present', 'absent')),
    route_to TEXT COLLATE "C" CHECK (route_to IN ('site', 'upstream', 'tunnel')),
    route_detail TEXT COLLATE "C",
    route_target TEXT COLLATE "C",
    region TEXT COLLATE "C",
    tls_mode TEXT COLLATE "C" NOT NULL CHECK (tls_mode IN ('termination', 'passthrough')),
    cert_failure_policy TEXT COLLATE "C" NOT NULL CHECK (cert_failure_policy IN ('standard', 'strict', 'hold')),
    issuers TEXT COLLATE "C" NOT NULL,
    key_type TEXT COLLATE "C" NOT NULL CHECK (key_type IN ('ecdsa-p256', 'ecdsa-p384', 'rsa-2048', 'rsa-4096', 'other')),
    ownership_token TEXT COLLATE "C" NOT NULL,
    renew_requested_at BIGINT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    lifecycle TEXT COLLATE "C" NOT NULL CHECK (lifecycle IN ('PENDING', 'VALIDATING', 'ROUTING', 'ACTIVE', 'REMOVING')),
    lifecycle_since BIGINT NOT NULL,
    published BIGINT NOT NULL CHECK (published IN (0, 1)),
    certificate_id TEXT COLLATE "C",
    staged_certificate_id TEXT COLLATE "C",
    tls_status TEXT COLLATE "C" NOT NULL
        CHECK (tls_status IN ('pending_route', 'pending_issue', 'issued', 'expiring', 'tls_error', 'passthrough_unverified')),
    certificate_ref TEXT COLLATE "C",
    tls_not_after BIGINT,
    tls_last_error TEXT COLLATE "C",
    tls_last_checked_at BIGINT,
    cert_failure_count BIGINT NOT NULL,
    cert_retry_backoff_seconds BIGINT,
    cert_next_retry_at BIGINT,
    cert_last_event_type TEXT COLLATE "C" CHECK (cert_last_event_type IN
        ('issuance_succeeded', 'issuance_failed', 'renewal_succeeded', 'renewal_failed', 'certificate_expiring')),
    cert_last_event_at BIGINT,
    cert_renewal_due_at BIGINT,
    proven BIGINT NOT NULL CHECK (proven IN (0, 1)),
    reason TEXT COLLATE "C",
    look TEXT COLLATE "C" NOT NULL,
    due_at BIGINT,
    lease_until BIGINT,
    lease_token BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT COLLATE "C",
    woken BIGINT NOT NULL DEFAULT 0 CHECK (woken IN (0, 1)),
    budget_issuer TEXT COLLATE "C",
    budget_deadline BIGINT,
    budget_granted BIGINT NOT NULL DEFAULT 0 CHECK (budget_granted IN (0, 1)),
    edge_changed_at BIGINT
) WITH (fillfactor = 80);
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
    hostname TEXT COLLATE "C" PRIMARY KEY,
    edge_changed_at BIGINT NOT NULL
);
CREATE INDEX edge_removals_at ON edge_removals (edge_changed_at);

CREATE TABLE certificates (
    id TEXT COLLATE "C" PRIMARY KEY,
    domain_id TEXT COLLATE "C" NOT NULL REFERENCES custom_domains (id) ON DELETE CASCADE,
    certificate_ref TEXT COLLATE "C" NOT NULL,
    not_after BIGINT NOT NULL,
    facts TEXT COLLATE "C" NOT NULL,
    chain_pem TEXT COLLATE "C" NOT NULL,
    key_sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX certificates_domain ON certificates (domain_id, id);
CREATE INDEX certificates_ref ON certificates (certificate_ref);

CREATE TABLE orders (
    id TEXT COLLATE "C" PRIMARY KEY,
    domain_id TEXT COLLATE "C" NOT NULL REFERENCES custom_domains (id) ON DELETE CASCADE,
    issuer TEXT COLLATE "C" NOT NULL,
    stage TEXT COLLATE "C" NOT NULL CHECK (stage IN ('intended', 'placed', 'finalizing')),
    order_url TEXT COLLATE "C",
    key_sealed BYTEA,
    key_type TEXT COLLATE "C" NOT NULL,
    replaces TEXT COLLATE "C",
    is_renewal BIGINT NOT NULL CHECK (is_renewal IN (0, 1)),
    created_at BIGINT NOT NULL,
    outcome TEXT COLLATE "C" CHECK (outcome IN ('issued', 'failed')),
    error TEXT COLLATE "C",
    finished_at BIGINT,
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    -- The key of an open order is here; afterwards it is the certificate's, or nobody's.
    CHECK ((outcome IS NULL) = (key_sealed IS NOT NULL))
);
-- Nothing is ordered twice for one need.
CREATE UNIQUE INDEX orders_open ON orders (domain_id) WHERE finished_at IS NULL;
CREATE INDEX orders_domain ON orders (domain_id, id);

CREATE TABLE challenges (
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('http-01', 'tls-alpn-01')),
    host TEXT COLLATE "C" NOT NULL,
    token TEXT COLLATE "C" NOT NULL,
    key_authorization TEXT COLLATE "C" NOT NULL,
    order_id TEXT COLLATE "C" NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, host, token)
);
CREATE INDEX challenges_order ON challenges (order_id);
CREATE INDEX challenges_expiry ON challenges (expires_at);

CREATE TABLE acme_accounts (
    issuer TEXT COLLATE "C" NOT NULL,
    directory_url TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    credentials_sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, directory_url)
);

CREATE TABLE ca_keys (
    role TEXT COLLATE "C" PRIMARY KEY CHECK (role IN ('root', 'intermediate')),
    cert_pem TEXT COLLATE "C" NOT NULL,
    key_sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE ca_budgets (
    issuer TEXT COLLATE "C" PRIMARY KEY,
    full_at BIGINT NOT NULL
);

CREATE TABLE jobs (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('provision', 'destroy', 'domain_set', 'domain_remove', 'cert_retry')),
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('queued', 'running', 'waiting', 'succeeded', 'failed')),
    site_id TEXT COLLATE "C",
    domain_id TEXT COLLATE "C",
    subject TEXT COLLATE "C" NOT NULL,
    error TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    last_seq BIGINT NOT NULL DEFAULT 0,
    CHECK ((finished_at IS NULL) = (status IN ('queued', 'running', 'waiting')))
);
-- A site with an active job takes no second one; a waiting job blocks nothing.
CREATE UNIQUE INDEX jobs_active_site ON jobs (site_id) WHERE site_id IS NOT NULL AND status IN ('queued', 'running');
CREATE INDEX jobs_open_site ON jobs (site_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_open_domain ON jobs (domain_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_site ON jobs (site_id, id);

CREATE TABLE job_steps (
    job_id TEXT COLLATE "C" NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    step TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('started', 'applied', 'rejected', 'unknown', 'waiting')),
    message TEXT COLLATE "C" NOT NULL,
    elapsed_ms BIGINT,
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE audit_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    before TEXT COLLATE "C",
    after TEXT COLLATE "C"
);

CREATE TABLE tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'ingest', 'edge')),
    sha256 BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE UNIQUE INDEX tokens_name ON tokens (name);
CREATE UNIQUE INDEX tokens_sha256 ON tokens (sha256);
