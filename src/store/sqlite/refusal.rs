//! Which errors of SQLite are a row's own fault.
//!
//! diesel hands out a kind for the four usual constraints and a message for the rest, but no result code.
//! SQLite's messages are fixed English texts whatever the locale, so that the codes that are nobody's row are
//! known by theirs; what is left is a value that does not fit or the words of a user's trigger.

use diesel::result::{DatabaseErrorKind, Error};

/// Messages of result codes (sqlite3ErrStr in main.c) that speak of the file, the library or the schema,
/// never of a row.
const NOT_THE_ROW: [&str; 21] = [
    "SQL logic error",
    "access permission denied",
    "query aborted",
    "database is locked",
    "database table is locked",
    "database schema is locked",
    "out of memory",
    "attempt to write a readonly database",
    "interrupted",
    "disk I/O error",
    "database disk image is malformed",
    "unknown operation",
    "database or disk is full",
    "unable to open database file",
    "locking protocol",
    "database schema has changed",
    "bad parameter or other API misuse",
    "large file support is disabled",
    "authorization denied",
    "file is not a database",
    "unknown error",
];

/// Beginnings of messages about the schema or the statement.
const NOT_THE_ROW_PREFIXES: [&str; 7] = [
    "no such ",
    "near ",
    "malformed database schema",
    "database ",
    "ON CONFLICT clause",
    "cannot modify ",
    "unable to ",
];

/// Clashes of ids: SQLite only gets there when the greatest id possible is taken.
const PRIMARY_KEYS: [&str; 3] = ["machine_telemetry.id", "machine_event.id", "link_outage.id"];

/// The database's words if `error` is a row's own fault.
pub fn refusal(error: &Error) -> Option<String> {
    let Error::DatabaseError(kind, information) = error else {
        return None;
    };
    let message = information.message();
    let is_the_rows_fault = match kind {
        DatabaseErrorKind::UniqueViolation => !PRIMARY_KEYS.iter().any(|key| message.ends_with(key)),
        DatabaseErrorKind::CheckViolation
        | DatabaseErrorKind::NotNullViolation
        | DatabaseErrorKind::ForeignKeyViolation => true,
        DatabaseErrorKind::Unknown => !is_of_file_or_schema(message),
        _ => false,
    };
    is_the_rows_fault.then(|| message.to_owned())
}

fn is_of_file_or_schema(message: &str) -> bool {
    NOT_THE_ROW.contains(&message)
        || NOT_THE_ROW_PREFIXES.iter().any(|prefix| message.starts_with(prefix))
        || (message.starts_with("table ") && message.contains(" has no column "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(message: &str) -> Error {
        Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(message.to_owned()))
    }

    #[test]
    fn errors_of_file_library_and_schema_are_no_rows_fault() {
        for message in ["database is locked", "database or disk is full", "no such table: machine_telemetry"]
        {
            assert_eq!(refusal(&unknown(message)), None, "{message}");
        }
    }

    #[test]
    fn values_that_do_not_fit_and_words_of_a_trigger_are_the_rows_fault() {
        for message in ["datatype mismatch", "string or blob too big", "line 4 does not measure humidity"] {
            assert_eq!(refusal(&unknown(message)).as_deref(), Some(message));
        }
    }
}
