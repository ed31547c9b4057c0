-- What is reported of certificates, and what Certwright itself did about them: one history for each name.
-- `report` is JSON that nothing searches in. Only a pending event has `due_at`: the indexes of the queue are as small as it is.
CREATE TABLE cert_events (
    id TEXT COLLATE "C" PRIMARY KEY,
    source TEXT COLLATE "C" NOT NULL,
    cluster_id TEXT COLLATE "C" NOT NULL,
    source_event_id TEXT COLLATE "C" NOT NULL,
    hostname TEXT COLLATE "C" NOT NULL,
    event_type TEXT COLLATE "C" CHECK (event_type IN
        ('issuance_succeeded', 'issuance_failed', 'renewal_succeeded', 'renewal_failed', 'certificate_expiring')),
    at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    verified BIGINT NOT NULL CHECK (verified IN (0, 1)),
    report TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'applied', 'superseded', 'failed')),
    tries BIGINT NOT NULL DEFAULT 0,
    replays BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT,
    error TEXT COLLATE "C",
    settled_at BIGINT,
    CHECK ((status = 'pending') = (due_at IS NOT NULL)),
    -- Only our own steps have none.
    CHECK (event_type IS NOT NULL OR source = 'certwright')
);
CREATE UNIQUE INDEX cert_events_source ON cert_events (source, cluster_id, source_event_id);
CREATE INDEX cert_events_hostname ON cert_events (hostname, id);
CREATE INDEX cert_events_due ON cert_events (due_at, hostname) WHERE due_at IS NOT NULL;
CREATE INDEX cert_events_queue ON cert_events (hostname, at, id) WHERE due_at IS NOT NULL;
CREATE INDEX cert_events_failed ON cert_events (id) WHERE status = 'failed';

-- What people and policies did with an event: replays.
CREATE TABLE cert_event_notes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT COLLATE "C" NOT NULL REFERENCES cert_events (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL
);
CREATE INDEX cert_event_notes_event ON cert_event_notes (event_id, id);

-- Who reports, and who was refused.
CREATE TABLE cert_sources (
    source TEXT COLLATE "C" NOT NULL,
    cluster_id TEXT COLLATE "C" NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    signature_failures BIGINT NOT NULL,
    PRIMARY KEY (source, cluster_id)
);
