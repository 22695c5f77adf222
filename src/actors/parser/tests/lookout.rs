//! Liveness sees the records while the database is away or slow.

use super::*;

#[test]
fn while_the_writer_is_slow_liveness_still_sees_everything() {
    System::new().block_on(async {
        let stage = Stage { batch_rows_max: 10, ..Stage::new() };
        stage.shared.lock().writer_waits = true;
        stage.append(100);
        stage.start();
        let is_seen = |world: &World| world.observed.last().is_some_and(|(upto, _)| *upto == Seq(100));
        stage.shared.wait_until("that all is seen", is_seen).await;
        assert_eq!(stage.shared.lock().committed, Seq::ZERO);
    });
}

#[test]
fn while_the_database_is_away_liveness_still_sees_everything() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.shared.lock().position_unknown = true;
        stage.start();
        // Records from before the start belong to the past.
        stage.append(10);
        let is_seen = |world: &World| world.observed.last().is_some_and(|(upto, _)| *upto == Seq(10));
        stage.shared.wait_until("that all is seen", is_seen).await;
    });
}

#[test]
fn a_restarted_liveness_gets_the_proof_again() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.shared.lock().forgetful = 1;
        stage.append(10);
        let proven_at = stage.prove_link(10);
        stage.start();
        let proofs = |world: &World| {
            let proven = world.observed.iter().filter_map(|(_, proven)| *proven);
            proven.collect::<Vec<_>>()
        };
        stage.shared.wait_until("the proof, twice", |world| proofs(world) == [proven_at, proven_at]).await;
    });
}
