DROP INDEX machine_event_of_machine;
DROP INDEX machine_event_by_id;
