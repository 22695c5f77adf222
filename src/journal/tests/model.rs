//! Any sequence of operations, crashes and power cuts against a model of four numbers.

use proptest::prelude::*;

use super::*;
use crate::journal::{GapReason, Reader};

#[derive(Debug, Clone)]
enum Operation {
    Append {
        len: usize,
    },
    Sync,
    Maintain,
    /// This many thousandths of what is durable and not committed.
    Commit {
        thousandths: u64,
    },
    Read {
        records_max: usize,
    },
    /// kill -9.
    Crash,
    PowerCut {
        seed: u64,
    },
    /// A clean stop and start.
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => (0usize..20_000).prop_map(|len| Operation::Append { len }),
        1 => (60_000usize..100_000).prop_map(|len| Operation::Append { len }),
        6 => Just(Operation::Sync),
        4 => Just(Operation::Maintain),
        3 => (0u64..=1000).prop_map(|thousandths| Operation::Commit { thousandths }),
        4 => (1usize..20).prop_map(|records_max| Operation::Read { records_max }),
        1 => Just(Operation::Crash),
        2 => any::<u64>().prop_map(|seed| Operation::PowerCut { seed }),
        1 => Just(Operation::Reopen),
    ]
}

struct Model {
    fs: SimFs,
    options: JournalOptions,
    journal: Journal,
    reader: Reader,
    appended: u64,
    synced: u64,
    committed: u64,
}

impl Model {
    fn new(options: JournalOptions) -> Self {
        let fs = SimFs::default();
        let (journal, _) = try_open_with(&fs, options.clone(), &Arc::default()).unwrap();
        let reader = journal.reader(Seq::ZERO);
        Self { fs, options, journal, reader, appended: 0, synced: 0, committed: 0 }
    }

    fn apply(mut self, operation: &Operation) -> Self {
        match *operation {
            Operation::Append { len } => {
                assert_eq!(append(&self.journal, self.appended + 1, len).unwrap(), Seq(self.appended + 1));
                self.appended += 1;
                if self.options.sync == SyncMode::BeforeAck {
                    self.synced = self.appended;
                }
            }
            Operation::Sync => {
                self.synced = self.appended;
                assert_eq!(self.journal.sync().unwrap(), Seq(self.synced));
            }
            Operation::Maintain => {
                self.journal.maintain().unwrap();
            }
            Operation::Commit { thousandths } => {
                self.committed += (self.synced - self.committed) * thousandths / 1000;
                self.journal.commit(Seq(self.committed)).unwrap();
            }
            Operation::Read { records_max } => self.read(records_max),
            Operation::Crash => return self.reopen(|_| ()),
            Operation::PowerCut { seed } => return self.reopen(|fs| fs.power_cut(seed)),
            Operation::Reopen => {
                self.journal.clone().close().unwrap();
                self.synced = self.appended;
                return self.reopen(SimFs::reboot);
            }
        }
        self.check_positions();
        self
    }

    fn read(&mut self, records_max: usize) {
        let mut next = self.reader.position().0 + 1;
        let mut visited = Vec::new();
        let outcome = self.reader.read(records_max, 50_000, &mut |record| {
            check(record);
            visited.push(record.seq.0);
        });
        let outcome = outcome.unwrap();
        self.synced = self.synced.max(if self.options.sync == SyncMode::Os { next - 1 } else { 0 });
        if let Some(gap) = outcome.gap {
            self.check_gap(gap);
            assert_eq!(gap.from, Seq(next));
            next = gap.to.0 + 1;
        }
        let expected = next..next + outcome.records as u64;
        assert_eq!(visited, expected.collect::<Vec<_>>());
        if self.options.sync == SyncMode::Os {
            self.synced = self.synced.max(self.journal.positions().synced.0);
        }
        assert!(self.reader.position().0 <= self.synced, "durable only");
    }

    fn check_gap(&self, gap: Gap) {
        let dropped = self.options.when_full == WhenFull::DropOldest && gap.reason == GapReason::Dropped;
        let trimmed = gap.reason == GapReason::Restored && gap.to.0 <= self.committed;
        assert!(dropped || trimmed, "{gap:?}");
    }

    fn check_positions(&self) {
        let positions = self.journal.positions();
        assert_eq!(positions.appended, Seq(self.appended));
        assert_eq!(positions.synced, Seq(self.synced));
        assert_eq!(positions.committed, Seq(self.committed));
    }

    /// The process ends, `event` happens to the machine, and the journal is opened again.
    fn reopen(self, event: impl FnOnce(&SimFs)) -> Self {
        let Self { fs, options, journal, reader, appended, synced, committed } = self;
        drop((journal, reader));
        let calls_before = fs.calls();
        event(&fs);
        let survives = if fs.unsynced_is_lost() { synced } else { appended };
        let (journal, recovery) = try_open_with(&fs, options.clone(), &Arc::default()).unwrap();
        assert!(fs.calls() > calls_before);
        let last = recovery.last.0;
        assert!((survives..=appended).contains(&last), "{last} of {survives}..={appended}");
        journal.commit(Seq(committed)).unwrap();
        let (read, gaps) = read_all(&journal, committed).unwrap();
        let reader = journal.reader(Seq(committed));
        let model = Self { fs, options, journal, reader, appended: last, synced: last, committed };
        let mut all: Vec<u64> = read;
        for gap in gaps {
            model.check_gap(gap);
            all.extend(gap.from.0..=gap.to.0);
        }
        all.sort_unstable();
        assert_eq!(all, (committed + 1..=last).collect::<Vec<_>>(), "every seq once");
        model.check_positions();
        let damage = crate::journal::verify(dir(), &model.fs).unwrap();
        assert_eq!(damage, []);
        model
    }
}

fn run(operations: &[Operation], sync: SyncMode, when_full: WhenFull) {
    let max_bytes = if when_full == WhenFull::DropOldest { 256 * 1024 } else { 1 << 30 };
    let options = JournalOptions { sync, when_full, max_bytes, ..options() };
    let mut model = Model::new(options);
    for operation in operations {
        model = model.apply(operation);
    }
    model.reopen(|_| ());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves JRN-1, JRN-2, JRN-5, SYS-2.
    #[test]
    fn the_journal_behaves_like_its_model(
        operations in prop::collection::vec(operation(), 1..80),
        sync in prop::sample::select(vec![SyncMode::Background, SyncMode::BeforeAck, SyncMode::Os]),
        when_full in prop::sample::select(vec![WhenFull::Hold, WhenFull::DropOldest]),
    ) {
        run(&operations, sync, when_full);
    }
}
