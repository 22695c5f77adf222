DROP FUNCTION IF EXISTS andon_store_one_by_one;
DROP TABLE journal_gap;
DROP TABLE ingest_checkpoint;
DROP TABLE rejected_message;
DROP TABLE machine_event;
DROP TABLE machine;
DROP TABLE machine_telemetry;
