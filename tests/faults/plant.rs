//! The plant that a fault strikes: broker, database, Andon and numbered messages, and the verdict at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::kinds;
use super::load::{self, Load};
use super::memory::{PeakWatch, status_kib};
use super::oracle::{self, Sent, Verdict};
use super::{FaultRun, Report};
use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

/// So long that no machine falls silent in these tests: then every event but `first_seen` is false.
const OFFLINE_AFTER: &str = "liveness.offline_after=1h";

/// Everything that a fault can strike.
pub struct Plant {
    /// The first field, so that it is dropped first: its log must still exist to be shown.
    pub andon: Option<Andon>,
    pub broker: Mosquitto,
    pub postgres: Option<Postgres>,
    pub site: Site,
    /// The database that the oracle reads.
    pub url: String,
    pub journal_dir: PathBuf,
    pub sent: Sent,
    watch: Option<PeakWatch>,
    idle_kib: u64,
    peak_kib: u64,
    /// Failpoints that every start arms, to break the build on purpose.
    mutation: String,
    no_progress_max: Duration,
    over_since: Option<Instant>,
    recovery: Option<Duration>,
}

impl Plant {
    /// Makes a plant with an SQLite file.
    pub fn sqlite(run: &FaultRun) -> Self {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port());
        let url = site.sqlite_url();
        Self::new(run, broker, None, site, url)
    }

    /// Makes a plant with a PostgreSQL server of its own.
    pub fn postgres(run: &FaultRun) -> Self {
        let broker = Mosquitto::start("");
        let postgres = Postgres::start();
        let url = postgres.create_database("andon");
        let site = Site::new(broker.port()).set(&format!("store.url={url}"));
        Self::new(run, broker, Some(postgres), site, url)
    }

    pub fn new(
        run: &FaultRun,
        broker: Mosquitto,
        postgres: Option<Postgres>,
        site: Site,
        url: String,
    ) -> Self {
        let site = [
            OFFLINE_AFTER,
            kinds::SUBSCRIPTIONS,
            kinds::LAST_WILL,
            kinds::MAX_PAYLOAD,
            "supervisor.backoff_min=20ms",
            "supervisor.backoff_max=200ms",
        ]
        .into_iter()
        .fold(site, |site, setting| site.set(setting));
        let mut single = Single::connect(broker.port());
        for kinds::Sample { topic, payload, .. } in (0..kinds::RETAINED).map(kinds::retained) {
            single.publish_retained(&topic, &payload, 1);
        }
        let journal_dir = site.journal_dir();
        let mutation = run.mutation.clone();
        let sent = Sent::default();
        let (no_progress_max, idle_kib, peak_kib) = (run.no_progress_max, 0, 0);
        Self {
            broker,
            postgres,
            site,
            url,
            journal_dir,
            sent,
            andon: None,
            watch: None,
            idle_kib,
            peak_kib,
            mutation,
            no_progress_max,
            over_since: None,
            recovery: None,
        }
    }

    /// Adds settings.
    pub fn set(mut self, settings: &[&str]) -> Self {
        for setting in settings {
            self.site = self.site.set(setting);
        }
        self
    }

    /// Moves the journal to `directory`, before the first start.
    pub fn with_journal_in(mut self, directory: PathBuf) -> Self {
        self.site = self.site.set(&format!("journal.dir={}", directory.display()));
        self.journal_dir = directory;
        self
    }

    /// Starts Andon and waits until it is connected and attached to the database. The first time, takes its memory as idle.
    pub fn open(&mut self) {
        self.open_with("");
    }

    /// The same, with failpoints armed.
    pub fn open_with(&mut self, failpoints: &str) {
        self.start_with(failpoints);
        self.andon().wait_for_log("attached to the database");
        self.andon().wait_until_connected();
        if self.idle_kib == 0 {
            self.note_idle();
            wait_until("the retained messages", || self.messages_committed() >= kinds::RETAINED);
        }
    }

    /// Takes the present memory as idle, unless that is known.
    pub fn note_idle(&mut self) {
        if self.idle_kib == 0 {
            let pid = self.andon().pid();
            self.idle_kib = status_kib(pid, "VmRSS").expect("andon runs");
        }
    }

    /// Starts Andon without waiting.
    pub fn start(&mut self) {
        self.start_with("");
    }

    /// The same, with failpoints armed.
    pub fn start_with(&mut self, failpoints: &str) {
        self.note_end();
        let both = [failpoints, self.mutation.as_str()];
        let both: Vec<&str> = both.into_iter().filter(|points| !points.is_empty()).collect();
        let andon = self.site.run_with(&both.join(";"));
        self.watch = Some(PeakWatch::start(andon.pid()));
        self.andon = Some(andon);
    }

    pub fn andon(&mut self) -> &mut Andon {
        self.andon.as_mut().expect("andon was started")
    }

    pub fn server(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("this plant has a PostgreSQL")
    }

    /// Sends SIGKILL, and checks that `andon journal verify` finds the journal whole: a torn tail is no damage.
    pub fn kill(&mut self) {
        self.andon.take().expect("andon was started").kill();
        self.note_end();
        let verify = self.site.command(&["journal", "verify"]).output().expect("andon runs");
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }

    /// Sends SIGTERM and expects exit code 0.
    pub fn stop(&mut self) {
        // In its first milliseconds the process has no signal handler.
        self.andon().wait_until_connected();
        self.andon().signal("TERM");
        self.expect_exit(0);
    }

    /// Waits for the process to end by itself with `code`.
    pub fn expect_exit(&mut self, code: i32) {
        let mut andon = self.andon.take().expect("andon was started");
        let status = andon.wait();
        assert_eq!(status.code(), Some(code), "{}", andon.log());
        self.note_end();
    }

    fn note_end(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.peak_kib = self.peak_kib.max(watch.kib());
        }
    }

    /// Publishes `count` further numbered messages and waits for the broker's acknowledgements.
    pub fn publish(&mut self, count: u64) {
        let numbers = self.reserve(count);
        load::publish(self.broker.port(), numbers);
    }

    /// Publishes at least `count` further numbered messages in the background, up to the end of a block: what is published beside
    /// them must not overtake the reading of a machine whose last will it holds.
    pub fn load(&mut self, count: u64) -> Load {
        let end = (self.sent.numbered + count).next_multiple_of(kinds::BLOCK);
        let numbers = self.reserve(end - self.sent.numbered);
        Load::start(self.broker.port(), numbers, Duration::from_millis(30))
    }

    /// Reserves `count` further numbers and counts them as sent; the caller publishes them.
    pub fn reserve(&mut self, count: u64) -> std::ops::Range<u64> {
        let from = self.sent.numbered;
        self.sent.numbered += count;
        from..self.sent.numbered
    }

    /// Counts the numbered messages that are stored or rejected.
    pub fn stored(&self) -> u64 {
        oracle::numbers_shown(&self.url)
    }

    /// Waits until the first `count` numbered messages are stored or rejected.
    pub fn wait_until_stored(&self, count: u64) {
        let visible = kinds::sums(count).visible;
        wait_until(&format!("{count} messages stored"), || self.stored() >= visible);
    }

    /// Counts committed messages by the ledger; 0 while the database is away.
    fn messages_committed(&self) -> u64 {
        let sql = "SELECT CAST(coalesce(sum(committed_seq), 0) AS bigint) AS value FROM ingest_checkpoint";
        let number = Database::open(&self.url).and_then(|mut database| database.try_number(sql));
        number.map_or(0, |number| u64::try_from(number).unwrap())
    }

    /// Marks the end of the fault: the recovery is timed from here.
    pub fn fault_is_over(&mut self) {
        self.over_since = Some(Instant::now());
    }

    /// Waits until everything is stored, stops Andon in order, and judges. Also judges when nothing is committed for
    /// `no_progress_max`: the verdict then says what is missing.
    pub fn finish(mut self) -> Report {
        let all = self.sent;
        let last = Instant::now() + self.no_progress_max * 10;
        let (mut committed, mut deadline) = (0, Instant::now());
        while !self.is_settled(all) && Instant::now() < last {
            let present = self.messages_committed();
            if present != committed {
                (committed, deadline) = (present, Instant::now() + self.no_progress_max);
            } else if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.recovery = self.over_since.map(|since| since.elapsed());
        self.stop();
        let verdict = oracle::judge(&self.url, &self.journal_dir, self.sent, &self.broker.history());
        self.report(verdict)
    }

    fn is_settled(&self, all: Sent) -> bool {
        // The ledger first: counting a million rows fifty times a second would be a fault of its own.
        let Some(mut database) = Database::open(&self.url) else { return false };
        let mut number =
            |sql: &str| database.try_number(sql).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let mut sum = |column: &str| {
            number(&format!(
                "SELECT CAST(coalesce(sum({column}), 0) AS bigint) AS value FROM ingest_checkpoint"
            ))
        };
        if sum("committed_seq") < all.total() || all.may_have_gaps {
            return all.may_have_gaps && sum("committed_seq") >= all.total();
        }
        let expected = kinds::sums(all.numbered);
        let counted = sum("stored") >= expected.rows + all.others
            && sum("rejected") >= expected.rejected + all.others_rejected
            && sum("duplicate") >= expected.duplicate
            && sum("control") >= expected.control;
        let mut machines = |reason: &str| {
            number(&format!(
                "SELECT count(DISTINCT machine_id) AS value FROM machine_event WHERE reason = '{reason}'"
            ))
        };
        counted
            && machines("first_seen") >= all.machines()
            && machines("last_will") >= expected.wills
            // The sums alone are not enough: some messages may be counted twice while others are missing.
            && self.stored() >= expected.visible
    }

    pub fn report(self, verdict: Verdict) -> Report {
        Report {
            messages: self.sent.numbered + self.sent.others + self.sent.others_rejected,
            verdict,
            idle_kib: self.idle_kib,
            peak_kib: self.peak_kib,
            recovery: self.recovery,
        }
    }
}
