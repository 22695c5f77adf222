DROP TABLE clock_record;
