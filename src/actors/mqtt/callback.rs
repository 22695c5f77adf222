//! The message callback: from the client library's receive thread into the journal.
//!
//! It runs on the library's one receive thread, under its global lock, and the PUBACK follows when it
//! returns (with the rest of its group: [`super::client::socket_layer`]). It appends and returns. Except while the connection is being left, it waits for nothing but the
//! disk; it never calls the client, and allocates little.
//!
//! On failure: if the append fails it does not return (MQTT-1). The process ends, and the broker keeps the
//! message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use slog::{Logger, error, warn};

use super::client::raw_callback::Incoming;
use super::client::socket_layer;
use super::link_health::SharedLinkHealth;
use crate::actors::failpoint::{failpoint, is_mutant};
use crate::actors::parser::messages::JournalGrew;
use crate::actors::stable_addr::StableAddr;
use crate::clock::{mono_now, receipt_now};
use crate::domain::{Message, Qos, Topic, TopicFilter};
use crate::journal::{Journal, JournalError};
use crate::logging::{causes, last_panic_message};
use crate::metrics::Metrics;
use crate::shutdown::halt;

/// Long enough for the broker to read an acknowledgement.
pub(super) const LEAVING_PAUSE: Duration = Duration::from_millis(10);

/// Everything that the callback needs; shared by all clients that the actor makes.
pub struct MessageCallback {
    /// Where messages go.
    pub journal: Journal,
    /// Learns of each message and of our echo.
    pub health: Arc<SharedLinkHealth>,
    /// The topic of our echo. Messages on it are not journaled.
    pub echo_topic: Option<TopicFilter>,
    /// Wakes up when the link is proven.
    pub parser: StableAddr<JournalGrew>,
    /// Counts messages and bytes.
    pub metrics: Arc<Metrics>,
    /// A longer payload is cut one byte past this bound, so that the parser still recognises it as too large.
    pub payload_bytes_max: usize,
    /// Logs the line before the process ends.
    pub logger: Logger,
    /// True while a message is in the callback, or a group of messages waits for the disk.
    pub receiving: AtomicBool,
    /// True once a connection that is not buffered has been logged.
    pub unbuffered_logged: AtomicBool,
    /// Counts for [`MessageCallback::skips_on_purpose`].
    pub skipped_turn: AtomicU64,
}

impl MessageCallback {
    /// Returns whether a message is in the callback, or a group waits for the disk: the broker has just spoken.
    pub fn is_receiving(&self) -> bool {
        self.receiving.load(Ordering::Relaxed)
    }

    /// Journals one message. Returns only when it is in the journal; `Err` carries a panic that did not
    /// prevent that.
    ///
    /// While its connection is `leaving`, the callback accepts messages slowly. A broker that is still
    /// sending when the connection closes never reads the acknowledgements in front of that, and delivers
    /// their messages again. A message without a usable time would then be stored twice.
    pub fn receive(self: &Arc<Self>, message: &Incoming<'_>, leaving: bool) -> Result<(), String> {
        self.receiving.store(true, Ordering::Relaxed);
        self.note_buffered(socket_layer::begin_message(message.qos > 0, leaving));
        if leaving {
            std::thread::sleep(LEAVING_PAUSE);
        }
        let outcome = self.receive_now(message);
        self.receiving.store(false, Ordering::Relaxed);
        outcome
    }

    fn note_buffered(&self, is_buffered: bool) {
        self.metrics.broker_buffered.set(is_buffered);
        if !is_buffered && !self.unbuffered_logged.swap(true, Ordering::Relaxed) {
            warn!(self.logger, "the connection to the broker is not buffered: each message is read, made durable and                 acknowledged alone, which is slower but loses nothing; expected on any system but 64-bit Linux with glibc";
                "metric" => "andon_broker_buffered");
        }
    }

    fn receive_now(self: &Arc<Self>, message: &Incoming<'_>) -> Result<(), String> {
        let survived = match catch_unwind(AssertUnwindSafe(|| self.fail_point())) {
            Ok(()) => Ok(()),
            Err(_) => Err(last_panic_message()),
        };
        match catch_unwind(AssertUnwindSafe(|| self.append(message))) {
            Ok(Ok(())) => survived,
            // The process is ending in order. A client that connected late must not acknowledge anything, nor
            // end it otherwise.
            Ok(Err(JournalError::Closed)) => loop {
                std::thread::park();
            },
            Ok(Err(error)) => {
                error!(self.logger, "a message could not be journaled and is not acknowledged: stopping, the broker keeps \
                    it; fix the cause named here, then start again"; "error" => causes(&error));
                halt(1)
            }
            Err(_) => {
                error!(self.logger, "the journal panicked and the message is not acknowledged: stopping, the broker keeps it"; "error" => last_panic_message());
                halt(1)
            }
        }
    }

    /// The broker delivers in order: everything that was queued in front of the echo is in the journal by
    /// now.
    fn receive_echo(&self, payload: &[u8]) {
        let upto = self.journal.positions().appended;
        if self.health.lock().echo(payload, mono_now(), upto) {
            // A parser that is restarting reads the proof when it starts.
            let _read_at_its_start = self.parser.try_send(JournalGrew);
        }
    }

    fn fail_point(&self) {
        fail_point!("mqtt::callback");
    }

    /// Loses every thousandth message, for a test that has to notice that.
    fn skips_on_purpose(&self) -> bool {
        is_mutant("mutants::skip_append") && self.skipped_turn.fetch_add(1, Ordering::Relaxed) % 1000 == 999
    }

    fn append(self: &Arc<Self>, message: &Incoming<'_>) -> Result<(), JournalError> {
        let began = mono_now();
        if self.echo_topic.as_ref().is_some_and(|topic| topic.as_str().as_bytes() == message.topic) {
            self.receive_echo(message.payload);
            return Ok(());
        }
        if self.skips_on_purpose() {
            return Ok(());
        }
        let payload = message.payload;
        let kept = payload.len().min(self.payload_bytes_max + 1);
        let receipt = receipt_now();
        let seq = self.journal.append_unsynced(&Message {
            received_at: receipt.at,
            clock_unset: receipt.clock_unset,
            qos: Qos::from_u8(message.qos).unwrap_or(Qos::ExactlyOnce),
            retained: message.retained,
            topic: Topic::from_bytes(message.topic),
            payload: &payload[..kept],
        })?;
        self.sync_before_ack(seq)?;
        self.health.lock().message(began, mono_now());
        self.metrics.messages_received.add(1);
        self.metrics.bytes_received.add(payload.len() as u64);
        // A test may only delay here: the message is journaled and will be acknowledged.
        let _still_acknowledged = failpoint("mqtt::before_ack");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use slog::o;

    use super::super::client::socket_layer::Barrier;
    use super::super::link_health::{Effect, LinkHealth, Timing};
    use super::*;
    use crate::domain::Seq;
    use crate::journal::tests::sim_fs::{Kind, SimFs};
    use crate::journal::{JournalListener, JournalOptions, Space, SyncMode, WhenFull};

    /// Tells the child process how its disk fails.
    const FAULT: &str = "ANDON_TEST_CALLBACK_FAULT";
    const PAYLOAD_BYTES_MAX: usize = 100;

    struct Unheard;

    impl JournalListener for Unheard {
        fn readable(&self, _: Seq) {}
        fn space(&self, _: Space) {}
        fn failed(&self, _: &JournalError) {}
    }

    fn callback(fs: &SimFs) -> Arc<MessageCallback> {
        callback_in(fs, SyncMode::Os)
    }

    fn callback_in(fs: &SimFs, sync: SyncMode) -> Arc<MessageCallback> {
        let options = JournalOptions {
            dir: "/journal".into(),
            site: "plant".to_owned(),
            max_bytes: 256 * 1024,
            segment_bytes: 64 * 1024,
            sync,
            when_full: WhenFull::Hold,
        };
        let (journal, _) = Journal::open(options, Arc::new(fs.clone()), Arc::new(Unheard)).unwrap();
        let timing = Timing::of(Duration::from_secs(30), Duration::from_secs(15));
        Arc::new(MessageCallback {
            journal,
            health: Arc::new(SharedLinkHealth::new(LinkHealth::new(timing, Seq::ZERO))),
            echo_topic: Some(TopicFilter::parse("andon/test/echo").unwrap()),
            parser: StableAddr::new(),
            metrics: Arc::default(),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            logger: Logger::root(slog::Discard, o!()),
            receiving: AtomicBool::new(false),
            unbuffered_logged: AtomicBool::new(false),
            skipped_turn: AtomicU64::new(0),
        })
    }

    fn message(topic: &'static str, payload: &'static [u8]) -> Incoming<'static> {
        Incoming { topic: topic.as_bytes(), payload, qos: 1, retained: true }
    }

    const TOPIC: &str = "factory/machine/press-1/telemetry";

    /// Prints which messages were acknowledged; the disk fails for the second one.
    fn receive_until_it_fails(fault: &str) {
        let fs = SimFs::default();
        let callback =
            callback_in(&fs, if fault.starts_with("unsynced") { SyncMode::BeforeAck } else { SyncMode::Os });
        for number in 1..=2 {
            if fault == "unsynced group" {
                let topic = Topic::from_bytes(TOPIC.as_bytes());
                let (received_at, payload) = (receipt_now().at, &b"{}"[..]);
                let message = Message {
                    received_at,
                    clock_unset: false,
                    qos: Qos::AtLeastOnce,
                    retained: false,
                    topic,
                    payload,
                };
                let seq = callback.journal.append_unsynced(&message).unwrap();
                callback.pass(seq.0);
            } else {
                callback.receive(&message(TOPIC, b"{}"), false).unwrap();
            }
            println!("acknowledged: {number}.");
            match fault {
                "full" => fs.set_writes_fail(Kind::Enospc),
                "broken" => fs.set_writes_fail(Kind::Eio),
                _ => fs.set_syncs_fail(),
            }
        }
    }

    fn in_a_child_process(fault: &str) -> Output {
        let this = "actors::mqtt::callback::tests::what_is_not_safe_in_the_journal_is_not_acknowledged";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", this, "--nocapture"]).env(FAULT, fault).output().unwrap()
    }

    /// Proves MQTT-1, ACK-2.
    #[test]
    fn what_is_not_safe_in_the_journal_is_not_acknowledged() {
        if let Ok(fault) = std::env::var(FAULT) {
            return receive_until_it_fails(&fault);
        }
        for fault in ["full", "broken", "unsynced", "unsynced group"] {
            let ended = in_a_child_process(fault);
            let said = String::from_utf8_lossy(&ended.stdout);
            assert_eq!(ended.status.code(), Some(1), "{fault}: {said}");
            assert!(
                said.contains("acknowledged: 1.") && !said.contains("acknowledged: 2."),
                "{fault}: {said}"
            );
        }
    }

    /// Proves MQTT-1.
    #[test]
    fn once_the_journal_is_closed_nothing_is_acknowledged_and_nothing_ends() {
        let callback = callback(&SimFs::default());
        callback.receive(&message(TOPIC, b"{}"), false).unwrap();
        callback.journal.clone().close().unwrap();
        let (acknowledged, heard) = channel();
        std::thread::spawn(move || {
            let _returned = callback.receive(&message(TOPIC, b"{}"), false);
            acknowledged.send(()).unwrap();
        });
        // It must never come; an acknowledgement would come much sooner.
        assert_eq!(heard.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_message_in_the_callback_is_visible_from_outside() {
        let callback = callback(&SimFs::default());
        assert!(!callback.is_receiving());
        // Once the journal is closed the callback does not return.
        callback.journal.clone().close().unwrap();
        let for_library = Arc::clone(&callback);
        std::thread::spawn(move || for_library.receive(&message(TOPIC, b"{}"), false));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !callback.is_receiving() {
            assert!(std::time::Instant::now() < deadline, "a message is in the callback");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_message_is_journaled_unchanged_and_cut_one_byte_past_the_bound() {
        let callback = callback(&SimFs::default());
        const LONG: &[u8] = &[b'x'; 2 * PAYLOAD_BYTES_MAX];
        callback.receive(&message(TOPIC, b"{}"), false).unwrap();
        callback.receive(&Incoming { retained: false, qos: 2, ..message("a/b", LONG) }, true).unwrap();
        assert!(!callback.is_receiving());
        assert_eq!(callback.metrics.messages_received.get(), 2);
        let mut found = Vec::new();
        let mut note = |record: crate::journal::Record<'_>| {
            let Message { qos, retained, topic, payload, .. } = record.message;
            found.push((topic.to_text().into_owned(), qos, retained, payload.len()));
        };
        callback.journal.reader(Seq::ZERO).read(10, 1 << 20, &mut note).unwrap();
        let unchanged = (TOPIC.to_owned(), Qos::AtLeastOnce, true, 2);
        assert_eq!(found, [unchanged, ("a/b".to_owned(), Qos::ExactlyOnce, false, PAYLOAD_BYTES_MAX + 1)]);
    }

    #[test]
    fn an_echo_is_not_journaled() {
        let callback = callback(&SimFs::default());
        callback.receive(&message("andon/test/echo", b"0-1"), false).unwrap();
        callback.receive(&message("andon/test/echo/not", b"0-1"), false).unwrap();
        assert_eq!(callback.journal.positions().appended, Seq(1));
        assert_eq!(callback.metrics.messages_received.get(), 1);
    }

    #[test]
    fn a_message_is_a_sign_of_life_and_all_its_bytes_count() {
        let callback = callback(&SimFs::default());
        let before = mono_now();
        const LONG: &[u8] = &[b'x'; 2 * PAYLOAD_BYTES_MAX];
        callback.receive(&message(TOPIC, LONG), false).unwrap();
        assert!(callback.health.lock().heard_at() > before);
        assert_eq!(callback.metrics.bytes_received.get(), 2 * PAYLOAD_BYTES_MAX as u64);
    }

    /// The parser.
    struct Woken(tokio::sync::mpsc::UnboundedSender<()>);

    impl actix::Actor for Woken {
        type Context = actix::Context<Self>;
    }

    impl actix::Handler<JournalGrew> for Woken {
        type Result = ();

        fn handle(&mut self, _: JournalGrew, _: &mut actix::Context<Self>) {
            self.0.send(()).unwrap();
        }
    }

    #[test]
    fn our_echo_proves_the_link_and_wakes_the_parser_at_once() {
        actix::System::new().block_on(async {
            let callback = callback(&SimFs::default());
            let (out, mut woken) = tokio::sync::mpsc::unbounded_channel();
            callback.parser.connect(actix::Actor::start(Woken(out)).recipient());
            let payload = {
                let mut health = callback.health.lock();
                health.link_up(mono_now(), Some(7));
                assert_eq!(health.check(mono_now(), false), [Effect::SendEcho(1)]);
                health.echo_payload(1).unwrap()
            };
            callback.receive(&message(TOPIC, b"{}"), false).unwrap();
            let echo =
                Incoming { topic: b"andon/test/echo", payload: payload.as_bytes(), qos: 1, retained: false };
            callback.receive(&echo, false).unwrap();
            assert_eq!(callback.health.lock().proof().map(|proof| proof.upto), Some(Seq(1)));
            let heard = actix_rt::time::timeout(Duration::from_secs(30), woken.recv()).await;
            assert_eq!(heard, Ok(Some(())));
        });
    }
}
