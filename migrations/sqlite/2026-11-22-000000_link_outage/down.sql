DROP INDEX machine_event_pending;
ALTER TABLE machine_event DROP COLUMN publish_pending;
DROP TABLE link_sight;
DROP TABLE link_outage;
