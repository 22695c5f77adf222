-- Only PostgreSQL needs help with a row that it refuses; here a statement of one row is undone by itself.
SELECT 1;
