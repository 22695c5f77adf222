-- Figures of five minutes, so that a month is a few thousand rows: the same names and columns as on PostgreSQL.
-- Nothing is filled in here, for that may take long: the service does it in the background, from the newest rows back.

-- The readings of one machine from bucket_start on, for five minutes: how many, and of each measurement the number of its
-- values, their minimum, maximum and sum. Values beyond 1e150 are left out. Written with the readings, in one transaction.
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

-- The same of each numeric field at the top of extra.
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

-- From this instant on the two tables above hold every reading of the site; before it they may not. No row: nowhere.
CREATE TABLE machine_rollup_filled (
    site TEXT NOT NULL PRIMARY KEY,
    filled_from TEXT NOT NULL
) WITHOUT ROWID;
