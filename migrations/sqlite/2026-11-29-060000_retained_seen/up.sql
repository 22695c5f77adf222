-- Retained messages without a usable time of their own, one row each: the same names and columns as on PostgreSQL.
-- The broker sends such a message at every new subscription, and each time it would be dated with another receipt.
-- seen_at is the newest receipt; retention deletes a row once that is past.
CREATE TABLE retained_seen (
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    digest BIGINT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (site, machine_id, digest)
) WITHOUT ROWID;

CREATE INDEX retained_seen_by_time ON retained_seen (site, seen_at);
