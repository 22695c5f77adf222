//! Which errors of PostgreSQL may be a row's own fault.
//!
//! diesel keeps the SQLSTATE to itself and hands out a kind for a few of them, and messages come in the
//! server's language. So this side only rules out what is certainly not a row's fault; for the rest,
//! `andon_store_one_by_one` (see the migrations) stores the rows again, looks at each SQLSTATE inside the
//! server, and says which rows it was.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error};

use crate::store::error::CommitStep;
use crate::store::failure::CommitFailure;

/// Whether storing the readings one by one may get further than `failure` after `elapsed`.
pub fn may_be_a_rows_fault(failure: &CommitFailure, elapsed: Duration, statement_timeout: Duration) -> bool {
    // A constraint that is checked at the end of the transaction fails the COMMIT.
    let CommitFailure::Step(CommitStep::Readings | CommitStep::Transaction, error) = failure else {
        return false;
    };
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
