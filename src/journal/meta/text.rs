//! The text of `journal.meta`: writing it, and reading every version of it.

use std::fmt::Write as _;

use super::{Hole, META_VERSION, Meta};
use crate::domain::{JournalId, Open, OpenId, Seq};

const MAGIC: &str = "andon journal ";

/// Why a text is not a `journal.meta`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MetaParseError {
    Unreadable,
    Newer(u32),
}

impl Meta {
    pub(in crate::journal) fn to_text(&self) -> String {
        let mut text = format!("{MAGIC}{META_VERSION}\njournal_id {}\n", self.journal_id);
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("writing to a String cannot fail");
            text.push('\n');
        };
        if let Some(site) = &self.site {
            line(format_args!("site {site}"));
        }
        if let Some(boot_id) = &self.boot_id {
            line(format_args!("boot_id {boot_id}"));
        }
        line(format_args!("first_kept {}", self.first_kept));
        line(format_args!("synced {}", self.synced));
        line(format_args!("committed {}", self.committed));
        line(format_args!("trimmed {}", self.trimmed));
        line(format_args!("identity_base {}", self.identity_base));
        line(format_args!("before_opens {}", self.before_opens));
        for Open { first, id } in &self.opens {
            match id {
                Some(id) => line(format_args!("open {first} {id}")),
                None => line(format_args!("open {first}")),
            }
        }
        for (upto, id) in &self.earlier {
            line(format_args!("earlier {upto} {id}"));
        }
        for Hole { from, to } in &self.holes {
            line(format_args!("hole {from} {to}"));
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text + &format!("crc {crc:08x}\n")
    }

    pub(super) fn parse(text: &str) -> Result<Self, MetaParseError> {
        let body = checked(text).ok_or(MetaParseError::Unreadable)?;
        let (magic, rest) = body.split_once('\n').ok_or(MetaParseError::Unreadable)?;
        let version: u32 = magic
            .strip_prefix(MAGIC)
            .and_then(|version| version.parse().ok())
            .ok_or(MetaParseError::Unreadable)?;
        if version > META_VERSION {
            return Err(MetaParseError::Newer(version));
        }
        let mut meta = Self::new();
        for line in rest.lines() {
            meta.read_line(line).ok_or(MetaParseError::Unreadable)?;
        }
        if version == 1 {
            meta.trimmed = meta.committed.min(Seq(meta.first_kept.0.saturating_sub(1)));
        }
        Ok(meta)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (key, value) = line.split_once(' ')?;
        let seq = || value.parse().ok().map(Seq);
        match key {
            "journal_id" => self.journal_id = parse_id(value)?,
            "site" => self.site = Some(value.to_owned()),
            "boot_id" => self.boot_id = Some(value.to_owned()),
            "first_kept" => self.first_kept = seq()?,
            "synced" => self.synced = seq()?,
            "committed" => self.committed = seq()?,
            "trimmed" => self.trimmed = seq()?,
            "identity_base" => self.identity_base = seq()?,
            "before_opens" => self.before_opens = seq()?,
            "open" => {
                let (first, id) =
                    value.split_once(' ').map_or((value, None), |(first, id)| (first, Some(id)));
                let id = id.map(|id| id.parse().map(OpenId)).transpose().ok()?;
                self.opens.push(Open { first: Seq(first.parse().ok()?), id });
            }
            "earlier" => {
                let (upto, id) = value.split_once(' ')?;
                self.earlier.push((Seq(upto.parse().ok()?), parse_id(id)?));
            }
            "hole" => {
                let (from, to) = value.split_once(' ')?;
                self.holes.push(Hole { from: Seq(from.parse().ok()?), to: Seq(to.parse().ok()?) });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Returns the lines before the checksum, if it is correct.
fn checked(text: &str) -> Option<&str> {
    let crc_at = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, crc_line) = text.split_at(crc_at);
    (crc_line == format!("crc {:08x}\n", crc32c::crc32c(body.as_bytes()))).then_some(body)
}

fn parse_id(text: &str) -> Option<JournalId> {
    text.parse().ok().map(JournalId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back_and_a_changed_byte_is_detected() {
        let mut meta = Meta::new();
        meta.site = Some("plant-1".to_owned());
        meta.boot_id = Some("b-1".to_owned());
        meta.first_kept = Seq(7);
        (meta.trimmed, meta.before_opens) = (Seq(6), Seq(3));
        meta.opens = vec![
            Open { first: Seq(4), id: Some(OpenId(uuid::Uuid::new_v4())) },
            Open { first: Seq(8), id: None },
        ];
        meta.earlier = vec![(Seq(9), Meta::new().journal_id)];
        meta.holes = vec![Hole { from: Seq(11), to: Seq(12) }];
        let text = meta.to_text();
        assert_eq!(Meta::parse(&text), Ok(meta));
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] ^= 1;
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert_eq!(Meta::parse(&changed), Err(MetaParseError::Unreadable), "byte {index}");
        }
    }

    /// A file as Andon 0.1.0 wrote it.
    const VERSION_1: &str = "\
andon journal 1
journal_id 67e55044-10b1-426f-9247-bb680e5fe0c8
boot_id 8c2e1f6a-0d5b-4a55-9d0e-3f1f1a2b3c4d
first_kept 7
synced 12
committed 9
identity_base 2
earlier 9 3f0e9a52-6f4b-4a3c-8d5e-0a1b2c3d4e5f
hole 11 12
\
crc e70ffbe8
";

    #[test]
    fn version_1_is_read_and_rewritten_as_the_present_one() {
        let meta = Meta::parse(VERSION_1).unwrap();
        let wanted = Meta {
            journal_id: parse_id("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap(),
            boot_id: Some("8c2e1f6a-0d5b-4a55-9d0e-3f1f1a2b3c4d".to_owned()),
            first_kept: Seq(7),
            synced: Seq(12),
            committed: Seq(9),
            trimmed: Seq(6),
            identity_base: Seq(2),
            earlier: vec![(Seq(9), parse_id("3f0e9a52-6f4b-4a3c-8d5e-0a1b2c3d4e5f").unwrap())],
            holes: vec![Hole { from: Seq(11), to: Seq(12) }],
            ..Meta::new()
        };
        assert_eq!(meta, wanted);
        assert_eq!(Meta::parse(&meta.to_text()), Ok(meta));
    }

    #[test]
    fn a_later_version_is_recognised_by_its_first_line_unless_it_is_damaged() {
        let body = "andon journal 3\na line of the future\n";
        let text = format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()));
        assert_eq!(Meta::parse(&text), Err(MetaParseError::Newer(3)));
        assert_eq!(
            Meta::parse(&VERSION_1.replace("andon journal 1", "andon journal 3")),
            Err(MetaParseError::Unreadable)
        );
    }
}
