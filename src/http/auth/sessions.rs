//! The sessions of all browsers: the key that makes their cookies, and those that were logged out.
//!
//! Outlives reloads and the generations of the server. What was logged out counts at once, in memory; a thread of its own
//! writes it beside the journal ([`SessionFile`]), so that it holds after a restart, too. A file that cannot be read is left
//! alone: sessions then end with the process. One that cannot be written is tried again every minute.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slog::{Logger, error, info, o, warn};

use super::ended::EndedSessions;
use super::session::{Session, SiteKey};
use super::session_file::{Kept, SessionFile};
use crate::clock::wall_now;
use crate::logging::{causes, keys};
use crate::store::{Worker, WorkerConnection};

/// Most logouts that wait for the disk.
const QUEUE_MAX: usize = 64;
/// How long a logout waits for the disk.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// The sessions of all browsers.
pub struct Sessions {
    key: SiteKey,
    ended: Arc<Mutex<EndedSessions>>,
    /// `None` if the file is to be left alone.
    writer: Option<Worker<Writer>>,
}

/// Writes the file; on its own thread.
#[derive(Clone)]
struct Writer {
    file: SessionFile,
    key: SiteKey,
    ended: Arc<Mutex<EndedSessions>>,
    /// What is in the file.
    written: Option<EndedSessions>,
    has_failed: bool,
    logger: Logger,
}

impl Sessions {
    /// Reads the file in `directory`, or makes one.
    ///
    /// # Errors
    /// The system has no random numbers, or cannot start a thread.
    pub fn open(directory: &Path, site: &str, logger: &Logger) -> io::Result<Self> {
        let logger = logger.new(o!(keys::COMPONENT => "http"));
        let file = SessionFile::in_directory(directory, site);
        let (kept, is_ours) = match file.read() {
            Ok(Some(kept)) => (Some(kept), true),
            Ok(None) => (None, true),
            Err(error) => {
                warn!(logger, "the file of the sessions cannot be read: everybody has to log in again now and after each \
                    restart. Make it readable, or delete it, and restart Andon"; "file" => %file.path().display(),
                    keys::REASON => causes(&error));
                (None, false)
            }
        };
        let is_new = kept.is_none();
        let kept = match kept {
            Some(kept) => kept,
            None => Kept { key: SiteKey::random()?, ended: EndedSessions::default() },
        };
        let (key, ended) = (kept.key, Arc::new(Mutex::new(kept.ended.clone())));
        let writer = Writer {
            file,
            key: key.clone(),
            ended: Arc::clone(&ended),
            written: (!is_new).then_some(kept.ended),
            has_failed: false,
            logger,
        };
        let writer = is_ours.then(|| Worker::start("sessions", 1, QUEUE_MAX, move || writer.clone()));
        let sessions = Self { key, ended, writer: writer.transpose()? };
        if let Some(writer) = &sessions.writer {
            let _idle_writes_it = writer.run(Writer::write);
        }
        Ok(sessions)
    }

    /// Returns the key of the site.
    #[must_use]
    pub const fn key(&self) -> &SiteKey {
        &self.key
    }

    /// True if the session was logged out.
    pub(super) fn has_ended(&self, session: &Session) -> bool {
        self.lock().contains(session, wall_now())
    }

    /// Ends a session. Returns once that is on the disk, or the disk is too slow.
    pub(super) async fn end(&self, session: &Session) {
        self.lock().add(session, wall_now());
        let Some(writer) = &self.writer else { return };
        if let Ok(written) = writer.ask(Writer::write) {
            // One that fails is logged, and tried again.
            let _written = actix_rt::time::timeout(WRITTEN_WITHIN, written).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, EndedSessions> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerConnection for Writer {
    const IDLE_INTERVAL: Option<Duration> = Some(Duration::from_secs(60));

    fn while_idle(&mut self) {
        self.write();
    }
}

impl Writer {
    /// Writes what is new.
    fn write(&mut self) {
        let newest = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.written.as_ref() == Some(&newest) {
            return;
        }
        let kept = Kept { key: self.key.clone(), ended: newest };
        match self.file.write(&kept) {
            Ok(()) => {
                if std::mem::take(&mut self.has_failed) {
                    info!(self.logger, "the file of the sessions is written again");
                }
                self.written = Some(kept.ended);
            }
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                error!(self.logger, "the file of the sessions cannot be written: until it is, a restart ends all sessions \
                    that are new and revives those that were logged out; trying again every minute";
                    "file" => %self.file.path().display(), keys::REASON => causes(&error));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::http::tests::logged::Logged;

    fn open(directory: &Path, logged: &Logged) -> Sessions {
        Sessions::open(directory, "hall-3", &logged.logger()).unwrap()
    }

    fn session() -> Session {
        Session { token: "t".to_owned(), id: Uuid::new_v4(), issued: wall_now() }
    }

    fn end(sessions: &Sessions, session: &Session) {
        actix_rt::System::new().block_on(sessions.end(session));
    }

    #[test]
    fn the_key_and_the_logouts_survive_a_restart() {
        let (directory, logged) = (tempfile::tempdir().unwrap(), Logged::default());
        let first = open(directory.path(), &logged);
        let (mine, other) = (session(), session());
        end(&first, &mine);
        assert!(first.has_ended(&mine) && !first.has_ended(&other));
        let second = open(directory.path(), &logged);
        assert!(second.key() == first.key());
        assert!(second.has_ended(&mine) && !second.has_ended(&other));
        assert_eq!(logged.text(), "");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone_and_said() {
        let (directory, logged) = (tempfile::tempdir().unwrap(), Logged::default());
        let path = directory.path().join("sessions.json");
        std::fs::write(&path, "of a newer version").unwrap();
        let (first, second) = (open(directory.path(), &logged), open(directory.path(), &logged));
        assert!(first.key() != second.key(), "sessions end at a restart");
        let mine = session();
        end(&first, &mine);
        assert!(first.has_ended(&mine));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of a newer version");
        assert_eq!(logged.text().matches("cannot be read").count(), 2, "{}", logged.text());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_said_once_and_the_logout_counts_all_the_same() {
        let (directory, logged) = (tempfile::tempdir().unwrap(), Logged::default());
        let sessions = open(&directory.path().join("nowhere"), &logged);
        let all = [session(), session(), session()];
        all.iter().for_each(|session| end(&sessions, session));
        assert!(all.iter().all(|session| sessions.has_ended(session)));
        assert_eq!(logged.text().matches("cannot be written").count(), 1, "{}", logged.text());
        std::fs::create_dir(directory.path().join("nowhere")).unwrap();
        end(&sessions, &session());
        assert!(logged.text().contains("is written again"));
        assert!(open(&directory.path().join("nowhere"), &logged).has_ended(&all[0]));
    }
}
