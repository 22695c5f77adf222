-- When Andon itself could not see: the same names and columns as on PostgreSQL.

-- A stretch in which no machine's silence could be judged; ended_at is NULL while it lasts.
-- reason: link_down, hold (the journal was full), stopped (in order), start (found at a start: nobody said goodbye).
CREATE TABLE link_outage (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    began_at TEXT NOT NULL,
    ended_at TEXT,
    reason TEXT NOT NULL,
    UNIQUE (site, began_at)
);

-- The newest moment up to which the broker link is known to have been alive, by Andon's clock.
CREATE TABLE link_sight (
    site TEXT NOT NULL PRIMARY KEY,
    seen_until TEXT NOT NULL
) WITHOUT ROWID;

-- The outbox: recorded, and not known to have reached the broker. Earlier events count as published.
ALTER TABLE machine_event ADD COLUMN publish_pending BOOLEAN NOT NULL DEFAULT 0;
CREATE INDEX machine_event_pending ON machine_event (site, id) WHERE publish_pending;
