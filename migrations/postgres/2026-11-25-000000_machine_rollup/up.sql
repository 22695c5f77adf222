-- Rollups of five minutes: a month is a few thousand rows. The same names and columns as on SQLite.
-- The migration fills in nothing: reading all readings may take hours.

-- The readings of one machine in the five minutes from bucket_start on: how many, and of each measurement the count,
-- minimum, maximum and sum of its values. Values beyond 1e150 are left out. Written with the readings, in one transaction.
CREATE TABLE machine_rollup (
    site text NOT NULL,
    machine_id text NOT NULL,
    bucket_start timestamptz NOT NULL,
    readings bigint NOT NULL,
    temperature_count bigint NOT NULL,
    temperature_min double precision,
    temperature_max double precision,
    temperature_sum double precision NOT NULL,
    humidity_count bigint NOT NULL,
    humidity_min double precision,
    humidity_max double precision,
    humidity_sum double precision NOT NULL,
    vibration_count bigint NOT NULL,
    vibration_min double precision,
    vibration_max double precision,
    vibration_sum double precision NOT NULL,
    -- Readings whose numeric fields of extra are not in machine_rollup_extra: more than 8, or names over 100 characters.
    extra_left_out bigint NOT NULL,
    PRIMARY KEY (site, machine_id, bucket_start)
) WITH (fillfactor = 80);

-- The same for each numeric field at the top level of extra.
CREATE TABLE machine_rollup_extra (
    site text NOT NULL,
    machine_id text NOT NULL,
    bucket_start timestamptz NOT NULL,
    field text NOT NULL,
    value_count bigint NOT NULL,
    value_min double precision NOT NULL,
    value_max double precision NOT NULL,
    value_sum double precision NOT NULL,
    PRIMARY KEY (site, machine_id, bucket_start, field)
) WITH (fillfactor = 80);

-- From this instant on the two tables above hold every reading of the site; before it they may not. Without a row, never.
CREATE TABLE machine_rollup_filled (
    site text NOT NULL PRIMARY KEY,
    filled_from timestamptz NOT NULL
);
