-- The trusted time of each site, by which the age of rows is counted: the same names and columns as on PostgreSQL.
-- seq grows with each record. step_held_us: the wall clock disagrees, is not believed, and the service has run that long since.
CREATE TABLE clock_record (
    site TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    trusted_at TEXT NOT NULL,
    wall_at TEXT NOT NULL,
    step_held_us BIGINT
) WITHOUT ROWID;
