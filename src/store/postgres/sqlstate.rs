//! Which errors of PostgreSQL are the fault of a row, by their SQLSTATE.
//!
//! diesel reads the SQLSTATE of every error, but reports only a kind for a few of them; messages come in the
//! server's language. So `build.rs` tells the linker to redirect diesel's calls of `PQresultErrorField` to
//! `newest::field` (`--wrap`), which calls libpq and keeps the newest SQLSTATE of this thread.
//!
//! A program linked without that flag (the fuzz targets, other crates, other systems) knows only the kinds.
//! There a value out of range and a trigger's error count as no row's fault, and the batch waits.

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

/// The key of an outage's id. A clash means that its sequence is behind, whatever the row holds. The ids of
/// readings and events have no key.
const ID_KEY: &str = "link_outage_pkey";
/// Classes of errors about what a row holds: data exception, integrity constraint, check option of a view,
/// limit of the program (a value too long for an index, too deeply nested).
const CLASSES_OF_ROWS: [&str; 4] = ["22", "23", "44", "54"];
/// Errors that PL/pgSQL raises: raise, no data found, too many rows, assert.
const RAISED: [&str; 4] = ["P0001", "P0002", "P0003", "P0004"];
const UNIQUE_VIOLATION: &str = "23505";
/// A table that COPY cannot write: one with row-level security, or a view.
const NOT_FOR_COPY: [&str; 2] = ["0A000", "42809"];
/// The statement took longer than `statement_timeout`, or a person cancelled it.
const QUERY_CANCELED: &str = "57014";
/// The statement touches more compressed rows than TimescaleDB allows at once.
const TOO_MANY_COMPRESSED: &str = "53400";

/// What an error says about the rows of its statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server refuses one of them for what it holds, with this message.
    Refused(String),
    /// The statement was cancelled, or touched too many compressed rows; fewer rows may do.
    Cancelled,
    /// Nothing. Includes every unknown error.
    Nothing,
}

impl Verdict {
    /// Judges the newest error of this thread.
    pub fn of(error: &Error) -> Self {
        let Error::DatabaseError(kind, information) = error else { return Self::Nothing };
        match kind {
            // An error of libpq, not of the server: it has no SQLSTATE.
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => Self::Nothing,
            _ => match newest::sqlstate() {
                Some(sqlstate) => judge(&sqlstate, &**information),
                None => judge(kind_sqlstate(kind), &**information),
            },
        }
    }
}

/// True if inserting may succeed where COPY failed with `error`, the newest error of this thread.
pub fn is_of_copy(error: &Error) -> bool {
    match (Verdict::of(error), error) {
        (Verdict::Refused(_), _) | (_, Error::RollbackTransaction) => true,
        (Verdict::Nothing, Error::DatabaseError(..)) => {
            newest::sqlstate().is_none_or(|sqlstate| NOT_FOR_COPY.contains(&sqlstate.as_str()))
        }
        _ => false,
    }
}

/// True if `error`, the newest error of this thread, has this SQLSTATE.
pub fn is(error: &Error, sqlstate: &str) -> bool {
    matches!(error, Error::DatabaseError(..)) && newest::sqlstate().as_deref() == Some(sqlstate)
}

/// Returns the SQLSTATE of the newest error of this thread, where it is known.
pub fn newest() -> Option<String> {
    newest::sqlstate()
}

/// Forgets the newest error of this thread.
pub fn forget() {
    newest::forget();
}

fn judge(sqlstate: &str, information: &dyn DatabaseErrorInformation) -> Verdict {
    let key_is_behind = sqlstate == UNIQUE_VIOLATION && information.constraint_name() == Some(ID_KEY);
    let is_of_a_row =
        CLASSES_OF_ROWS.iter().any(|class| sqlstate.starts_with(class)) || RAISED.contains(&sqlstate);
    match sqlstate {
        QUERY_CANCELED | TOO_MANY_COMPRESSED => Verdict::Cancelled,
        _ if is_of_a_row && !key_is_behind => {
            let detail = information.details().map(|detail| format!(" ({detail})")).unwrap_or_default();
            Verdict::Refused(format!("{sqlstate}: {}{detail}", information.message()))
        }
        _ => Verdict::Nothing,
    }
}

/// Returns the SQLSTATE of a kind; empty if the kind stands for several.
fn kind_sqlstate(kind: &DatabaseErrorKind) -> &'static str {
    match kind {
        DatabaseErrorKind::UniqueViolation => UNIQUE_VIOLATION,
        DatabaseErrorKind::NotNullViolation => "23502",
        DatabaseErrorKind::ForeignKeyViolation => "23503",
        DatabaseErrorKind::CheckViolation => "23514",
        DatabaseErrorKind::ExclusionViolation => "23P01",
        DatabaseErrorKind::RestrictViolation => "23001",
        _ => "",
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod newest {
    pub(super) fn sqlstate() -> Option<String> {
        None
    }

    pub(super) fn forget() {}
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod newest {
    use std::cell::RefCell;
    use std::ffi::{CStr, c_char, c_int};
    use std::ptr;

    use pq_sys::{PG_DIAG_SQLSTATE, PGresult};

    type Field = unsafe extern "C" fn(*const PGresult, c_int) -> *mut c_char;

    thread_local! {
        static NEWEST: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    /// Returns that of the newest error that diesel read on this thread.
    pub(super) fn sqlstate() -> Option<String> {
        NEWEST.with_borrow(Clone::clone)
    }

    pub(super) fn forget() {
        NEWEST.set(None);
    }

    // The linker resolves `__real_…` to libpq's function, if it has the flag.
    core::arch::global_asm!(
        ".weak __real_PQresultErrorField",
        ".pushsection .data.rel.ro.andon_result_error_field, \"aw\"",
        ".balign 8",
        ".globl andon_result_error_field",
        ".hidden andon_result_error_field",
        "andon_result_error_field:",
        ".dc.a __real_PQresultErrorField",
        ".popsection",
    );

    unsafe extern "C" {
        static andon_result_error_field: Option<Field>;
    }

    /// Replaces `PQresultErrorField` in this program.
    ///
    /// # Safety
    /// As of that function: `result` is libpq's, or null.
    #[unsafe(export_name = "__wrap_PQresultErrorField")]
    unsafe extern "C" fn field(result: *const PGresult, code: c_int) -> *mut c_char {
        // SAFETY: the static above does not change once the program is loaded.
        let Some(real) = (unsafe { andon_result_error_field }) else { return ptr::null_mut() };
        // SAFETY: the arguments are the caller's.
        let text = unsafe { real(result, code) };
        if code == c_int::from(PG_DIAG_SQLSTATE) {
            // SAFETY: libpq's field is a C string that lives as long as `result`, or null.
            let sqlstate = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
            NEWEST.set(sqlstate.map(|sqlstate| sqlstate.to_string_lossy().into_owned()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sqlstate: &str) -> Verdict {
        judge(sqlstate, &"words".to_owned())
    }

    #[test]
    fn only_errors_about_what_a_row_holds_are_its_fault() {
        for sqlstate in ["22003", "22021", "23514", "23505", "44000", "54000", "P0001", "P0004"] {
            assert_eq!(verdict(sqlstate), Verdict::Refused(format!("{sqlstate}: words")));
        }
        // A lock, a deadlock, a full disk, a missing table or right, a shutdown, a corrupt page, an unknown
        // code of a trigger.
        for sqlstate in ["55P03", "40P01", "53100", "42P01", "42501", "57P01", "XX001", "UA001", "P0000", ""]
        {
            assert_eq!(verdict(sqlstate), Verdict::Nothing, "{sqlstate}");
        }
        assert_eq!((verdict("57014"), verdict("53400")), (Verdict::Cancelled, Verdict::Cancelled));
    }
}
