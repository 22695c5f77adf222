//! Which process may move the position of a journal.

use uuid::Uuid;

use super::fixture::{Fixture, assert_stale, batch_of};
use crate::domain::{JournalHistory, JournalId, Open, OpenId, Seq};
use crate::store::{Batch, Claim, ErrorClass, Store, StoreError};

fn id() -> OpenId {
    OpenId(Uuid::new_v4())
}

/// The same directory, opened again once it holds everything up to `appended`.
fn opened_again(before: &JournalHistory, appended: u64) -> JournalHistory {
    let own = id();
    let mut opens = before.opens.clone();
    opens.push(Open { first: Seq(appended + 1), id: Some(own) });
    JournalHistory { own, opens, appended: Seq(appended), ..before.clone() }
}

fn granted(store: &mut dyn Store, history: &JournalHistory) -> u64 {
    match store.claim(history).unwrap() {
        Claim::Granted(checkpoint) => {
            assert!(checkpoint.is_claimed_by(history.own));
            checkpoint.ledger.committed_seq.0
        }
        Claim::Foreign(found) => panic!("foreign: {found:?}"),
    }
}

fn foreign(store: &mut dyn Store, history: &JournalHistory) {
    let before = store.checkpoint(history.journal_id).unwrap();
    let claim = store.claim(history).unwrap();
    assert!(matches!(claim, Claim::Foreign(_)), "{claim:?}");
    assert_eq!(store.checkpoint(history.journal_id).unwrap(), before, "the row is unchanged");
}

fn as_own(history: &JournalHistory, after: u64, count: u64) -> Batch {
    Batch { open_id: history.own, ..batch_of(history.journal_id, after, count) }
}

/// Proves STO-2.
pub fn a_new_claim_fences_the_previous_holder(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let first = JournalHistory::of_new_journal(JournalId(Uuid::new_v4()));
    assert_eq!(granted(&mut *store, &first), 0);
    assert_eq!(granted(&mut *store, &first), 0, "a second claim does no harm");
    store.commit(&as_own(&first, 0, 5)).unwrap();

    let next = opened_again(&first, 8);
    assert_eq!(granted(&mut *store, &next), 5);
    assert_stale(store.commit(&as_own(&first, 5, 3)), 5, Some(5));
    assert_eq!(fixture.raw().count("machine_telemetry"), 5);
    store.commit(&as_own(&next, 5, 3)).unwrap();
    foreign(&mut *store, &first);
}

pub fn a_position_of_another_history_is_not_claimed(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let original = JournalHistory::of_new_journal(JournalId(Uuid::new_v4()));
    granted(&mut *store, &original);
    store.commit(&as_own(&original, 0, 5)).unwrap();
    // Copied when it held five; the original has gone on since, without another opening.
    let copy = opened_again(&original, 5);
    store.commit(&as_own(&original, 5, 1)).unwrap();
    foreign(&mut *store, &copy);
    // Also once it is opened again.
    granted(&mut *store, &opened_again(&original, 6));
    foreign(&mut *store, &opened_again(&copy, 100));
}

pub fn a_position_of_version_1_is_granted_to_a_journal_that_held_all_of_it(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let journal = JournalId(Uuid::new_v4());
    let of_version_1 = JournalHistory::of_new_journal(journal);
    granted(&mut *store, &of_version_1);
    store.commit(&as_own(&of_version_1, 0, 5)).unwrap();
    let forget = "UPDATE ingest_checkpoint SET open_id = NULL";
    fixture.raw().execute(forget);

    let opened = |before_opens: u64| {
        let own = id();
        let opens = vec![Open { first: Seq(before_opens + 1), id: Some(own) }];
        JournalHistory { journal_id: journal, own, before_opens: Seq(before_opens), opens, appended: Seq(50) }
    };
    foreign(&mut *store, &opened(4));
    assert_eq!(granted(&mut *store, &opened(5)), 5);
    foreign(&mut *store, &opened(5));
    fixture.raw().execute(forget);
    assert_eq!(granted(&mut *store, &opened(6)), 5);
    fixture.raw().execute("UPDATE ingest_checkpoint SET open_id = 'by hand'");
    foreign(&mut *store, &opened(6));
}

/// Several copies with an equal right claim one position at once.
/// Proves STO-2.
pub fn only_one_of_concurrent_claims_is_granted(fixture: &Fixture) {
    let mut store = fixture.migrated();
    let original = JournalHistory::of_new_journal(JournalId(Uuid::new_v4()));
    granted(&mut *store, &original);
    store.commit(&as_own(&original, 0, 5)).unwrap();
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let (options, copy) = (fixture.options(), opened_again(&original, 5));
            std::thread::spawn(move || crate::store::open(&options).unwrap().claim(&copy))
        })
        .collect();
    let answers: Vec<_> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
    let granted = answers.iter().filter(|answer| matches!(answer, Ok(Claim::Granted(_)))).count();
    assert_eq!(granted, 1, "{answers:?}");
    let refused = |answer: &Result<Claim, StoreError>| match answer {
        Ok(claim) => matches!(claim, Claim::Foreign(_)),
        Err(error) => error.class() == ErrorClass::StalePosition,
    };
    assert_eq!(answers.iter().filter(|answer| refused(answer)).count(), 7, "{answers:?}");
}
