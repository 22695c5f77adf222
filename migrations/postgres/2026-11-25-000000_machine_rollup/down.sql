DROP TABLE machine_rollup_filled;
DROP TABLE machine_rollup_extra;
DROP TABLE machine_rollup;
