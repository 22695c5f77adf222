//! Which errors of SQLite are the fault of a row.
//!
//! diesel reports a kind for the four usual constraints and a message for the rest, but no result code.
//! SQLite's messages are fixed English texts in every locale. Those of errors that no row causes are known
//! here; what is left is a value that does not fit, or the message of a user's trigger.

use diesel::result::{DatabaseErrorKind, Error};

/// Messages of result codes (sqlite3ErrStr in main.c) about the file, the library or the schema, never about
/// a row.
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

/// First words of messages about the schema or the statement.
const NOT_THE_ROW_PREFIXES: [&str; 7] = [
    "no such ",
    "near ",
    "malformed database schema",
    "database ",
    "ON CONFLICT clause",
    "cannot modify ",
    "unable to ",
];

/// Keys of ids. SQLite reports a clash of these only once the greatest possible id is taken.
const PRIMARY_KEYS: [&str; 3] = ["machine_telemetry.id", "machine_event.id", "link_outage.id"];

/// Returns the database's message if `error` is the fault of a row.
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
    fn errors_of_file_library_and_schema_are_not_the_fault_of_a_row() {
        for message in ["database is locked", "database or disk is full", "no such table: machine_telemetry"]
        {
            assert_eq!(refusal(&unknown(message)), None, "{message}");
        }
    }

    #[test]
    fn values_that_do_not_fit_and_messages_of_a_trigger_are_the_fault_of_the_row() {
        for message in ["datatype mismatch", "string or blob too big", "line 4 does not measure humidity"] {
            assert_eq!(refusal(&unknown(message)).as_deref(), Some(message));
        }
    }
}
