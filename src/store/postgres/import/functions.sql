-- The functions of the view that takes the place of the reference worker's table (view.rs). In our schema; :words are filled in.

-- ISO 8601 in UTC, always of one length, so that its order is that of time. Immutable, because nothing it uses depends on a setting.
CREATE OR REPLACE FUNCTION :schema.reference_text(at timestamptz) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"');
END $$;

-- A number in extra as the writer counts it; NULL if it counts for nothing.
CREATE OR REPLACE FUNCTION :schema.reference_number(number numeric) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
SELECT CASE WHEN abs(number) BETWEEN 1e-300 AND :measurement_max THEN number::double precision WHEN abs(number) < 1e-300 THEN 0 END
$$;

-- INSTEAD OF DELETE on the view. The argument is the site.
CREATE OR REPLACE FUNCTION :schema.reference_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema, pg_temp AS $$
DECLARE
    at timestamptz := OLD.recorded_at::timestamptz;
BEGIN
    DELETE FROM machine_telemetry
        WHERE site = TG_ARGV[0] AND machine_id = OLD.machine_id AND recorded_at = at AND id = OLD.id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO reference_deleted (transaction_id, site, machine_id, bucket_start)
        VALUES (pg_current_xact_id(), TG_ARGV[0], OLD.machine_id,
            to_timestamp(floor(date_part('epoch', at) / :bucket_seconds) * :bucket_seconds))
        ON CONFLICT DO NOTHING;
    RETURN OLD;
END $$;

-- At the end of the transaction: computes the rollups of all deleted rows anew. The first call does it for all.
CREATE OR REPLACE FUNCTION :schema.reference_follow() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = :schema, pg_temp AS $$
DECLARE
    sites text[];
    machines text[];
    starts timestamptz[];
BEGIN
    WITH noted AS (DELETE FROM reference_deleted WHERE transaction_id = pg_current_xact_id() RETURNING *)
    SELECT array_agg(n.site), array_agg(n.machine_id), array_agg(n.bucket_start) INTO sites, machines, starts FROM noted n;
    IF sites IS NULL THEN
        RETURN NULL;
    END IF;
    -- Every writer of these buckets has committed before, or waits until the end of this transaction.
    PERFORM 1 FROM machine_rollup r JOIN unnest(sites, machines, starts) AS k (site, machine_id, bucket_start)
        ON r.site = k.site AND r.machine_id = k.machine_id AND r.bucket_start = k.bucket_start
        ORDER BY r.site, r.machine_id, r.bucket_start FOR UPDATE OF r;
    UPDATE machine_rollup r SET readings = n.readings,
        temperature_count = n.tc, temperature_min = n.tmin, temperature_max = n.tmax, temperature_sum = n.tsum,
        humidity_count = n.hc, humidity_min = n.hmin, humidity_max = n.hmax, humidity_sum = n.hsum,
        vibration_count = n.vc, vibration_min = n.vmin, vibration_max = n.vmax, vibration_sum = n.vsum,
        extra_left_out = n.left_out
    FROM (SELECT k.site, k.machine_id, k.bucket_start, count(t.id) AS readings,
            count(t.temperature) FILTER (WHERE abs(t.temperature) <= :measurement_max) AS tc,
            min(t.temperature) FILTER (WHERE abs(t.temperature) <= :measurement_max) AS tmin,
            max(t.temperature) FILTER (WHERE abs(t.temperature) <= :measurement_max) AS tmax,
            coalesce(sum(t.temperature) FILTER (WHERE abs(t.temperature) <= :measurement_max), 0) AS tsum,
            count(t.humidity) FILTER (WHERE abs(t.humidity) <= :measurement_max) AS hc,
            min(t.humidity) FILTER (WHERE abs(t.humidity) <= :measurement_max) AS hmin,
            max(t.humidity) FILTER (WHERE abs(t.humidity) <= :measurement_max) AS hmax,
            coalesce(sum(t.humidity) FILTER (WHERE abs(t.humidity) <= :measurement_max), 0) AS hsum,
            count(t.vibration) FILTER (WHERE abs(t.vibration) <= :measurement_max) AS vc,
            min(t.vibration) FILTER (WHERE abs(t.vibration) <= :measurement_max) AS vmin,
            max(t.vibration) FILTER (WHERE abs(t.vibration) <= :measurement_max) AS vmax,
            coalesce(sum(t.vibration) FILTER (WHERE abs(t.vibration) <= :measurement_max), 0) AS vsum,
            count(*) FILTER (WHERE f.fields > :fields_max OR f.longest > :field_chars_max) AS left_out
        FROM unnest(sites, machines, starts) AS k (site, machine_id, bucket_start)
        LEFT JOIN machine_telemetry t ON t.site = k.site AND t.machine_id = k.machine_id
            AND t.recorded_at >= k.bucket_start AND t.recorded_at < k.bucket_start + interval ':bucket_seconds s'
        LEFT JOIN LATERAL (SELECT count(*) AS fields, max(length(e.key)) AS longest
            FROM jsonb_each(CASE WHEN jsonb_typeof(t.extra) = 'object' THEN t.extra END) e
            WHERE jsonb_typeof(e.value) = 'number') f ON true
        GROUP BY k.site, k.machine_id, k.bucket_start) n
    WHERE r.site = n.site AND r.machine_id = n.machine_id AND r.bucket_start = n.bucket_start;
    DELETE FROM machine_rollup r USING unnest(sites, machines, starts) AS k (site, machine_id, bucket_start)
        WHERE r.site = k.site AND r.machine_id = k.machine_id AND r.bucket_start = k.bucket_start AND r.readings = 0;
    DELETE FROM machine_rollup_extra r USING unnest(sites, machines, starts) AS k (site, machine_id, bucket_start)
        WHERE r.site = k.site AND r.machine_id = k.machine_id AND r.bucket_start = k.bucket_start;
    INSERT INTO machine_rollup_extra (site, machine_id, bucket_start, field, value_count, value_min, value_max, value_sum)
        SELECT k.site, k.machine_id, k.bucket_start, f.key, count(*), min(f.value), max(f.value), sum(f.value)
        FROM unnest(sites, machines, starts) AS k (site, machine_id, bucket_start)
        -- A bucket that is not there is not exact, or has no readings.
        JOIN machine_rollup r ON r.site = k.site AND r.machine_id = k.machine_id AND r.bucket_start = k.bucket_start
        JOIN machine_telemetry t ON t.site = k.site AND t.machine_id = k.machine_id
            AND t.recorded_at >= k.bucket_start AND t.recorded_at < k.bucket_start + interval ':bucket_seconds s'
        CROSS JOIN LATERAL (SELECT e.key, reference_number(e.value::numeric) AS value, count(*) OVER () AS fields,
                max(length(e.key)) OVER () AS longest
            FROM jsonb_each(CASE WHEN jsonb_typeof(t.extra) = 'object' THEN t.extra END) e
            WHERE jsonb_typeof(e.value) = 'number') f
        WHERE f.fields <= :fields_max AND f.longest <= :field_chars_max AND f.value IS NOT NULL
        GROUP BY k.site, k.machine_id, k.bucket_start, f.key;
    RETURN NULL;
END $$;

-- INSTEAD OF INSERT OR UPDATE on the view.
CREATE OR REPLACE FUNCTION :schema.reference_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: it is a view now, and Andon stores the telemetry', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Stop the reference worker: set RUN_MQTT_WORKER=false for the web application. Reading and deleting work as before.';
END $$;

-- These run with the rights of their owner, and only as the triggers that are made here.
REVOKE EXECUTE ON FUNCTION :schema.reference_delete(), :schema.reference_follow() FROM PUBLIC;

DROP TRIGGER IF EXISTS reference_follow ON :schema.reference_deleted;
CREATE CONSTRAINT TRIGGER reference_follow AFTER INSERT ON :schema.reference_deleted
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION :schema.reference_follow();
