-- The trusted time of each site, from which retention counts the age of rows: the same names and columns as on PostgreSQL.
-- seq grows with each record. step_held_us: the wall clock differs and is not trusted yet; how long the service has run since.
CREATE TABLE clock_record (
    site TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    trusted_at TEXT NOT NULL,
    wall_at TEXT NOT NULL,
    step_held_us BIGINT
) WITHOUT ROWID;
