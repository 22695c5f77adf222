-- Retained messages without a usable time of their own, each once: the same names and columns as on SQLite.
-- The broker hands such a message over at every new subscription, and it would get another time of receipt each time.
-- seen_at is when it was handed over last; rows that were not for as long as readings are kept go with the readings.
CREATE TABLE retained_seen (
    site text NOT NULL,
    machine_id text NOT NULL,
    digest bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (site, machine_id, digest)
);

CREATE INDEX retained_seen_by_time ON retained_seen (site, seen_at);
