-- Only PostgreSQL had functions for a row that it refuses.
SELECT 1;
