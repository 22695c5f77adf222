-- On PostgreSQL this drops the keys on the ids of readings and events. Here the id is the table itself: nothing to drop.
SELECT 1;
