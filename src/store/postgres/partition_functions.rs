//! Two functions with which a role that only writes creates the next month, and drops one that is past retention.
//!
//! Both need the owner of the tables. `andon db migrate`, and a start with the owner's role, install them where the
//! readings are partitioned and another role may delete from them. They run with the owner's rights (SECURITY DEFINER), so
//!
//! - their search path is fixed, and every name in them is qualified or of `pg_catalog`: no object of the caller is taken
//!   for one of ours;
//! - they work on partitions of this one table, and drop only a month that ends by an instant from which on nothing in it
//!   was recorded or received, and that holds no other site's rows. They prove it themselves, under the lock, and do
//!   nothing for an argument that is NULL (STRICT), with which no proof would fail;
//! - nobody may call them but roles that may delete every reading anyway;
//! - they are never the property of a superuser.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};

use super::FlagRow;
use super::partitions::{Layout, layout};

/// Whose tables these are, and who else may delete readings; no row unless this session may act as the owner.
const RIGHTS: &str = "SELECT format('%I', n.nspname) AS schema, format('%I.%I', n.nspname, c.relname) AS relation, \
     format('%I', r.rolname) AS owner, r.rolsuper AS is_superuser, \
     coalesce((SELECT string_agg(DISTINCT format('%I', w.rolname), ', ') FROM aclexplode(c.relacl) a \
         JOIN pg_roles w ON w.oid = a.grantee WHERE a.privilege_type = 'DELETE' AND a.grantee <> c.relowner), '') AS writers \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner \
     WHERE c.oid = to_regclass('machine_telemetry') AND pg_has_role(c.relowner, 'USAGE')";

/// True if this session must call the functions, and may.
const ARE_NEEDED: &str = "SELECT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = to_regclass('machine_telemetry') \
     AND NOT pg_has_role(c.relowner, 'USAGE')) \
     AND coalesce(has_function_privilege(to_regprocedure('andon_create_month(date)')::oid, 'EXECUTE'), false) \
     AND coalesce(has_function_privilege(to_regprocedure('andon_drop_month(text, text, timestamptz)')::oid, 'EXECUTE'), \
         false) AS value";

/// `{schema}`, `{table}`, `{owner}` and `{writers}` stand for quoted names.
const INSTALL: &str = r"
CREATE OR REPLACE FUNCTION {schema}.andon_create_month(first_day date) RETURNS text LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $andon$
DECLARE
    parent constant regclass := '{table}';
    begins constant timestamptz := date_trunc('month', first_day::timestamp)::timestamptz;
    ends constant timestamptz := (date_trunc('month', first_day::timestamp) + interval '1 month')::timestamptz;
    part text;
BEGIN
    IF NOT has_table_privilege(session_user, parent, 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('only a role that may delete from %s may create its months', parent);
    END IF;
    SELECT format('%I.%I', n.nspname, c.relname || '_' || to_char(begins, 'YYYY_MM')) INTO part
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent;
    EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', part, parent, begins, ends);
    RETURN part;
END $andon$;
CREATE OR REPLACE FUNCTION {schema}.andon_drop_month(part text, of_site text, before timestamptz) RETURNS boolean
    LANGUAGE plpgsql STRICT SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $andon$
DECLARE
    parent constant regclass := '{table}';
    child constant regclass := to_regclass(part);
    ends timestamptz;
    is_kept boolean;
BEGIN
    IF NOT has_table_privilege(session_user, parent, 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('only a role that may delete from %s may drop its months', parent);
    END IF;
    SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz INTO ends
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = parent AND i.inhrelid = child;
    IF ends IS NULL OR ends > before THEN
        RAISE EXCEPTION '% is no partition of % that ends by %', part, parent, before;
    END IF;
    FOR look IN 1..2 LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %1$s WHERE site < $1) OR EXISTS (SELECT 1 FROM %1$s WHERE site > $1) '
            'OR EXISTS (SELECT 1 FROM %1$s WHERE received_at >= $2)', child) INTO is_kept USING of_site, before;
        IF is_kept THEN
            RETURN false;
        END IF;
        IF look = 1 THEN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', parent);
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', child);
        END IF;
    END LOOP;
    EXECUTE format('DROP TABLE %s', child);
    RETURN true;
END $andon$;
ALTER FUNCTION {schema}.andon_create_month(date) OWNER TO {owner};
ALTER FUNCTION {schema}.andon_drop_month(text, text, timestamptz) OWNER TO {owner};
REVOKE ALL ON FUNCTION {schema}.andon_create_month(date), {schema}.andon_drop_month(text, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.andon_create_month(date), {schema}.andon_drop_month(text, text, timestamptz) TO {writers}";

#[derive(QueryableByName)]
struct Rights {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    relation: String,
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Bool)]
    is_superuser: bool,
    #[diesel(sql_type = Text)]
    writers: String,
}

impl Rights {
    /// Returns the statements; `None` if a name could end a quotation in them.
    fn statements(&self) -> Option<String> {
        let names = [&self.schema, &self.relation, &self.owner, &self.writers];
        let is_harmless = names.iter().all(|name| !name.contains(['$', '\'', '{']));
        is_harmless.then(|| {
            INSTALL
                .replace("{schema}", &self.schema)
                .replace("{table}", &self.relation)
                .replace("{owner}", &self.owner)
                .replace("{writers}", &self.writers)
        })
    }
}

/// True if this session must create and drop months through the functions, and may.
pub(super) fn are_needed(connection: &mut PgConnection) -> QueryResult<bool> {
    sql_query(ARE_NEEDED).get_result::<FlagRow>(connection).map(|row| row.value)
}

/// Installs the functions, if this session is the owner's and another role needs them. Returns why not, for a person.
pub(super) fn install(connection: &mut PgConnection) -> QueryResult<Option<String>> {
    if layout(connection)? != Layout::Partitions {
        return Ok(None);
    }
    let rights: Option<Rights> = sql_query(RIGHTS).get_result(connection).optional()?;
    let Some(rights) = rights.filter(|rights| !rights.writers.is_empty()) else { return Ok(None) };
    if rights.is_superuser {
        return Ok(Some(format!(
            "machine_telemetry belongs to the superuser {}, so {} may not create and drop its partitions: rows are deleted one \
             by one. Give the tables to a role of their own",
            rights.owner, rights.writers
        )));
    }
    let failed = |why: &dyn std::fmt::Display| {
        Some(format!(
            "the functions with which {} would create and drop partitions could not be installed: {why}",
            rights.writers
        ))
    };
    let Some(statements) = rights.statements() else {
        return Ok(failed(&"the name of the schema or of a role contains $, ' or {"));
    };
    let installed = connection.transaction(|connection| connection.batch_execute(&statements));
    Ok(installed.err().and_then(|error: diesel::result::Error| failed(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_end_a_quotation_installs_nothing() {
        let rights = |schema: &str| Rights {
            schema: schema.to_owned(),
            relation: format!("{schema}.machine_telemetry"),
            owner: "andon_owner".to_owned(),
            is_superuser: false,
            writers: "a, \"b c\"".to_owned(),
        };
        assert!(rights("\"Hall 3\"").statements().unwrap().ends_with("TO a, \"b c\""));
        for schema in ["\"x$andon$\"", "\"o'brien\"", "\"{owner}\""] {
            assert_eq!(rights(schema).statements(), None, "{schema}");
        }
    }
}
