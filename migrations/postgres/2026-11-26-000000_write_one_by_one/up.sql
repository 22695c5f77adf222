-- Once created a function, as the initial migration once did. 2026-11-29-020000 drops both where they exist. Neither is created any more,
-- so that a role without the right to create functions can migrate a new database.
SELECT 1;
