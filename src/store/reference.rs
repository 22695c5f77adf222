//! The table of the reference Python worker, which may stand where Andon comes to: how it is recognised.
//!
//! That worker has one table, `machine_telemetry(id, machine_id, temperature, humidity, vibration, source_topic, recorded_at,
//! created_at)`, with its times as text. Andon never migrates over it. `andon db import` brings its rows over and leaves a view
//! with these columns in its place, for the application that goes on reading it.

/// The name of that table, and of Andon's own.
pub(super) const TABLE: &str = "machine_telemetry";

/// A relation of the reference worker, or the view in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTable {
    /// The schema that it is in.
    pub schema: String,
    /// It is the view that `andon db import` left.
    pub is_view: bool,
    /// It stands where Andon's own table would be.
    pub is_in_the_way: bool,
    /// How many rows it has, as the server's statistics estimate it; `None`: they do not know.
    pub rows: Option<u64>,
}

impl ReferenceTable {
    /// Returns its name with its schema, for a person.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{TABLE}", self.schema)
    }

    /// Says that it is there and what to do about it; `None` if there is nothing to do.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let name = self.name();
        match (self.is_in_the_way, self.is_view) {
            (true, false) => Some(format!(
                "{name} is the table of the reference worker{}. Andon does not touch it. Set store.schema = \"andon\" to give Andon's \
                 tables a schema of their own, then run `andon db import`: it brings the rows over and leaves a view for \
                 the application that reads them",
                self.size()
            )),
            (true, true) => Some(format!(
                "{name} is the view that `andon db import` left for the application of the reference worker. Set store.schema \
                 to the schema of Andon's tables, as at the import"
            )),
            (false, false) => Some(format!(
                "{name} is the table of the reference worker{}. `andon db import` brings its rows over and leaves a view for the \
                 application that reads them",
                self.size()
            )),
            (false, true) => None,
        }
    }

    fn size(&self) -> String {
        self.rows.map_or_else(String::new, |rows| format!(", with about {rows} rows"))
    }
}

/// What a column may hold.
#[derive(Clone, Copy)]
enum Holds {
    Number,
    Text,
}

const COLUMNS: [(&str, Holds); 8] = [
    ("id", Holds::Number),
    ("machine_id", Holds::Text),
    ("temperature", Holds::Number),
    ("humidity", Holds::Number),
    ("vibration", Holds::Number),
    ("source_topic", Holds::Text),
    ("recorded_at", Holds::Text),
    ("created_at", Holds::Text),
];
/// Types of PostgreSQL, as `format_type` names them without a length.
const NUMBERS: [&str; 6] = ["smallint", "integer", "bigint", "real", "double precision", "numeric"];
const TEXTS: [&str; 3] = ["text", "character varying", "character"];
/// Columns of Andon's own table that the worker's lacks.
const OURS: [&str; 2] = ["site", "digest"];

/// Returns whether a relation with these columns, each a name and a type, is that worker's. It may have more columns.
pub(super) fn has_its_columns(columns: &[(&str, &str)]) -> bool {
    let type_of = |name: &str| columns.iter().find(|column| column.0 == name).map(|column| column.1);
    let fits = |(name, holds): &(&str, Holds)| match holds {
        Holds::Number => type_of(name).is_some_and(|found| NUMBERS.contains(&found)),
        Holds::Text => type_of(name).is_some_and(|found| TEXTS.contains(&found)),
    };
    COLUMNS.iter().all(fits) && OURS.iter().all(|name| type_of(name).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITS: [(&str, &str); 8] = [
        ("id", "integer"),
        ("machine_id", "character varying"),
        ("temperature", "double precision"),
        ("humidity", "real"),
        ("vibration", "numeric"),
        ("source_topic", "text"),
        ("recorded_at", "text"),
        ("created_at", "character varying"),
    ];

    #[test]
    fn the_table_is_recognised_by_its_columns_and_types() {
        assert!(has_its_columns(&ITS));
        let mut more = ITS.to_vec();
        more.push(("note", "jsonb"));
        assert!(has_its_columns(&more), "a column that somebody added");
        for (missing, (name, _)) in ITS.iter().enumerate() {
            let mut fewer = ITS.to_vec();
            fewer.remove(missing);
            assert!(!has_its_columns(&fewer), "without {name}");
        }
        for (name, other_type) in
            [("recorded_at", "timestamp with time zone"), ("temperature", "text"), ("id", "uuid")]
        {
            let changed = ITS.map(|column| if column.0 == name { (name, other_type) } else { column });
            assert!(!has_its_columns(&changed), "{name} {other_type}");
        }
        more.push(("digest", "bigint"));
        assert!(!has_its_columns(&more), "Andon's own, changed by a person");
    }

    #[test]
    fn each_place_and_kind_names_its_way() {
        let table = |is_view, is_in_the_way| {
            let schema = "public".to_owned();
            ReferenceTable { schema, is_view, is_in_the_way, rows: Some(7) }.sentence().unwrap_or_default()
        };
        assert!(table(false, true).contains("store.schema = \"andon\""), "{}", table(false, true));
        assert!(table(false, true).contains("about 7 rows"));
        assert!(
            !table(false, false).contains("store.schema") && table(false, false).contains("andon db import")
        );
        assert!(table(true, true).contains("as at the import"));
        assert_eq!(table(true, false), "", "all is done");
    }
}
