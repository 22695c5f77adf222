DROP TABLE retained_seen;
