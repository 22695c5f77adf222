//! Whether another service of our site works on the same database.
//!
//! Two of them lose and double no data, as each moves the position of its own journal. But that is no supported way to run: each calls
//! machines silent that only the other hears, and both publish statuses. The sign is the position of another journal of the site that
//! moves forward, is claimed anew or appears while we look. That of a retired journal, of a copy that was found out, or of a directory
//! before it was restored stands still, and `andon rejected retry` changes counts only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{debug, warn};

use super::Writer;
use super::worker::StoreWorker;
use crate::domain::Seq;
use crate::store::Checkpoint;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After so long without a sign the other service counts as gone.
const QUIET_MIN: Duration = Duration::from_secs(3_600);

/// The positions of the site's other journals, and when one moved last.
#[derive(Debug)]
pub struct SiteWatch {
    look_at: Instant,
    /// Position and open id by journal id; `None` before the first look.
    seen: Option<BTreeMap<String, (Seq, Option<String>)>>,
    moved_at: Option<Instant>,
}

impl SiteWatch {
    /// The first look is due now.
    pub fn new() -> Self {
        Self { look_at: Instant::now(), seen: None, moved_at: None }
    }

    /// Whether a look is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.look_at <= now
    }

    /// What was seen before is nothing to compare with: our own journal may have had another id.
    pub fn begin_anew(&mut self) {
        self.seen = None;
    }

    /// Notes the positions of the site's other journals. Gives the one that shows another service, if that is news.
    fn note<'a>(&mut self, others: impl Iterator<Item = &'a Checkpoint>, now: Instant) -> Option<String> {
        let others: BTreeMap<_, _> = others
            .map(|found| (found.journal_id.clone(), (found.committed_seq, found.open_id.clone())))
            .collect();
        let seen = self.seen.replace(others.clone())?;
        let has_moved = |(id, (seq, open_id)): &(&String, &(Seq, Option<String>))| {
            seen.get(*id).is_none_or(|(before, opened)| seq > before || (seq == before && open_id != opened))
        };
        let (moved, _) = others.iter().find(has_moved)?;
        let is_news = !self.is_shared(now);
        self.moved_at = Some(now);
        is_news.then(|| moved.clone())
    }

    /// Whether another service was there a while ago.
    fn is_shared(&self, now: Instant) -> bool {
        self.moved_at.is_some_and(|at| now.saturating_duration_since(at) < QUIET_MIN)
    }
}

/// A test need not wait so long: failpoint `site_watch::often=return`.
fn pause() -> Duration {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("site_watch::often", |_| Duration::from_millis(100));
    LOOK_EVERY
}

impl Writer {
    pub(super) fn watch_site(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let job = async move { worker.checkpoints().await };
        self.run(job, context, |writer, result, _| {
            let now = Instant::now();
            writer.site_watch.look_at = now + pause();
            // One that fails is no news: the next batch, or the look at our own position, says it.
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
            // Another database, or we are about to learn that the position is lost.
            return self.site_watch.begin_anew();
        }
        let site = &self.options.store.site;
        let others = checkpoints.iter().filter(|found| found.site == *site && found.journal_id != own);
        let news = self.site_watch.note(others, now);
        self.metrics.site_shared.set(self.site_watch.is_shared(now));
        debug!(self.logger, "looked at the positions of the site's journals"; "journals" => checkpoints.len());
        if let Some(other) = news {
            warn!(self.logger, "another service of this site works on the same database: nothing is lost or doubled, but each calls \
                machines silent that only the other hears. Give it a site.id of its own if it is another line; stop it if it is a \
                leftover"; "site" => site, "its_journal" => other);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::Timestamp;

    fn row(journal: &str, seq: u64, open_id: &str) -> Checkpoint {
        Checkpoint {
            journal_id: journal.to_owned(),
            site: "test".to_owned(),
            committed_seq: Seq(seq),
            messages: seq,
            stored: 0,
            duplicate: 0,
            rejected: 0,
            control: 0,
            updated_at: Timestamp::from_micros(0),
            open_id: Some(open_id.to_owned()),
        }
    }

    /// What two looks, one after the other, show.
    fn shown(first: &[Checkpoint], then: &[Checkpoint]) -> Option<String> {
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
            // A database that was put back to an earlier state, and rows that somebody has deleted.
            (vec![row("a", 3, "w"), row("b", 7, "y")], None),
            (vec![], None),
        ];
        for (then, journal) in table {
            assert_eq!(shown(&before, &then).as_deref(), journal, "{then:?}");
        }
        let mut retried = before.clone();
        retried[0].rejected = 3;
        retried[0].updated_at = Timestamp::from_micros(9);
        assert_eq!(shown(&before, &retried), None, "`rejected retry` moves no position");
    }

    #[test]
    fn it_is_said_once_and_again_after_a_quiet_hour() {
        let (mut watch, mut now) = (SiteWatch::new(), Instant::now());
        let mut said = |seq, pause| {
            now += pause;
            let news = watch.note([row("a", seq, "x")].iter(), now).is_some();
            (news, watch.is_shared(now))
        };
        let moment = Duration::from_secs(5);
        assert_eq!(said(1, moment), (false, false));
        assert_eq!(said(2, moment), (true, true));
        assert_eq!(said(3, moment), (false, true));
        assert_eq!(said(3, QUIET_MIN - moment), (false, true));
        assert_eq!(said(4, Duration::ZERO), (false, true));
        assert_eq!(said(4, QUIET_MIN), (false, false));
        assert_eq!(said(5, moment), (true, true));
        watch.begin_anew();
        assert_eq!(watch.note([row("b", 9, "y")].iter(), now), None);
    }
}
