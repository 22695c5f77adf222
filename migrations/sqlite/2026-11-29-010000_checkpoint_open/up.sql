-- Which opening of the journal claimed the position; NULL: claimed by a version that recorded none.
ALTER TABLE ingest_checkpoint ADD COLUMN open_id text;
