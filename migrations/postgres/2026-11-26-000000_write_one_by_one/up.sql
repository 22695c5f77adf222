-- Once made a function, as the first migration made another one, which 2026-11-29-020000 takes away again. Neither is made any more:
-- a role without the right to create functions can migrate a new database.
SELECT 1;
