-- The trusted time of each site, from which retention counts the age of rows: the same names and columns as on SQLite.
-- seq grows with each record. step_held_us: the wall clock differs and is not trusted yet; how long the service has run since.
CREATE TABLE clock_record (
    site text PRIMARY KEY,
    seq bigint NOT NULL,
    trusted_at timestamptz NOT NULL,
    wall_at timestamptz NOT NULL,
    step_held_us bigint
) WITH (fillfactor = 10);
