//! The table `audit_event`: who changed what, and from where.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use super::both_databases::for_both_databases;
use super::schema::{Instant, SqlInstant};
use super::without_nul;
use crate::domain::Timestamp;

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// Who: a token's or a user's name.
    pub actor: String,
    /// From where: an address, or the command line.
    pub source: String,
    /// What was done, such as `login` or `journal repair`.
    pub action: String,
    /// To what, if to anything.
    pub target: Option<String>,
    /// How it ended, such as `done` or `refused`.
    pub outcome: String,
    /// More, for a person.
    pub detail: Option<String>,
}

const INSERT: &str = "INSERT INTO audit_event (site, at, actor, source, action, target, outcome, detail) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

for_both_databases! {
    []

    /// Inserts a row. U+0000 becomes U+FFFD, as everywhere.
    pub fn record(connection: &mut Connection, site: &str, event: &AuditEvent) -> QueryResult<()> {
        let text = |text: &str| without_nul(text).into_owned();
        sql_query(INSERT)
            .bind::<Text, _>(site)
            .bind::<Instant, _>(SqlInstant(event.at))
            .bind::<Text, _>(text(&event.actor))
            .bind::<Text, _>(text(&event.source))
            .bind::<Text, _>(text(&event.action))
            .bind::<Nullable<Text>, _>(event.target.as_deref().map(text))
            .bind::<Text, _>(text(&event.outcome))
            .bind::<Nullable<Text>, _>(event.detail.as_deref().map(text))
            .execute(connection)
            .map(drop)
    }
}
