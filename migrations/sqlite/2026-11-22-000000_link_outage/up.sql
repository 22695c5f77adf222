-- When Andon could not judge the machines: the same names and columns as on PostgreSQL.

-- A stretch in which a machine's silence proves nothing; ended_at is NULL while it lasts.
-- reason: link_down, hold (the journal was full), stopped (a clean stop), start (found at a start, after a crash).
CREATE TABLE link_outage (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    began_at TEXT NOT NULL,
    ended_at TEXT,
    reason TEXT NOT NULL,
    UNIQUE (site, began_at)
);

-- Up to when the broker link is known to have worked, by Andon's clock.
CREATE TABLE link_sight (
    site TEXT NOT NULL PRIMARY KEY,
    seen_until TEXT NOT NULL
) WITHOUT ROWID;

-- The outbox: events that may not have reached the broker yet. Events of older versions count as published.
ALTER TABLE machine_event ADD COLUMN publish_pending BOOLEAN NOT NULL DEFAULT 0;
CREATE INDEX machine_event_pending ON machine_event (site, id) WHERE publish_pending;
