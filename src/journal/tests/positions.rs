//! Directories that are copied, restored and killed beside a database that is restored, too: whatever position is believed, the
//! database has everything up to it, and in the end everything is there.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::domain::{JournalId, OpenId};
use crate::journal::GapReason;
use crate::journal::meta::Meta;

/// Directories beside each other, at most.
const DIRECTORIES_MAX: usize = 4;

/// Numbers select a directory, a backup or a share of what is pending, whatever their range.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Append {
        directory: usize,
        count: usize,
    },
    /// The process asks the database, and commits so many thousandths of what is pending.
    Contact {
        directory: usize,
        thousandths: usize,
    },
    /// kill -9 and a new start.
    Restart {
        directory: usize,
    },
    /// The process ends in order, and starts again.
    Reopen {
        directory: usize,
    },
    Copy {
        directory: usize,
    },
    BackUp {
        directory: usize,
    },
    Restore {
        directory: usize,
        backup: usize,
    },
    BackUpDatabase,
    RestoreDatabase {
        backup: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let number = || 0usize..1000;
    prop_oneof![
        8 => (number(), 1usize..6).prop_map(|(directory, count)| Operation::Append { directory, count }),
        8 => (number(), 0usize..=1000).prop_map(|(directory, thousandths)| Operation::Contact { directory, thousandths }),
        3 => number().prop_map(|directory| Operation::Restart { directory }),
        2 => number().prop_map(|directory| Operation::Reopen { directory }),
        2 => number().prop_map(|directory| Operation::Copy { directory }),
        2 => number().prop_map(|directory| Operation::BackUp { directory }),
        2 => (number(), number()).prop_map(|(directory, backup)| Operation::Restore { directory, backup }),
        1 => Just(Operation::BackUpDatabase),
        1 => number().prop_map(|backup| Operation::RestoreDatabase { backup }),
    ]
}

/// What the database knows of a journal: the messages that it was told of, each at its seq; `None` for what was a gap.
#[derive(Debug, Clone, Default)]
struct Row {
    open_id: Option<OpenId>,
    messages: Vec<Option<u64>>,
}

/// A directory, and what was appended in its history.
#[derive(Clone)]
struct Content {
    fs: SimFs,
    messages: Vec<u64>,
    /// Up to here seqs are of an earlier identity.
    identity_base: usize,
}

struct Directory {
    content: Content,
    /// `None` while it is not open.
    journal: Option<Journal>,
}

impl Directory {
    fn open(content: Content) -> Self {
        let journal = Some(super::open(&content.fs).0);
        Self { content, journal }
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }
}

#[derive(Default)]
struct World {
    directories: Vec<Directory>,
    backups: Vec<Content>,
    database: HashMap<JournalId, Row>,
    database_backups: Vec<HashMap<JournalId, Row>>,
    sent: u64,
    new_identities: usize,
}

impl World {
    fn apply(&mut self, operation: Operation) {
        let count = self.directories.len();
        match operation {
            Operation::Append { directory, count: messages } => {
                let directory = &mut self.directories[directory % count];
                for _ in 0..messages {
                    self.sent += 1;
                    append_message(directory.journal(), self.sent);
                    directory.content.messages.push(self.sent);
                }
                directory.journal().sync().unwrap();
            }
            Operation::Contact { directory, thousandths } => self.contact(directory % count, thousandths),
            Operation::Restart { directory } => self.reopen(directory % count, drop),
            Operation::Reopen { directory } => {
                self.reopen(directory % count, |journal| journal.close().unwrap());
            }
            Operation::Copy { directory } if count < DIRECTORIES_MAX => {
                let copy = copy(&self.directories[directory % count].content);
                self.directories.push(Directory::open(copy));
            }
            Operation::Copy { .. } => {}
            Operation::BackUp { directory } => {
                self.backups.push(copy(&self.directories[directory % count].content));
            }
            Operation::Restore { directory, backup } => {
                let Some(backup) = self.backups.get(backup % self.backups.len().max(1)) else { return };
                self.directories[directory % count] = Directory::open(copy(backup));
            }
            Operation::BackUpDatabase => self.database_backups.push(self.database.clone()),
            Operation::RestoreDatabase { backup } => {
                let count = self.database_backups.len().max(1);
                let Some(backup) = self.database_backups.get(backup % count) else { return };
                self.database = backup.clone();
            }
        }
    }

    fn reopen(&mut self, directory: usize, end: fn(Journal)) {
        let directory = &mut self.directories[directory];
        end(directory.journal.take().unwrap());
        directory.journal = Some(open(&directory.content.fs).0);
    }

    fn contact(&mut self, directory: usize, thousandths: usize) {
        let Directory { content, journal } = &mut self.directories[directory];
        let journal = journal.as_ref().unwrap();
        let history = journal.history().unwrap();
        let row = self
            .database
            .entry(history.journal_id)
            .or_insert(Row { open_id: Some(history.own), messages: vec![] });
        if !history.believes(Seq(row.messages.len() as u64), row.open_id) {
            content.identity_base = 0;
            journal.new_identity("plant").unwrap();
            self.new_identities += 1;
            return self.contact(directory, thousandths);
        }
        let committed = row.messages.len();
        for seq in content.identity_base..committed {
            assert_eq!(
                row.messages[seq],
                Some(content.messages[seq]),
                "what is believed to be stored is stored"
            );
        }
        row.open_id = Some(history.own);
        journal.resume(Seq(committed as u64)).unwrap();
        let pending = content.messages.len() - committed;
        let records = (pending * thousandths / 1000).max(usize::from(pending > 0 && thousandths > 0));
        let mut reader = journal.reader(Seq(committed as u64));
        while row.messages.len() < committed + records {
            let outcome = reader.read(1, 1 << 20, &mut |record| {
                let message: u64 = std::str::from_utf8(record.message.payload).unwrap().parse().unwrap();
                assert_eq!(message, content.messages[record.seq.0 as usize - 1]);
                row.messages.push(Some(message));
            });
            assert_eq!(outcome.unwrap().gap, None, "nothing was trimmed");
        }
        journal.commit(Seq(row.messages.len() as u64)).unwrap();
    }

    /// Every directory that is there has told the database everything.
    fn settle(&mut self) {
        for directory in 0..self.directories.len() {
            self.contact(directory, 1000);
        }
        let stored: BTreeSet<u64> =
            self.database.values().flat_map(|row| row.messages.iter().copied().flatten()).collect();
        for directory in &self.directories {
            for message in &directory.content.messages {
                assert!(stored.contains(message), "message {message} is in no table");
            }
            let positions = directory.journal().positions();
            assert_eq!(positions.appended, positions.committed);
        }
    }
}

fn copy(content: &Content) -> Content {
    Content {
        fs: content.fs.fork(),
        messages: content.messages.clone(),
        identity_base: content.identity_base,
    }
}

fn append_message(journal: &Journal, number: u64) {
    let payload = number.to_string();
    let message = Message {
        received_at: Timestamp::from_micros(1_700_000_000_000_000),
        clock_unset: false,
        qos: Qos::AtLeastOnce,
        retained: false,
        topic: "a/b/c".into(),
        payload: payload.as_bytes(),
    };
    journal.append(&message).unwrap();
}

fn run(operations: &[Operation]) -> World {
    let mut world = World::default();
    let empty = Content { fs: SimFs::default(), messages: Vec::new(), identity_base: 0 };
    world.directories.push(Directory::open(empty));
    for operation in operations {
        world.apply(*operation);
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves SYS-3.
    #[test]
    fn nothing_is_ever_skipped_for_a_position_of_another_history(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        run(&operations);
    }

    /// Whatever crashes and however often it starts, also with the database away, and whenever the database is restored.
    #[test]
    fn a_directory_that_is_neither_copied_nor_restored_keeps_its_identity(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let alone = |operation: &Operation| {
            !matches!(operation, Operation::Copy { .. } | Operation::Restore { .. })
        };
        let operations: Vec<_> = operations.into_iter().filter(alone).collect();
        assert_eq!(run(&operations).new_identities, 0);
    }
}

#[test]
fn a_journal_restored_and_started_often_without_the_database_is_recognised() {
    let mut world = run(&[Operation::Append { directory: 0, count: 5 }, Operation::BackUp { directory: 0 }]);
    for operation in [
        Operation::Append { directory: 0, count: 9 },
        Operation::Contact { directory: 0, thousandths: 1000 },
        Operation::Restore { directory: 0, backup: 0 },
        Operation::Append { directory: 0, count: 4 },
        Operation::Restart { directory: 0 },
        Operation::Append { directory: 0, count: 9 },
        Operation::Restart { directory: 0 },
    ] {
        world.apply(operation);
    }
    world.settle();
    assert_eq!(world.new_identities, 1);
}

#[test]
fn positions_are_numbered_from_the_newest_record_of_a_directory_taken_over() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 150, 1000);
    journal.sync().unwrap();
    journal.commit(Seq(149)).unwrap();
    journal.close().unwrap();
    let as_other =
        || try_open_with(&fs, JournalOptions { site: "other".to_owned(), ..options() }, &Arc::default());
    let before = fs.contents(&dir().join("journal.meta"));
    let refused = as_other().err().unwrap();
    assert!(
        matches!(&refused, JournalError::OtherSite { owner, pending: 1, .. } if owner == "plant"),
        "{refused}"
    );
    assert!(refused.is_misuse());
    assert_eq!(fs.contents(&dir().join("journal.meta")), before);

    let (journal, recovery) = open(&fs);
    assert_eq!(recovery.taken_from, None);
    let old = journal.id();
    journal.commit(Seq(150)).unwrap();
    journal.close().unwrap();
    let (journal, recovery) = as_other().unwrap();
    assert_eq!((recovery.taken_from.as_deref(), recovery.last), (Some("plant"), Seq(150)));
    assert_ne!(journal.id(), old);
    append_many(&journal, 150, 1000);
    journal.sync().unwrap();
    let earlier = Gap { from: Seq(1), to: Seq(150), reason: GapReason::EarlierIdentity };
    assert_eq!(
        read_all(&journal, 0).unwrap(),
        (numbers(151..=300), vec![earlier]),
        "nothing of the other site"
    );
    assert_eq!(journal.resume(Seq::ZERO).unwrap(), None);
    assert_eq!(journal.positions().committed, Seq(150));
    drop(journal);
    let (journal, recovery) = as_other().unwrap();
    assert_eq!(recovery.taken_from, None, "once");
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(151..=300), vec![earlier]));
    assert_eq!(crate::journal::verify(dir(), &fs).unwrap(), []);
}

#[test]
fn a_database_older_than_the_journal_is_recognised_and_filled_from_the_records_kept() {
    for (when_full, restart) in
        [(WhenFull::Hold, false), (WhenFull::Hold, true), (WhenFull::DropOldest, true)]
    {
        let fs = SimFs::default();
        let options = JournalOptions { when_full, ..options() };
        let open = || try_open_with(&fs, options.clone(), &Arc::default()).unwrap().0;
        let mut journal = open();
        append_many(&journal, 300, 1000);
        journal.sync().unwrap();
        journal.commit(Seq(250)).unwrap();
        journal.maintain().unwrap();
        let first = journal.positions().first;
        assert_eq!(journal.resume(Seq(20)).unwrap(), Some(Seq(250)));
        assert_eq!(journal.positions().committed, Seq(20), "the rest is pending again");
        if restart {
            journal.close().unwrap();
            journal = open();
            assert!(journal.resume(Seq(20)).unwrap().is_some());
        }
        let gap = Gap { from: Seq(21), to: Seq(first.0 - 1), reason: GapReason::Restored };
        assert_eq!(read_all(&journal, 20).unwrap(), (numbers(first.0..=300), vec![gap]));
        append_many(&journal, 200, 1000);
        journal.sync().unwrap();
        journal.maintain().unwrap();
        assert_eq!(journal.positions().first, first, "what the database lacks is kept");
        assert_eq!(journal.resume(Seq(300)).unwrap(), None);
    }
}

#[test]
fn records_committed_before_they_were_dropped_do_not_count_as_dropped() {
    let fs = SimFs::default();
    let options = JournalOptions { when_full: WhenFull::DropOldest, max_bytes: 256 * 1024, ..options() };
    let (journal, _) = try_open_with(&fs, options.clone(), &Arc::default()).unwrap();
    append_many(&journal, 20, 1000);
    journal.sync().unwrap();
    journal.commit(Seq(20)).unwrap();
    for _ in 0..10 {
        append_many(&journal, 50, 1000);
        journal.sync().unwrap();
    }
    let first = journal.positions().first;
    assert!(first > Seq(21));
    let restored = Gap { from: Seq(11), to: Seq(20), reason: GapReason::Restored };
    let dropped = Gap { from: Seq(21), to: Seq(first.0 - 1), reason: GapReason::Dropped };
    assert_eq!(read_all(&journal, 10).unwrap().1, [restored, dropped]);
    journal.maintain().unwrap();
    drop(journal);
    let (journal, _) = try_open_with(&fs, options, &Arc::default()).unwrap();
    assert_eq!(read_all(&journal, 10).unwrap().1, [restored, dropped]);
}

#[test]
fn records_from_before_open_ids_are_left_to_the_site_that_wrote_them() {
    let fs = SimFs::default();
    let (journal, _) = open(&fs);
    append_many(&journal, 30, 100);
    journal.close().unwrap();
    // As version 1 left it.
    let meta = Meta { site: None, opens: Vec::new(), ..Meta::load(&fs, dir()).unwrap().unwrap() };
    meta.store(&fs, dir()).unwrap();
    let (journal, _) = open(&fs);
    append_many(&journal, 20, 100);
    journal.sync().unwrap();
    journal.new_identity("another").unwrap();
    let earlier = Gap { from: Seq(1), to: Seq(30), reason: GapReason::EarlierIdentity };
    assert_eq!(read_all(&journal, 0).unwrap(), (numbers(31..=50), vec![earlier]));
    journal.new_identity("another").unwrap();
    assert_eq!(read_all(&journal, 0).unwrap().0, numbers(31..=50), "what came under the present site stays");
}
