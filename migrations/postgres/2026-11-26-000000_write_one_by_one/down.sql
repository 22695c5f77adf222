DROP FUNCTION IF EXISTS andon_write_one_by_one(text, text, jsonb);
