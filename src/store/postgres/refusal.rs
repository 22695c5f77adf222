//! Which errors of PostgreSQL may be a row's own fault.
//!
//! diesel keeps the SQLSTATE to itself and hands out a kind for a few of them, and messages come in the
//! server's language. So this side only rules out what is certainly not a row's fault; for the rest,
//! `andon_store_one_by_one` and `andon_write_one_by_one` (see the migrations) write the rows again, look at each
//! SQLSTATE inside the server, and say which rows it was.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error};

/// Whether writing the rows one by one may get further than `error` after `elapsed`.
pub fn may_be_a_rows_fault(error: &Error, elapsed: Duration, statement_timeout: Duration) -> bool {
    let Error::DatabaseError(kind, _) = error else {
        return false;
    };
    let timed_out = !statement_timeout.is_zero() && elapsed >= statement_timeout;
    match kind {
        DatabaseErrorKind::UniqueViolation
        | DatabaseErrorKind::ForeignKeyViolation
        | DatabaseErrorKind::NotNullViolation
        | DatabaseErrorKind::CheckViolation
        | DatabaseErrorKind::RestrictViolation
        | DatabaseErrorKind::ExclusionViolation => true,
        DatabaseErrorKind::Unknown => !timed_out,
        _ => false,
    }
}
