-- Refused rows are now found with savepoints and smaller statements, without a function.
DROP FUNCTION IF EXISTS andon_store_one_by_one(text, text[], double precision[], double precision[], double precision[], text[],
    text[], timestamptz[], text[], timestamptz[], bigint[]);
DROP FUNCTION IF EXISTS andon_write_one_by_one(text, text, jsonb);
