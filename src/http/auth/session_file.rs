//! `sessions.json`, beside the journal: the key of the site, and the sessions that were logged out.
//!
//! With it sessions and logouts survive a restart. Whoever deletes it logs everybody out at the next one. The file is
//! always replaced as a whole: written to a temporary file, fsynced, renamed, directory fsynced. Its mode is 0600: with the
//! key and a token one can make sessions of that token.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ended::{ENDED_MAX, EndedSession, EndedSessions, TOKENS_MAX};
use super::session::SiteKey;
use crate::domain::Timestamp;
use crate::new_file::replace;

const FILE_NAME: &str = "sessions.json";
const VERSION: u32 = 1;
const FILE_MODE: u32 = 0o600;
/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    site: String,
    /// In base64.
    key: String,
    ended: Vec<Ended>,
    ended_up_to: Vec<EndedUpTo>,
    all_ended_up_to_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Ended {
    session: String,
    token: String,
    at_us: i64,
}

#[derive(Serialize, Deserialize)]
struct EndedUpTo {
    token: String,
    at_us: i64,
}

/// What the file holds.
#[derive(Clone)]
pub struct Kept {
    /// The key of the site.
    pub key: SiteKey,
    /// The sessions that were logged out.
    pub ended: EndedSessions,
}

/// The file of one site.
#[derive(Debug, Clone)]
pub struct SessionFile {
    directory: PathBuf,
    site: String,
}

impl SessionFile {
    /// Names the file in the journal's directory.
    pub fn in_directory(directory: &Path, site: &str) -> Self {
        Self { directory: directory.to_owned(), site: site.to_owned() }
    }

    /// Returns its path, for the operator.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE_NAME)
    }

    /// Reads it; `None` if there is none, or that of another site (a copied directory).
    ///
    /// # Errors
    /// It cannot be read, or is not as Andon writes it.
    pub fn read(&self) -> io::Result<Option<Kept>> {
        let mut text = Vec::new();
        match File::open(self.path()) {
            Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("it is too large to be a file of Andon"));
        }
        let content: Content = serde_json::from_slice(&text)?;
        if content.version != VERSION {
            return Err(io::Error::other(format!("its version is {}, not {VERSION}", content.version)));
        }
        if content.site != self.site {
            return Ok(None);
        }
        let key = openssl::base64::decode_block(&content.key)?;
        let key = key.try_into().map_err(|_| io::Error::other("its key has not 32 bytes"))?;
        let too_many = content.ended.len() > ENDED_MAX || content.ended_up_to.len() > TOKENS_MAX;
        if too_many {
            return Err(io::Error::other("it has more sessions than Andon writes"));
        }
        Ok(Some(Kept { key: SiteKey(key), ended: content.ended_sessions()? }))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        let content = serde_json::to_vec(&Content::of(&self.site, kept))?;
        replace(&self.path(), &content, FILE_MODE)
    }
}

impl Content {
    fn of(site: &str, kept: &Kept) -> Self {
        let ended = kept.ended.each.iter().map(|(session, ended)| Ended {
            session: session.simple().to_string(),
            token: ended.token.clone(),
            at_us: ended.at.as_micros(),
        });
        let up_to = kept.ended.up_to.iter();
        Self {
            version: VERSION,
            site: site.to_owned(),
            key: openssl::base64::encode_block(&kept.key.0),
            ended: ended.collect(),
            ended_up_to: up_to
                .map(|(token, at)| EndedUpTo { token: token.clone(), at_us: at.as_micros() })
                .collect(),
            all_ended_up_to_us: kept.ended.all_up_to.map(Timestamp::as_micros),
        }
    }

    fn ended_sessions(self) -> io::Result<EndedSessions> {
        let each = self.ended.into_iter().map(|ended| {
            let at = Timestamp::from_micros(ended.at_us);
            let id = Uuid::try_parse(&ended.session).map_err(io::Error::other)?;
            Ok((id, EndedSession { token: ended.token, at }))
        });
        let up_to =
            self.ended_up_to.into_iter().map(|up_to| (up_to.token, Timestamp::from_micros(up_to.at_us)));
        Ok(EndedSessions {
            each: each.collect::<io::Result<_>>()?,
            up_to: up_to.collect(),
            all_up_to: self.all_ended_up_to_us.map(Timestamp::from_micros),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::session::Session;
    use super::*;

    #[test]
    fn it_reads_back_only_its_owner_can_read_it_and_anything_else_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = SessionFile::in_directory(directory.path(), "north");
        assert!(file.read().unwrap().is_none());
        let mut ended = EndedSessions::default();
        let at = |second: i64| Timestamp::from_micros(1_790_000_000_000_000 + second);
        for number in 0..3_000 {
            let token = format!("token-{}", number % 100);
            ended.add(&Session { token, id: Uuid::new_v4(), issued: at(number) }, at(number));
        }
        assert!(ended.all_up_to.is_some());
        let key = SiteKey::random().unwrap();
        file.write(&Kept { key: key.clone(), ended: ended.clone() }).unwrap();
        let read = file.read().unwrap().unwrap();
        assert!(read.key == key && read.ended == ended);
        let mode = file.path().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, fs::read_dir(&directory).unwrap().count()), (0o600, 1));
        assert!(SessionFile::in_directory(directory.path(), "south").read().unwrap().is_none(), "a copy");

        let whole = fs::read_to_string(file.path()).unwrap();
        for broken in ["", "{", &whole[..whole.len() / 2], &whole.replace("\"version\":1", "\"version\":2")] {
            fs::write(file.path(), broken).unwrap();
            assert!(file.read().is_err());
        }
        fs::write(file.path(), "x".repeat(2 << 20)).unwrap();
        assert!(file.read().is_err());
    }
}
