-- Who changed what, and from where: the same names and columns as on PostgreSQL.
CREATE TABLE audit_event (
    id INTEGER NOT NULL PRIMARY KEY,
    site TEXT NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT,
    outcome TEXT NOT NULL,
    detail TEXT
);

CREATE INDEX audit_event_by_time ON audit_event (site, at);

-- Retention deletes the oldest rejected messages first. That table holds no readings, and from now on it is bounded.
CREATE INDEX rejected_message_by_time ON rejected_message (site, received_at, id);
