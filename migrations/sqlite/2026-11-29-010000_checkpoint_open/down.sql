ALTER TABLE ingest_checkpoint DROP COLUMN open_id;
