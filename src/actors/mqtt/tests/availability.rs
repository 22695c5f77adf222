//! Our own availability at the broker, and reports of the link to liveness.

use super::*;

#[test]
fn online_and_offline_are_published_retained() {
    System::new().block_on(async {
        let harness = Harness { availability_topic: Some("andon/test/status"), ..Harness::new(agreeable) };
        let mqtt = harness.start(1);
        harness.wait_until_up().await;
        let publishes =
            |packet: &Packet, word: &str| packet.is_publish() && packet.body.ends_with(word.as_bytes());
        let published = |word| harness.broker.packets().into_iter().find(|packet| publishes(packet, word));
        wait_until("online", || published("online").is_some()).await;
        mqtt.do_send(StopChild);
        wait_until("the DISCONNECT", || harness.broker.packets().iter().any(Packet::is_disconnect)).await;
        for word in ["online", "offline"] {
            assert_eq!(published(word).map(|packet| packet.head), Some(0x33), "{word}: QoS 1, retained");
        }
    });
}

#[test]
fn a_request_for_the_link_is_answered_with_a_report() {
    System::new().block_on(async {
        let harness = Harness::new(agreeable);
        let mqtt = harness.start(1);
        harness.connect_liveness();
        wait_until("the report", || harness.shared.lock().reports.last() == Some(&(1, true))).await;
        harness.shared.lock().reports.clear();
        mqtt.send(TellLink).await.unwrap();
        wait_until("the second report", || harness.shared.lock().reports == [(1, true)]).await;
    });
}

#[test]
fn a_report_that_liveness_did_not_take_is_sent_again() {
    System::new().block_on(async {
        let harness = Harness::new(agreeable);
        harness.start(1);
        harness.wait_until_up().await;
        harness.connect_liveness();
        wait_until("the report", || harness.shared.lock().reports == [(1, true)]).await;
    });
}

#[test]
fn a_new_incarnation_first_reports_that_the_link_is_down() {
    System::new().block_on(async {
        let harness = Harness::new(|_| Answer::Send(Vec::new()));
        harness.connect_liveness();
        harness.start(2);
        wait_until("the report", || harness.shared.lock().reports == [(2, false)]).await;
    });
}
