-- Rollups of older readings are no longer filled in: the instant from which they are exact only moves forward. Andon 0.1.0 moved it
-- back, too; should one still run on this database, it fails at that (and stores on) instead of vouching for what it never counted.
ALTER TABLE machine_rollup_filled RENAME TO machine_rollup_exact;
ALTER TABLE machine_rollup_exact RENAME COLUMN filled_from TO exact_from;
