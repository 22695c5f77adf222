//! Reports what the database is, each time it is opened.

use slog::{info, warn};

use super::Writer;
use super::worker::Knowledge;
use crate::store::Hypertable;

impl Writer {
    /// Logs what was found when the database was opened, if it was.
    pub(super) fn report_opened(&self, knowledge: &Knowledge) {
        let Some((facts, migration)) = &knowledge.opened else { return };
        self.options.status.opened(facts.backend, &facts.version, &facts.place());
        info!(self.logger, "database open"; "database" => facts.place(), "version" => &facts.version,
            "migrations_applied" => migration.applied.len(), "machines" => knowledge.machines.len());
        match &migration.hypertable {
            Some(Hypertable::Made(what)) => {
                info!(self.logger, "readings go into a hypertable"; "what" => what)
            }
            Some(Hypertable::NotMade(why)) => {
                warn!(self.logger, "readings do not go into a hypertable"; "reason" => why);
            }
            None => {}
        }
        if let Some(note) = facts.note() {
            warn!(self.logger, "the table of the reference worker is still there"; "table" => note);
        }
        for warning in &facts.warnings {
            warn!(self.logger, "a setting of the database weakens what Andon guarantees"; "setting" => warning);
        }
    }
}
