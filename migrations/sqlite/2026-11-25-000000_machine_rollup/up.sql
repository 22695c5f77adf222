-- Rollups of five minutes: a month is a few thousand rows. The same names and columns as on PostgreSQL.
-- The migration fills in nothing: reading all readings may take hours.

-- The readings of one machine in the five minutes from bucket_start on: how many, and of each measurement the count,
-- minimum, maximum and sum of its values. Values beyond 1e150 are left out. Written with the readings, in one transaction.
CREATE TABLE machine_rollup (
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    bucket_start TEXT NOT NULL,
    readings BIGINT NOT NULL,
    temperature_count BIGINT NOT NULL,
    temperature_min DOUBLE,
    temperature_max DOUBLE,
    temperature_sum DOUBLE NOT NULL,
    humidity_count BIGINT NOT NULL,
    humidity_min DOUBLE,
    humidity_max DOUBLE,
    humidity_sum DOUBLE NOT NULL,
    vibration_count BIGINT NOT NULL,
    vibration_min DOUBLE,
    vibration_max DOUBLE,
    vibration_sum DOUBLE NOT NULL,
    -- Readings whose numeric fields of extra are not in machine_rollup_extra: more than 8, or names over 100 characters.
    extra_left_out BIGINT NOT NULL,
    PRIMARY KEY (site, machine_id, bucket_start)
) WITHOUT ROWID;

-- The same for each numeric field at the top level of extra.
CREATE TABLE machine_rollup_extra (
    site TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    bucket_start TEXT NOT NULL,
    field TEXT NOT NULL,
    value_count BIGINT NOT NULL,
    value_min DOUBLE NOT NULL,
    value_max DOUBLE NOT NULL,
    value_sum DOUBLE NOT NULL,
    PRIMARY KEY (site, machine_id, bucket_start, field)
) WITHOUT ROWID;

-- From this instant on the two tables above hold every reading of the site; before it they may not. Without a row, never.
CREATE TABLE machine_rollup_filled (
    site TEXT NOT NULL PRIMARY KEY,
    filled_from TEXT NOT NULL
) WITHOUT ROWID;
