-- Events are ordered by id: their times go back when the wall clock is set back.
CREATE INDEX machine_event_by_id ON machine_event (site, id);
CREATE INDEX machine_event_of_machine ON machine_event (site, machine_id, id);
