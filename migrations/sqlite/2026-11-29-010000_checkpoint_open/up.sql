-- Under which opening of the journal its position was written; NULL: by a version that did not say so.
ALTER TABLE ingest_checkpoint ADD COLUMN open_id text;
