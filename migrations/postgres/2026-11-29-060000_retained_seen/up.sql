-- Retained messages without a usable time of their own, one row each: the same names and columns as on SQLite.
-- The broker sends such a message at every new subscription, and each time it would be dated with another receipt.
-- seen_at is the newest receipt; retention deletes a row once that is past.
CREATE TABLE retained_seen (
    site text NOT NULL,
    machine_id text NOT NULL,
    digest bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (site, machine_id, digest)
);

CREATE INDEX retained_seen_by_time ON retained_seen (site, seen_at);
