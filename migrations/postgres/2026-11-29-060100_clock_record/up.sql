-- The trusted time of each site, by which the age of rows is counted: the same names and columns as on SQLite.
-- seq grows with each record. step_held_us: the wall clock disagrees, is not believed, and the service has run that long since.
CREATE TABLE clock_record (
    site text PRIMARY KEY,
    seq bigint NOT NULL,
    trusted_at timestamptz NOT NULL,
    wall_at timestamptz NOT NULL,
    step_held_us bigint
) WITH (fillfactor = 10);
