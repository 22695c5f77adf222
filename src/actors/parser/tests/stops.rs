//! Orderly stops.

use super::*;

/// Starts a parser with five messages, and waits until they are a batch that the writer does not answer yet.
async fn with_batch_in_flight() -> (Stage, Addr<Parser>) {
    let stage = Stage::new();
    stage.shared.lock().writer_waits = true;
    stage.append(5);
    let parser = stage.start();
    stage.shared.wait_until("a batch in flight", |world| world.held.len() == 1).await;
    (stage, parser)
}

/// Waits for the end. Returns its reason and the committed position.
async fn ended(stage: &Stage) -> (ExitReason, Seq) {
    stage.shared.wait_until("the end", |world| world.exit.is_some()).await;
    let world = stage.shared.lock();
    (world.exit.clone().unwrap(), world.committed)
}

#[test]
fn an_orderly_stop_waits_for_the_batch_in_flight_and_for_what_is_behind_it() {
    System::new().block_on(async {
        let (stage, parser) = with_batch_in_flight().await;
        parser.do_send(StopChild);
        actix_rt::time::sleep(A_WHILE).await;
        assert_eq!(stage.shared.lock().exit, None, "the batch in flight");
        // The callback may still append.
        stage.append(5);
        parser.do_send(JournalGrew);
        stage.shared.release();
        assert_eq!(ended(&stage).await, (ExitReason::Normal, Seq(10)));
    });
}

#[test]
fn an_orderly_stop_records_the_last_transitions() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.append(5);
        let parser = stage.start();
        stage.shared.wait_until("the position", |world| world.committed == Seq(5)).await;
        (stage.shared.lock().transitions, stage.shared.lock().writer_waits) = (3, true);
        parser.do_send(StopChild);
        stage.shared.wait_until("the last batch in flight", |world| world.held.len() == 1).await;
        actix_rt::time::sleep(A_WHILE).await;
        assert_eq!(stage.shared.lock().exit, None);
        stage.shared.release();
        assert_eq!(ended(&stage).await, (ExitReason::Normal, Seq(5)));
        let last = stage.shared.lock().commits.last().copied();
        assert_eq!(last, Some(Commit { after: 5, upto: 5, transitions: 3 }));
    });
}

#[test]
fn an_orderly_stop_does_not_wait_for_a_database_that_is_away() {
    System::new().block_on(async {
        let (stage, parser) = with_batch_in_flight().await;
        stage.metrics.store_available.set(false);
        parser.do_send(StopChild);
        assert_eq!(ended(&stage).await, (ExitReason::Normal, Seq::ZERO));
    });
}

#[test]
fn an_orderly_stop_does_not_wait_for_an_unknown_position() {
    System::new().block_on(async {
        let stage = Stage::new();
        stage.shared.lock().position_unknown = true;
        stage.append(5);
        let parser = stage.start();
        parser.do_send(StopChild);
        assert_eq!(ended(&stage).await, (ExitReason::Normal, Seq::ZERO));
    });
}
