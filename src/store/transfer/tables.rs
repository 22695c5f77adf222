//! Which tables are copied: all that both databases have, as their schemas say.
//!
//! No list of tables or columns stands in the code, so that a new one is copied without anybody thinking of it.

use super::row::{Column, ColumnType};

/// The table that is copied piece by piece; every other one is replaced as a whole.
pub const READINGS: &str = "machine_telemetry";

/// The column by which a row belongs to what is copied. Rows of others in the same database are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Site,
    Journal,
}

impl Owner {
    pub const fn column(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Journal => "journal_id",
        }
    }
}

/// A table that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Without `id`, which each database counts by itself.
    pub columns: Vec<Column>,
    /// Its `id` gives the order of its rows.
    pub has_id: bool,
    pub owner: Owner,
}

/// A column of the target as its catalogue describes it.
pub struct TargetColumn {
    pub name: String,
    pub type_oid: i64,
    /// The database counts it by itself.
    pub is_identity: bool,
}

impl Table {
    /// Matches a table of the source with the same one of the target, whose columns may have another order.
    ///
    /// # Errors
    /// In words, how the two differ.
    pub fn matching(name: &str, source: &[String], target: &[TargetColumn]) -> Result<Self, String> {
        let mut columns = Vec::new();
        for column in target.iter().filter(|column| !column.is_identity) {
            if !source.contains(&column.name) {
                return Err(format!("only the target has the column {name}.{}", column.name));
            }
            let column_type = ColumnType::of_oid(column.type_oid).ok_or_else(|| {
                format!("the column {name}.{} has a type that Andon does not use", column.name)
            })?;
            columns.push(Column { name: column.name.clone(), column_type });
        }
        if let Some(missing) = source.iter().find(|name| target.iter().all(|column| column.name != **name)) {
            return Err(format!("only the source has the column {name}.{missing}"));
        }
        let has = |wanted: &str| columns.iter().any(|column| column.name == wanted);
        let owner = match (has(Owner::Site.column()), has(Owner::Journal.column())) {
            (true, _) => Owner::Site,
            (false, true) => Owner::Journal,
            (false, false) => return Err(format!("{name} does not say whose its rows are")),
        };
        let has_id = source.iter().any(|column| column == "id");
        Ok(Self { name: name.to_owned(), columns, has_id, owner })
    }

    /// Returns its columns for a statement.
    pub fn column_list(&self) -> String {
        let quoted: Vec<String> = self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        quoted.join(", ")
    }

    /// Returns the place of a column among the values of a row.
    pub fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|found| found.name == column)
    }
}
