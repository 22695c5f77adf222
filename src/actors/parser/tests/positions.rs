//! The position in the database, and the batches that move it.

use super::*;

/// Proves PAR-1.
#[test]
fn a_position_that_has_moved_is_read_again_and_the_next_batch_begins_there() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.shared.lock().writer_waits = true;
        stage.append(10);
        stage.start();
        stage.shared.wait_until("a batch in flight", |world| world.held.len() == 1).await;
        stage.shared.lock().committed = Seq(5);
        stage.shared.release();
        stage.shared.wait_until("the position", |world| world.committed == Seq(10)).await;
        assert_eq!(stage.shared.lock().commits, [Commit { after: 5, upto: 10, transitions: 0 }]);
    });
}

#[test]
fn a_position_that_is_lost_while_nothing_is_committed_is_read_again() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.append(10);
        stage.start();
        stage.shared.wait_until("the position", |world| world.committed == Seq(10)).await;
        // The parser has no batch in flight once the journal knows the commit.
        let committed = |_: &World| stage.journal.positions().committed == Seq(10);
        stage.shared.wait_until("that the journal knows", committed).await;
        stage.shared.lock().committed = Seq(4);
        let lost = stage.shared.lock().lost.clone().and_then(|lost| lost.upgrade()).unwrap();
        lost.do_send(PositionLost);
        stage.shared.wait_until("the position", |world| world.committed == Seq(10)).await;
        assert_eq!(stage.shared.lock().commits.last(), Some(&Commit { after: 4, upto: 10, transitions: 0 }));
    });
}

#[test]
fn the_journal_learns_what_is_committed() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.append(10);
        stage.start();
        let committed = |_: &World| stage.journal.positions().committed == Seq(10);
        stage.shared.wait_until("that the journal knows", committed).await;
    });
}

/// Proves PAR-3.
#[test]
fn a_batch_is_bounded_in_rows_however_long_the_writer_takes() {
    System::new().block_on(async {
        let stage = Stage { batch_rows_max: 10, ..Stage::new() };
        stage.shared.lock().writer_waits = true;
        stage.append(100);
        stage.start();
        // The lookout has read everything, so there was time to build too much.
        stage
            .shared
            .wait_until("the lookout", |world| {
                world.observed.last().is_some_and(|(upto, _)| *upto == Seq(100))
            })
            .await;
        stage.shared.release();
        stage.shared.wait_until("the position", |world| world.committed == Seq(100)).await;
        let commits = stage.shared.lock().commits.clone();
        assert!(commits.iter().all(|commit| commit.upto - commit.after <= 10), "{commits:?}");
    });
}
