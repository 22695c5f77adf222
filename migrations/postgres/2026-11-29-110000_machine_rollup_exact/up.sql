-- Rollups of older readings are no longer filled in: the instant from which they are exact only moves forward. Andon 0.1.0 also
-- moved it back. One that still runs on this database now fails to do so, and goes on storing.
ALTER TABLE machine_rollup_filled RENAME TO machine_rollup_exact;
ALTER TABLE machine_rollup_exact RENAME COLUMN filled_from TO exact_from;
