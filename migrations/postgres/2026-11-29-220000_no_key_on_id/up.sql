-- The id stays and goes on counting; only its key goes. The unique identity is the one key of a reading and of an event: one index less
-- to write for each row, and the table can become a hypertable or a partitioned one, whose keys must hold the time.
-- Where these tables are replicated by a publication, DELETE needs a replica identity: it was the key on id.
ALTER TABLE machine_telemetry DROP CONSTRAINT IF EXISTS machine_telemetry_pkey;
ALTER TABLE machine_telemetry REPLICA IDENTITY USING INDEX machine_telemetry_identity;
ALTER TABLE machine_event DROP CONSTRAINT IF EXISTS machine_event_pkey;
ALTER TABLE machine_event REPLICA IDENTITY USING INDEX machine_event_identity;
