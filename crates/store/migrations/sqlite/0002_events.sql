-- What is reported of certificates, and what Certwright itself did about them: one history for each name.
-- `report` is JSON that nothing searches in. Only a pending event has `due_at`: the indexes of the queue are as small as it is.
CREATE TABLE cert_events (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    source_event_id TEXT NOT NULL,
    hostname TEXT NOT NULL,
    event_type TEXT CHECK (event_type IN
        ('issuance_succeeded', 'issuance_failed', 'renewal_succeeded', 'renewal_failed', 'certificate_expiring')),
    at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    digest TEXT NOT NULL,
    verified INTEGER NOT NULL CHECK (verified IN (0, 1)),
    report TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'applied', 'superseded', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    replays INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    error TEXT,
    settled_at INTEGER,
    CHECK ((status = 'pending') = (due_at IS NOT NULL)),
    -- Only our own steps have none.
    CHECK (event_type IS NOT NULL OR source = 'certwright')
) STRICT;
CREATE UNIQUE INDEX cert_events_source ON cert_events (source, cluster_id, source_event_id);
CREATE INDEX cert_events_hostname ON cert_events (hostname, id);
CREATE INDEX cert_events_due ON cert_events (due_at, hostname) WHERE due_at IS NOT NULL;
CREATE INDEX cert_events_queue ON cert_events (hostname, at, id) WHERE due_at IS NOT NULL;
CREATE INDEX cert_events_failed ON cert_events (id) WHERE status = 'failed';

-- What people and policies did with an event: replays.
CREATE TABLE cert_event_notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL REFERENCES cert_events (id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL
) STRICT;
CREATE INDEX cert_event_notes_event ON cert_event_notes (event_id, id);

-- Who reports, and who was refused.
CREATE TABLE cert_sources (
    source TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    signature_failures INTEGER NOT NULL,
    PRIMARY KEY (source, cluster_id)
) STRICT;
