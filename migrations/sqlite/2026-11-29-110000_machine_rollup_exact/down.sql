ALTER TABLE machine_rollup_exact RENAME COLUMN exact_from TO filled_from;
ALTER TABLE machine_rollup_exact RENAME TO machine_rollup_filled;
