-- The tables of Andon: the same names and columns as on PostgreSQL; other tools rely on them.
-- Instants are text 'YYYY-MM-DD HH:MM:SS.ffffff+00:00', always UTC: they sort as text.

CREATE TABLE machine_telemetry (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    temperature DOUBLE,
    humidity DOUBLE,
    vibration DOUBLE,
    extra TEXT,
    source_topic TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    time_source TEXT NOT NULL,
    received_at TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now')),
    digest BIGINT NOT NULL,
    -- Also the index for the newest reading and the history of a machine; a second one would cost every insert.
    UNIQUE (site, machine_id, recorded_at, digest)
);

CREATE TABLE machine (
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    status TEXT NOT NULL,
    status_since TEXT,
    first_seen_at TEXT,
    last_seen_at TEXT,
    PRIMARY KEY (site, machine_id)
) WITHOUT ROWID;

CREATE TABLE machine_event (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    status TEXT NOT NULL,
    previous_status TEXT,
    reason TEXT NOT NULL,
    occurred_at TEXT NOT NULL,
    last_seen_at TEXT,
    UNIQUE (site, machine_id, occurred_at, status)
);

CREATE INDEX machine_event_by_time ON machine_event (site, occurred_at);

CREATE TABLE rejected_message (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    journal_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    element INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    topic TEXT NOT NULL,
    qos SMALLINT NOT NULL,
    retained BOOLEAN NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    UNIQUE (journal_id, seq, element)
);

CREATE TABLE ingest_checkpoint (
    journal_id TEXT NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    committed_seq BIGINT NOT NULL DEFAULT 0,
    messages BIGINT NOT NULL DEFAULT 0,
    stored BIGINT NOT NULL DEFAULT 0,
    duplicate BIGINT NOT NULL DEFAULT 0,
    rejected BIGINT NOT NULL DEFAULT 0,
    control BIGINT NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE journal_gap (
    id INTEGER NOT NULL PRIMARY KEY,
    journal_id TEXT NOT NULL,
    from_seq BIGINT NOT NULL,
    to_seq BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL,
    UNIQUE (journal_id, from_seq, to_seq)
);
