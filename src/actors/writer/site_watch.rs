//! Detects another service of the same site on the same database.
//!
//! Two such services lose and double no data, because each moves the position of its own journal. But this is
//! not supported: each reports machines as silent that only the other hears, and both publish statuses. The
//! sign is a position of another journal of the site that moves forward, is claimed again or appears. Positions
//! of retired, copied or restored journals stand still, and `andon rejected retry` changes only counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{debug, warn};

use super::Writer;
use super::worker::StoreWorker;
use crate::domain::Seq;
use crate::store::Checkpoint;

/// Pause between two checks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Without a sign for this long, the other service counts as gone.
const QUIET_MIN: Duration = Duration::from_secs(3_600);

/// The positions of the site's other journals, and when one moved last.
#[derive(Debug)]
pub struct SiteWatch {
    look_at: Instant,
    /// Position and open id by journal id; `None` before the first check.
    seen: Option<BTreeMap<String, (Seq, Option<String>)>>,
    moved_at: Option<Instant>,
}

impl SiteWatch {
    /// The first check is due now.
    pub fn new() -> Self {
        Self { look_at: Instant::now(), seen: None, moved_at: None }
    }

    /// Returns whether a check is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.look_at <= now
    }

    /// Forgets the positions seen so far: our own journal may have had another id.
    pub fn begin_anew(&mut self) {
        self.seen = None;
    }

    /// Notes the positions of the site's other journals. Returns the journal that reveals another service, if
    /// that is new.
    fn note<'a>(&mut self, others: impl Iterator<Item = &'a Checkpoint>, now: Instant) -> Option<String> {
        let others: BTreeMap<_, _> = others
            .map(|found| (found.journal_id.clone(), (found.ledger.committed_seq, found.open_id.clone())))
            .collect();
        let seen = self.seen.replace(others.clone())?;
        let has_moved = |(id, (seq, open_id)): &(&String, &(Seq, Option<String>))| {
            seen.get(*id).is_none_or(|(before, opened)| seq > before || (seq == before && open_id != opened))
        };
        let (moved, _) = others.iter().find(has_moved)?;
        let is_new = !self.is_shared(now);
        self.moved_at = Some(now);
        is_new.then(|| moved.clone())
    }

    /// Returns whether another service has shown itself lately.
    fn is_shared(&self, now: Instant) -> bool {
        self.moved_at.is_some_and(|at| now.saturating_duration_since(at) < QUIET_MIN)
    }
}

/// Returns the pause; shorter in tests with the failpoint `site_watch::often=return`.
fn pause() -> Duration {
    #[cfg(feature = "failpoints")]
    fail_point!("site_watch::often", |_| Duration::from_millis(100));
    LOOK_EVERY
}

impl Writer {
    pub(super) fn watch_site(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let job = async move { worker.checkpoints().await };
        self.run(job, context, |writer, result, _| {
            let now = Instant::now();
            writer.site_watch.look_at = now + pause();
            // A failure needs no report: the next commit, or the next read of the ledger, fails, too.
            if let Ok(checkpoints) = result {
                writer.judge_site(&checkpoints, now);
            }
        });
    }

    fn judge_site(&mut self, checkpoints: &[Checkpoint], now: Instant) {
        let Some(watched) = &self.watched else { return };
        let own = watched.journal_id.to_string();
        let is_ours = |found: &&Checkpoint| found.journal_id == own && found.is_claimed_by(watched.open_id);
        if checkpoints.iter().find(is_ours).is_none() {
            // Another database, or the position is about to be lost.
            return self.site_watch.begin_anew();
        }
        let site = &self.options.store.site;
        let others = checkpoints.iter().filter(|found| found.site == *site && found.journal_id != own);
        let other_journal = self.site_watch.note(others, now);
        self.metrics.site_shared.set(self.site_watch.is_shared(now));
        debug!(self.logger, "checked the positions of the site's journals"; "journals" => checkpoints.len());
        if let Some(other) = other_journal {
            warn!(self.logger, "another service with this site.id uses the same database: no data is lost or stored twice, but each reports \
                machines as silent that only the other hears. If it is another line, give it its own site.id; otherwise stop it";
                "site" => site, "its_journal" => other);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::{Ledger, Timestamp};

    fn row(journal: &str, seq: u64, open_id: &str) -> Checkpoint {
        Checkpoint {
            journal_id: journal.to_owned(),
            site: "test".to_owned(),
            ledger: Ledger { committed_seq: Seq(seq), messages: seq, ..Ledger::default() },
            updated_at: Timestamp::from_micros(0),
            open_id: Some(open_id.to_owned()),
        }
    }

    /// Returns what the second of two checks reveals.
    fn revealed(first: &[Checkpoint], then: &[Checkpoint]) -> Option<String> {
        let (mut watch, now) = (SiteWatch::new(), Instant::now());
        assert_eq!(watch.note(first.iter(), now), None, "there is nothing to compare with");
        watch.note(then.iter(), now)
    }

    #[test]
    fn only_a_position_that_is_moved_now_shows_another_service() {
        let before = [row("a", 5, "x"), row("b", 7, "y")];
        let table = [
            (vec![row("a", 5, "x"), row("b", 7, "y")], None),
            (vec![row("a", 5, "x"), row("b", 8, "y")], Some("b")),
            (vec![row("a", 5, "z"), row("b", 7, "y")], Some("a")),
            (vec![row("a", 5, "x"), row("b", 7, "y"), row("c", 0, "w")], Some("c")),
            // A database restored to an earlier state, and deleted rows.
            (vec![row("a", 3, "w"), row("b", 7, "y")], None),
            (vec![], None),
        ];
        for (then, journal) in table {
            assert_eq!(revealed(&before, &then).as_deref(), journal, "{then:?}");
        }
        let mut retried = before.clone();
        retried[0].ledger.rejected = 3;
        retried[0].updated_at = Timestamp::from_micros(9);
        assert_eq!(revealed(&before, &retried), None, "`rejected retry` moves no position");
    }

    #[test]
    fn it_is_logged_once_and_again_after_a_quiet_hour() {
        let (mut watch, mut now) = (SiteWatch::new(), Instant::now());
        let mut logged = |seq, pause| {
            now += pause;
            let other_journal = watch.note([row("a", seq, "x")].iter(), now).is_some();
            (other_journal, watch.is_shared(now))
        };
        let a_while = Duration::from_secs(5);
        assert_eq!(logged(1, a_while), (false, false));
        assert_eq!(logged(2, a_while), (true, true));
        assert_eq!(logged(3, a_while), (false, true));
        assert_eq!(logged(3, QUIET_MIN - a_while), (false, true));
        assert_eq!(logged(4, Duration::ZERO), (false, true));
        assert_eq!(logged(4, QUIET_MIN), (false, false));
        assert_eq!(logged(5, a_while), (true, true));
        watch.begin_anew();
        assert_eq!(watch.note([row("b", 9, "y")].iter(), now), None);
    }
}
