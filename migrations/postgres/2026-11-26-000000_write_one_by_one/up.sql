-- Runs a statement of Andon's once for each of lines, each time in a subtransaction of its own, and returns those that are
-- refused for what they hold. The statement knows the site as $1 and the line, an array of texts, as $2. Called only after the
-- same rows were refused as one statement: events, machines and outages, as andon_store_one_by_one is for readings.
CREATE FUNCTION andon_write_one_by_one(statement text, site text, lines jsonb, OUT ordinal bigint, OUT refusal text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    written record;
    message text;
    detail text;
    refused_by text;
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    FOR written IN SELECT u.line, u.n FROM jsonb_array_elements(lines) WITH ORDINALITY AS u (line, n) ORDER BY u.n
    LOOP
        BEGIN
            EXECUTE statement USING site, written.line;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, refused_by = CONSTRAINT_NAME;
            -- As in andon_store_one_by_one: what is the row's own fault, and a sequence that is behind is not.
            IF NOT (left(SQLSTATE, 2) IN ('22', '23', '44', '54') OR SQLSTATE IN ('P0001', 'P0002', 'P0003'))
                OR (SQLSTATE = '23505' AND refused_by IN ('machine_event_pkey', 'link_outage_pkey')) THEN
                RAISE;
            END IF;
            ordinal := written.n;
            refusal := SQLSTATE || ': ' || message || CASE WHEN detail = '' THEN '' ELSE ' (' || detail || ')' END;
            RETURN NEXT;
        END;
    END LOOP;
END
$$;
