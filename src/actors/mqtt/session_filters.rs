//! `subscriptions.json`: which filters the broker's session holds, so that filters that leave the
//! configuration can be unsubscribed.
//!
//! A persistent session keeps a subscription until the client ends it. The file lies beside the journal, is
//! no part of it, and belongs to the mqtt actor alone. It is replaced as a whole: written beside, fsynced,
//! renamed, directory fsynced.
//!
//! The brokers of `mqtt.hosts` may share one session or hold one each; Andon cannot tell. So a filter that
//! one of them was asked for is noted for all, and each is asked to end it when it is next connected. Ending
//! a subscription that does not exist does no harm.
//!
//! - FLT-1 A filter is in the file before a broker is asked for it, and leaves the file, for that broker
//!   alone, only after that broker has ended it. After a crash at any point the file names at least what each
//!   session holds.
//! - FLT-2 A file that cannot be read or written is reported once and never stops Andon from receiving
//!   messages.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::Endpoint;
use crate::domain::TopicFilter;
use crate::new_file::replace;

const FILE_NAME: &str = "subscriptions.json";
const VERSION: u32 = 1;
/// As the umask leaves it.
const FILE_MODE: u32 = 0o666;
/// How many sessions the file holds, those of former client ids and brokers included. The oldest is dropped.
const SESSIONS_MAX: usize = 64;
/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    version: u32,
    sessions: Vec<SessionFilters>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SessionFilters {
    client_id: String,
    broker: String,
    filters: BTreeSet<String>,
}

impl Content {
    fn take(&mut self, client_id: &str, endpoint: &Endpoint) -> BTreeSet<String> {
        let broker = endpoint.address();
        let of_session = |each: &SessionFilters| each.client_id == client_id && each.broker == broker;
        let place = self.sessions.iter().position(of_session);
        place.map(|place| self.sessions.remove(place).filters).unwrap_or_default()
    }

    /// Adds a session as the newest.
    fn put(&mut self, client_id: &str, endpoint: &Endpoint, filters: BTreeSet<String>) {
        let (client_id, broker) = (client_id.to_owned(), endpoint.address());
        self.sessions.push(SessionFilters { client_id, broker, filters });
    }
}

/// Handle to the file.
#[derive(Debug, Clone)]
pub struct FilterFile {
    directory: PathBuf,
}

impl FilterFile {
    /// Names the file in this directory, the journal's.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Returns the path, for the operator.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// Returns the filters that the session may hold.
    ///
    /// # Errors
    /// The file exists and cannot be read or parsed.
    pub fn filters(&self, client_id: &str, endpoint: &Endpoint) -> io::Result<BTreeSet<String>> {
        self.read().map(|mut content| content.take(client_id, endpoint))
    }

    /// Replaces what the session holds at `endpoint`, and adds it to what it may hold at the others. Writes
    /// only a change; replaces a file that cannot be parsed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(
        &self,
        client_id: &str,
        endpoint: &Endpoint,
        others: &[Endpoint],
        held: &BTreeSet<String>,
    ) -> io::Result<()> {
        let mut content = self.read().unwrap_or_default();
        let before = content.clone();
        for other in others {
            let mut filters = content.take(client_id, other);
            filters.extend(held.iter().cloned());
            content.put(client_id, other, filters);
        }
        content.take(client_id, endpoint);
        content.put(client_id, endpoint, held.clone());
        let surplus = content.sessions.len().saturating_sub(SESSIONS_MAX);
        content.sessions.drain(..surplus);
        content.version = VERSION;
        if content == before { Ok(()) } else { self.write(&content) }
    }

    fn read(&self) -> io::Result<Content> {
        let path = self.path();
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(error),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(invalid("it is too large".to_owned())),
            Ok(_) => fs::read(&path)?,
        };
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if content.version == VERSION {
            Ok(content)
        } else {
            Err(invalid(format!("it has version {}, this program knows {VERSION}", content.version)))
        }
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(content).map_err(io::Error::other)?;
        replace(&self.path(), &text, FILE_MODE)
    }
}

/// Returns the filters of `known` that are not in `wanted`. Skips text that is no valid filter.
#[must_use]
pub fn obsolete<'a>(
    known: &BTreeSet<String>,
    wanted: impl Iterator<Item = &'a TopicFilter> + Clone,
) -> Vec<TopicFilter> {
    let is_wanted = |text: &str| wanted.clone().any(|filter| filter.as_str() == text);
    known.iter().filter(|text| !is_wanted(text)).filter_map(|text| TopicFilter::parse(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(filters: &[&str]) -> BTreeSet<String> {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    }

    fn broker(port: u16) -> Endpoint {
        Endpoint { host: "b".to_owned(), port }
    }

    #[test]
    fn each_session_has_its_own_filters_and_they_survive() {
        let home = tempfile::tempdir().expect("a directory");
        let filter_file = FilterFile::in_directory(home.path());
        assert_eq!(filter_file.filters("a", &broker(1)).expect("no file is an empty one"), set(&[]));
        filter_file.note("a", &broker(1), &[], &set(&["x/+", "y"])).expect("written");
        filter_file.note("a", &broker(2), &[], &set(&["z"])).expect("written");
        let again = FilterFile::in_directory(home.path());
        assert_eq!(again.filters("a", &broker(1)).expect("read"), set(&["x/+", "y"]));
        assert_eq!(again.filters("a", &broker(2)).expect("read"), set(&["z"]));
        assert_eq!(again.filters("other", &broker(1)).expect("read"), set(&[]));
        assert!(!home.path().join("subscriptions.json.tmp").exists());
    }

    /// Proves FLT-1.
    #[test]
    fn a_filter_asked_of_one_broker_is_ended_at_each_in_turn() {
        let home = tempfile::tempdir().expect("a directory");
        let filter_file = FilterFile::in_directory(home.path());
        let filters = |port| filter_file.filters("a", &broker(port)).expect("read");
        filter_file.note("a", &broker(1), &[broker(2), broker(3)], &set(&["x", "old"])).expect("written");
        assert_eq!(
            (filters(2), filters(3)),
            (set(&["x", "old"]), set(&["x", "old"])),
            "in case they share it"
        );
        filter_file
            .note("a", &broker(2), &[broker(1), broker(3)], &set(&["x"]))
            .expect("ended at the second");
        assert_eq!(
            (filters(1), filters(2), filters(3)),
            (set(&["x", "old"]), set(&["x"]), set(&["x", "old"]))
        );
        filter_file
            .note("a", &broker(1), &[broker(2), broker(3)], &set(&["x", "new"]))
            .expect("ended at the first");
        assert_eq!((filters(1), filters(2)), (set(&["x", "new"]), set(&["x", "new"])));
        assert_eq!(filters(3), set(&["x", "old", "new"]));
    }

    #[test]
    fn unchanged_content_is_not_written() {
        let home = tempfile::tempdir().expect("a directory");
        let filter_file = FilterFile::in_directory(home.path());
        filter_file.note("a", &broker(1), &[], &set(&["x"])).expect("written");
        // A rewrite would need the file beside, which cannot be made.
        fs::create_dir(home.path().join("subscriptions.json.tmp")).expect("made");
        filter_file.note("a", &broker(1), &[], &set(&["x"])).expect("nothing to write");
        assert!(filter_file.note("a", &broker(1), &[], &set(&["y"])).is_err());
        assert_eq!(filter_file.filters("a", &broker(1)).expect("the old one is whole"), set(&["x"]));
    }

    /// Proves FLT-2.
    #[test]
    fn a_damaged_file_is_reported_and_then_replaced() {
        let home = tempfile::tempdir().expect("a directory");
        let filter_file = FilterFile::in_directory(home.path());
        for damaged in ["", "{\"version\":1", "{\"version\":2,\"sessions\":[]}"] {
            fs::write(filter_file.path(), damaged).expect("written");
            assert!(filter_file.filters("a", &broker(1)).is_err(), "{damaged:?}");
            filter_file.note("a", &broker(1), &[], &set(&["x"])).expect("written");
            assert_eq!(filter_file.filters("a", &broker(1)).expect("read"), set(&["x"]));
        }
    }

    #[test]
    fn the_oldest_sessions_are_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let filter_file = FilterFile::in_directory(home.path());
        for port in 1..=u16::try_from(SESSIONS_MAX).expect("small") + 1 {
            filter_file.note("a", &broker(port), &[], &set(&["x"])).expect("written");
        }
        assert_eq!(filter_file.filters("a", &broker(1)).expect("read"), set(&[]));
        assert_eq!(filter_file.filters("a", &broker(2)).expect("read"), set(&["x"]));
    }

    #[test]
    fn obsolete_filters_are_those_no_longer_wanted() {
        let wanted =
            [TopicFilter::parse("a/+").expect("valid"), TopicFilter::parse("$share/g/b").expect("valid")];
        let found = obsolete(&set(&["a/+", "$share/g/b", "b", "not/a#filter"]), wanted.iter());
        assert_eq!(found, [TopicFilter::parse("b").expect("valid")]);
    }
}
