//! A plant to break: broker, database, Andon and numbered messages, and the verdict at the end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::kinds;
use super::load::{self, Load};
use super::memory::{PeakWatch, status_kib};
use super::oracle::{self, Sent, Verdict};
use super::{Lab, Report};
use crate::support::andon::{Andon, Site};
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::postgres::Postgres;
use crate::support::publisher::Single;

/// Liveness must not see silence in these tests: then every event but `first_seen` is a false one.
const OFFLINE_AFTER: &str = "liveness.offline_after=1h";

/// Everything that a fault can strike.
pub struct Plant {
    /// First, so that it ends first, and its log is still there to be shown.
    pub andon: Option<Andon>,
    pub broker: Mosquitto,
    pub postgres: Option<Postgres>,
    pub site: Site,
    /// Where the oracle looks.
    pub url: String,
    pub journal_dir: PathBuf,
    pub sent: Sent,
    watch: Option<PeakWatch>,
    idle_kib: u64,
    peak_kib: u64,
    /// Failpoints of every start, which make the build a broken one.
    sabotage: String,
    patience: Duration,
    over_since: Option<Instant>,
    recovery: Option<Duration>,
}

impl Plant {
    /// With an SQLite file.
    pub fn sqlite(lab: &Lab) -> Self {
        let broker = Mosquitto::start("");
        let site = Site::new(broker.port());
        let url = site.sqlite_url();
        Self::new(lab, broker, None, site, url)
    }

    /// With a PostgreSQL server of its own.
    pub fn postgres(lab: &Lab) -> Self {
        let broker = Mosquitto::start("");
        let postgres = Postgres::start();
        let url = postgres.create_database("andon");
        let site = Site::new(broker.port()).set(&format!("store.url={url}"));
        Self::new(lab, broker, Some(postgres), site, url)
    }

    pub fn new(lab: &Lab, broker: Mosquitto, postgres: Option<Postgres>, site: Site, url: String) -> Self {
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
        for kinds::Sample { topic, payload, .. } in (0..kinds::KEPT).map(kinds::kept) {
            single.publish_retained(&topic, &payload, 1);
        }
        let journal_dir = site.journal_dir();
        let sabotage = lab.sabotage.clone();
        let sent = Sent::default();
        let (patience, idle_kib, peak_kib) = (lab.patience, 0, 0);
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
            sabotage,
            patience,
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

    /// The journal lives in `directory` instead.
    pub fn with_journal_in(mut self, directory: PathBuf) -> Self {
        self.site = self.site.set(&format!("journal.dir={}", directory.display()));
        self.journal_dir = directory;
        self
    }

    /// Starts Andon and waits until it works: connected, and the database open. The first time its memory is taken for idle.
    pub fn open(&mut self) {
        self.open_with("");
    }

    /// The same with failpoints armed.
    pub fn open_with(&mut self, failpoints: &str) {
        self.start_with(failpoints);
        self.andon().wait_for_log("attached to the database");
        self.andon().wait_until_connected();
        if self.idle_kib == 0 {
            self.note_idle();
            wait_until("what the broker has kept", || self.messages_committed() >= kinds::KEPT);
        }
    }

    /// Takes the present memory for idle, unless one was taken before.
    pub fn note_idle(&mut self) {
        if self.idle_kib == 0 {
            let pid = self.andon().pid();
            self.idle_kib = status_kib(pid, "VmRSS").expect("andon runs");
        }
    }

    /// Starts Andon and waits for nothing.
    pub fn start(&mut self) {
        self.start_with("");
    }

    /// The same with failpoints armed.
    pub fn start_with(&mut self, failpoints: &str) {
        self.note_end();
        let both = [failpoints, self.sabotage.as_str()];
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

    /// SIGKILL. What that leaves of the journal, `andon journal verify` finds whole: a torn tail is no damage.
    pub fn kill(&mut self) {
        self.andon.take().expect("andon was started").kill();
        self.note_end();
        let verify = self.site.command(&["journal", "verify"]).output().expect("andon runs");
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }

    /// SIGTERM; wants exit code 0.
    pub fn stop(&mut self) {
        // A signal in the first milliseconds of a process finds no handler yet.
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
        let numbers = self.promise(count);
        load::publish(self.broker.port(), numbers);
    }

    /// Publishes `count` further numbered messages in the background.
    pub fn load(&mut self, count: u64) -> Load {
        let numbers = self.promise(count);
        Load::start(self.broker.port(), numbers, Duration::from_millis(30))
    }

    /// Counts `count` further numbered messages as sent; the caller sends them.
    pub fn promise(&mut self, count: u64) -> std::ops::Range<u64> {
        let from = self.sent.numbered;
        self.sent.numbered += count;
        from..self.sent.numbered
    }

    /// Numbered messages that are stored, or rejected; grows with each.
    pub fn stored(&self) -> u64 {
        oracle::numbers_shown(&self.url)
    }

    /// Waits until the first `count` numbered messages are stored or rejected.
    pub fn wait_until_stored(&self, count: u64) {
        let visible = kinds::sums(count).visible;
        wait_until(&format!("{count} messages stored"), || self.stored() >= visible);
    }

    /// By the ledger; 0 while the database is not there.
    fn messages_committed(&self) -> u64 {
        let sql = "SELECT CAST(coalesce(sum(committed_seq), 0) AS bigint) AS value FROM ingest_checkpoint";
        let number = Database::open(&self.url).and_then(|mut database| database.try_number(sql));
        number.map_or(0, |number| u64::try_from(number).unwrap())
    }

    /// The fault is over: from here the recovery is timed.
    pub fn fault_is_over(&mut self) {
        self.over_since = Some(Instant::now());
    }

    /// Waits until everything is stored (or patience with a plant in which nothing moves ends: then the verdict tells what is
    /// missing), stops Andon in order, and judges.
    pub fn finish(mut self) -> Report {
        let all = self.sent;
        let last = Instant::now() + self.patience * 10;
        let (mut committed, mut deadline) = (0, Instant::now());
        while !self.is_settled(all) && Instant::now() < last {
            let present = self.messages_committed();
            if present != committed {
                (committed, deadline) = (present, Instant::now() + self.patience);
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
        // The ledger first, not the rows: counting a million of them fifty times a second would be a fault of its own.
        let Some(mut database) = Database::open(&self.url) else { return false };
        let mut number =
            |sql: &str| database.try_number(sql).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let mut sum = |column: &str| {
            number(&format!(
                "SELECT CAST(coalesce(sum({column}), 0) AS bigint) AS value FROM ingest_checkpoint"
            ))
        };
        if sum("committed_seq") < all.total() || all.may_give_up {
            return all.may_give_up && sum("committed_seq") >= all.total();
        }
        let expected = kinds::sums(all.numbered);
        let counted = sum("stored") >= expected.rows + all.others
            && sum("rejected") >= expected.rejected + all.hopeless
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
            // Some may have come twice, and others not yet.
            && self.stored() >= expected.visible
    }

    pub fn report(self, verdict: Verdict) -> Report {
        Report {
            messages: self.sent.numbered + self.sent.others + self.sent.hopeless,
            verdict,
            idle_kib: self.idle_kib,
            peak_kib: self.peak_kib,
            recovery: self.recovery,
        }
    }
}
