//! The server in this process, over real connections: without broker and pipeline, but with a real database and status
//! snapshots that the tests write.

#![allow(clippy::unwrap_used)]

mod access;
mod answers;
mod connections;
mod description;
pub mod logged;
mod pages;
mod requests;

/// The client that the integration tests use, too: one request at a time over plain TCP.
#[path = "../../../tests/support/http.rs"]
#[allow(dead_code)]
mod client;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use chrono_tz::Tz;
use slog::{Logger, o};
use tempfile::TempDir;
use uuid::Uuid;

use self::client::Client;
use super::listening_socket::ListeningSocket;
use super::server::{HttpOptions, serve_here};
use super::{
    Access, Budget, ConnectionLimits, Connections, ForgetDesk, HistoryPool, HttpSettings, HttpState,
    IN_FLIGHT_BYTES_MAX, LatestCache, Proxies, Requests, Sessions, SiteKey, Stall, StatusCells,
    StoredMachines, Streams, TokenGuard,
};
use crate::audit::AuditTrail;
use crate::clock::{ClockKeeper, mono_now};
use crate::domain::{DisplayStatus, JournalHistory, JournalId, ListenAddress, MachineId, OpenId, Role, Seq};
use crate::journal::{
    Journal, JournalError, JournalListener, JournalOptions, RealFs, Space, SyncMode, WhenFull,
};
use crate::metrics::Metrics;
use crate::status::{MachineView, MachinesSnapshot, StatusCell};
use crate::store::{self, Batch, DatabaseUrl, Progress, StoreOptions, UnreadableRows};

/// The server's site.
const SITE: &str = "hall-3";
/// The server's token, if it has one.
const TOKEN: &str = "s3cret";

struct IgnoreJournal;

impl JournalListener for IgnoreJournal {
    fn readable(&self, _: Seq) {}
    fn space(&self, _: Space) {}
    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

/// A server that runs until it is dropped.
struct Server {
    client: Client,
    options: StoreOptions,
    state: Arc<HttpState>,
    handle: ServerHandle,
    _directory: TempDir,
}

impl Server {
    /// Starts a server that requires [`TOKEN`].
    fn with_token() -> Self {
        let roles = &[Role::View, Role::Metrics, Role::Operate];
        let token = super::Token { name: "test", roles, secret: TOKEN };
        Self::start(access(&[token]))
    }

    /// Starts a server without token, which requires a local `Host`.
    fn local() -> Self {
        Self::start(access(&[]))
    }

    /// Starts a server without token, with other limits.
    fn with_limits(limits: ConnectionLimits) -> Self {
        Self::start_with(access(&[]), limits)
    }

    fn start(access: Access) -> Self {
        Self::start_with(access, ConnectionLimits { all: 64, each_address: 64 })
    }

    fn start_with(access: Access, limits: ConnectionLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = store_options(&directory);
        store::open(&options).unwrap().migrate().unwrap();
        let state = Arc::new(state(access, limits, &options, &directory));
        let of_server = Arc::clone(&state);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = listener.local_addr().unwrap();
        let (started, handle) = sync_channel(1);
        let second = Duration::from_secs(1);
        let options_of_server = HttpOptions {
            bind: ListenAddress::Tcp(bind),
            health_bind: None,
            connections_max: limits.all,
            backoff_min: second,
            backoff_max: second,
        };
        std::thread::spawn(move || {
            serve_here(ListeningSocket::Tcp(listener), of_server, &options_of_server, |handle| {
                started.send(handle).unwrap()
            })
            .unwrap();
        });
        let handle = handle.recv().unwrap();
        Self { client: Client::new(&format!("http://{bind}")), options, state, handle, _directory: directory }
    }

    /// Returns a client with the token.
    fn authorized(&self) -> Client {
        self.client.with(&format!("Authorization: Bearer {TOKEN}"))
    }

    /// Writes the snapshot of the machines anew, as liveness does: requests wait for one that is older than two seconds.
    fn renew_snapshot(&self) {
        let cell = &self.state.cells.machines;
        cell.write(MachinesSnapshot { at: mono_now(), ..(*cell.snapshot()).clone() });
    }

    /// Commits rows to the database.
    fn commit(&self, change: impl FnOnce(&mut Batch)) {
        let mut store = store::open(&self.options).unwrap();
        let journal = JournalId(Uuid::new_v4());
        store.claim(&JournalHistory::of_new_journal(journal)).unwrap();
        let mut batch = Batch::new(journal, OpenId(journal.0), Seq::ZERO);
        change(&mut batch);
        store.commit(&batch).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

/// Returns the options of an SQLite database in `directory`.
pub fn store_options(directory: &TempDir) -> StoreOptions {
    StoreOptions {
        url: DatabaseUrl::Sqlite(directory.path().join("andon.db")),
        schema: None,
        site: SITE.to_owned(),
        connect_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(5),
        lock_timeout: Duration::from_secs(5),
        timescale: false,
        unreadable: UnreadableRows::default(),
        progress: Progress::default(),
    }
}

/// Builds the rule by which a server answers requests.
fn access(tokens: &[super::Token<'_>]) -> Access {
    Access::new(SITE, &SiteKey::random().unwrap(), tokens, false, false).unwrap()
}

fn state(access: Access, limits: ConnectionLimits, store: &StoreOptions, directory: &TempDir) -> HttpState {
    let journal_dir = directory.path().join("journal");
    let options = JournalOptions {
        dir: journal_dir.clone(),
        site: SITE.to_owned(),
        max_bytes: 64 << 20,
        segment_bytes: 1 << 20,
        sync: SyncMode::Os,
        when_full: WhenFull::Hold,
    };
    let (journal, _) = Journal::open(options, Arc::new(RealFs), Arc::new(IgnoreJournal)).unwrap();
    let (cells, metrics) = (StatusCells::default(), Arc::new(Metrics::default()));
    cells.machines.write(MachinesSnapshot {
        at: mono_now(),
        sighted: true,
        machines: vec![machine("press-1"), machine("press-2")],
    });
    let logger = Logger::root(slog::Discard, o!());
    let sessions = Sessions::open(&journal_dir, SITE, &logger).unwrap();
    let audit = AuditTrail::start(store, &logger).unwrap();
    HttpState {
        site: SITE.to_owned(),
        topics: vec!["factory/machine/+/telemetry".to_owned()],
        settings: StatusCell::new(HttpSettings {
            time_zone: Tz::UTC,
            offline_after: Duration::from_secs(15),
            metrics_per_machine: false,
            expected: HashSet::from([MachineId::parse("press-2").unwrap()]),
            access,
            proxies: Proxies::default(),
            session_max: Duration::from_secs(7 * 86_400),
        }),
        budget: Budget::new(IN_FLIGHT_BYTES_MAX),
        history: HistoryPool::start(store, &Logger::root(slog::Discard, o!())).unwrap(),
        latest: LatestCache::default(),
        stored_machines: StoredMachines::default(),
        cells,
        metrics: Arc::clone(&metrics),
        journal,
        clock: Arc::new(ClockKeeper::open(&journal_dir, SITE, None)),
        stall: Stall::default(),
        forget: ForgetDesk::start(store, &audit).unwrap(),
        guard: TokenGuard::new(&metrics, &logger),
        sessions,
        requests: Requests::default(),
        audit,
        tls: None,
        connections: Arc::new(Connections::new(limits)),
        streams: Streams::new(8, 8),
        socket_calls: || [("recv", 0), ("poll", 0), ("send", 0), ("quickack", 0)],
        data_places: Vec::new(),
        started: Instant::now(),
    }
}

fn machine(id: &str) -> MachineView {
    MachineView {
        machine_id: MachineId::parse(id).unwrap(),
        status: DisplayStatus::Online,
        status_since: None,
        reason: None,
        first_seen_at: None,
        last_seen_at: None,
        offline_after: Duration::from_secs(15),
        flapping: false,
        refused: false,
    }
}

/// Returns every path: the routes for programs, the pages, and the login, with a known machine.
fn every_path() -> Vec<String> {
    let routes = super::ROUTES.iter().map(|(path, _)| (*path).to_owned());
    let pages = super::board::pages().map(str::to_owned);
    let fill = |path: String| path.replace("{machine_id}", "press-1");
    let fill_asset = |path: String| match path.as_str() {
        "/assets/{version}/{name}" => super::board::asset_address("board.js"),
        _ => path,
    };
    routes.chain(pages).chain(["/login".to_owned()]).map(fill).map(fill_asset).collect()
}
