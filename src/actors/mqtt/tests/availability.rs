//! What Andon says of itself, and of its link.

use super::*;

#[test]
fn andon_says_that_it_is_there_and_that_it_leaves_and_the_broker_keeps_both() {
    System::new().block_on(async {
        let stage = Stage { availability_topic: Some("andon/test/status"), ..Stage::new(agreeable) };
        let mqtt = stage.start(1);
        stage.wait_until_up().await;
        let says =
            |packet: &Packet, word: &str| packet.is_publish() && packet.body.ends_with(word.as_bytes());
        let said = |word| stage.broker.packets().into_iter().find(|packet| says(packet, word));
        wait_until("online", || said("online").is_some()).await;
        mqtt.do_send(StopChild);
        wait_until("the DISCONNECT", || stage.broker.packets().iter().any(Packet::is_disconnect)).await;
        for word in ["online", "offline"] {
            assert_eq!(said(word).map(|packet| packet.head), Some(0x33), "{word}: QoS 1, retained");
        }
    });
}

#[test]
fn whoever_asks_for_the_link_is_told() {
    System::new().block_on(async {
        let stage = Stage::new(agreeable);
        let mqtt = stage.start(1);
        stage.connect_liveness();
        wait_until("the news", || stage.shared.lock().news.last() == Some(&(1, true))).await;
        stage.shared.lock().news.clear();
        mqtt.send(TellLink).await.unwrap();
        wait_until("the news again", || stage.shared.lock().news == [(1, true)]).await;
    });
}

#[test]
fn news_of_the_link_that_nobody_took_are_told_again() {
    System::new().block_on(async {
        let stage = Stage::new(agreeable);
        stage.start(1);
        stage.wait_until_up().await;
        stage.connect_liveness();
        wait_until("the news", || stage.shared.lock().news == [(1, true)]).await;
    });
}

#[test]
fn a_new_incarnation_says_first_that_the_link_is_down() {
    System::new().block_on(async {
        let stage = Stage::new(|_| Answer::Send(Vec::new()));
        stage.connect_liveness();
        stage.start(2);
        wait_until("the news", || stage.shared.lock().news == [(2, false)]).await;
    });
}
