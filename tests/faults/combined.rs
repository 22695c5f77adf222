//! Strikes with two random faults at a time, under one load.

use std::time::Duration;

use super::plant::Plant;
use super::proxy::{Cut, Proxy};
use super::{FaultRun, Report, faults};
use crate::support::andon::Site;
use crate::support::database::Database;
use crate::support::mosquitto::Mosquitto;
use crate::support::postgres::Postgres;

faults![two_random_faults_at_a_time];

/// One of the two faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    KillAndon,
    StopAndon,
    FreezeAndon,
    StopPostgres,
    KillPostgres,
    FreezePostgres,
    LockTable,
    CutCommit,
    CutAnswerOfCommit,
    CutDatabaseCable,
    RestartBroker,
    FreezeBroker,
    FailSync,
    PanicWriter,
}

const ALL: [Strike; 14] = [
    Strike::KillAndon,
    Strike::StopAndon,
    Strike::FreezeAndon,
    Strike::StopPostgres,
    Strike::KillPostgres,
    Strike::FreezePostgres,
    Strike::LockTable,
    Strike::CutCommit,
    Strike::CutAnswerOfCommit,
    Strike::CutDatabaseCable,
    Strike::RestartBroker,
    Strike::FreezeBroker,
    Strike::FailSync,
    Strike::PanicWriter,
];

impl Strike {
    fn strikes_andon(self) -> bool {
        use Strike::{FailSync, FreezeAndon, KillAndon, PanicWriter, StopAndon};
        matches!(self, KillAndon | StopAndon | FreezeAndon | FailSync | PanicWriter)
    }

    fn strikes_postgres(self) -> bool {
        use Strike::{FreezePostgres, KillPostgres, LockTable, StopPostgres};
        matches!(self, StopPostgres | KillPostgres | FreezePostgres | LockTable)
    }

    fn strikes_broker(self) -> bool {
        matches!(self, Self::RestartBroker | Self::FreezeBroker)
    }

    /// Two of one kind would undo each other, or wait for each other.
    fn goes_with(self, other: Self) -> bool {
        self != other
            && !(self.strikes_andon() && other.strikes_andon())
            && !(self.strikes_postgres() && other.strikes_postgres())
            && !(self.strikes_broker() && other.strikes_broker())
    }
}

struct Scene {
    plant: Plant,
    cable: Proxy,
    lock: Option<Database>,
}

impl Scene {
    fn new(run: &FaultRun) -> Self {
        let broker = Mosquitto::start("");
        let postgres = Postgres::start();
        let url = postgres.create_database("andon");
        let cable = Proxy::start(postgres.port());
        let over_cable = format!("store.url=postgres://postgres@127.0.0.1:{}/andon", cable.port());
        let site = Site::new(broker.port()).set(&over_cable);
        let plant = Plant::new(run, broker, Some(postgres), site, url).set(&[
            "mqtt.keep_alive=2s",
            "mqtt.connect_timeout=2s",
            "store.connect_timeout=2s",
            "store.statement_timeout=500ms",
            "store.lock_timeout=500ms",
            "journal.segment_bytes=64KiB",
            "supervisor.restarts_max=50",
        ]);
        Self { plant, cable, lock: None }
    }

    fn begin(&mut self, strike: Strike) {
        let plant = &mut self.plant;
        match strike {
            Strike::KillAndon => plant.kill(),
            Strike::StopAndon => plant.stop(),
            Strike::FreezeAndon => plant.andon().signal("STOP"),
            Strike::StopPostgres => plant.server().stop(),
            Strike::KillPostgres => plant.server().kill(),
            Strike::FreezePostgres => plant.server().freeze(),
            Strike::LockTable => {
                // The database may be away by the other strike.
                self.lock = Database::open(&plant.url);
                if let Some(other) = &mut self.lock {
                    other.execute("BEGIN");
                    other.execute("LOCK TABLE machine_telemetry IN EXCLUSIVE MODE");
                }
            }
            Strike::CutCommit => self.cable.cut_next(Cut::BeforeCommit),
            Strike::CutAnswerOfCommit => self.cable.cut_next(Cut::AnswerOfCommit),
            Strike::CutDatabaseCable => self.cable.cut_all(),
            Strike::RestartBroker => plant.broker.restart(),
            Strike::FreezeBroker => plant.broker.freeze(),
            Strike::FailSync => {
                plant.kill();
                plant.start_with("journal::sync=3*off->1*return->off");
            }
            Strike::PanicWriter => {
                plant.kill();
                plant.start_with(
                    "writer::handle=2*off->2*panic->off;writer::after_commit=1*off->1*panic->off",
                );
            }
        }
    }

    fn end(&mut self, strike: Strike) {
        let plant = &mut self.plant;
        match strike {
            Strike::KillAndon | Strike::StopAndon => plant.start(),
            Strike::FreezeAndon => plant.andon().signal("CONT"),
            Strike::StopPostgres | Strike::KillPostgres => plant.server().restart(),
            Strike::FreezePostgres => plant.server().thaw(),
            Strike::LockTable => self.lock = None,
            Strike::FreezeBroker => plant.broker.thaw(),
            Strike::FailSync => {
                // It may not have reached the failpoint: kill it then.
                if plant.andon().is_running() {
                    plant.kill();
                } else {
                    plant.expect_exit(1);
                }
                plant.start();
            }
            Strike::CutCommit
            | Strike::CutAnswerOfCommit
            | Strike::CutDatabaseCable
            | Strike::RestartBroker
            | Strike::PanicWriter => {}
        }
    }
}

fn two_random_faults_at_a_time(run: &mut FaultRun) -> Report {
    let mut scene = Scene::new(run);
    scene.plant.open();
    let rounds = 6 * run.scale;
    for round in 0..rounds {
        let first = *run.rng.pick(&ALL);
        let compatible: Vec<Strike> = ALL.into_iter().filter(|other| first.goes_with(*other)).collect();
        let second = *run.rng.pick(&compatible);
        eprintln!("round {round}: {first:?} and {second:?}");
        let load = scene.plant.load(300);
        run.rng.pause(Duration::from_millis(200));
        scene.begin(first);
        run.rng.pause(Duration::from_millis(100));
        scene.begin(second);
        run.rng.pause(Duration::from_millis(700));
        let (sooner, later) = if run.rng.below(2) == 0 { (first, second) } else { (second, first) };
        scene.end(sooner);
        run.rng.pause(Duration::from_millis(100));
        scene.end(later);
        load.join();
        // In its first milliseconds the process has no signal handler, and a strike should hit it at work.
        scene.plant.andon().wait_until_connected();
        scene.plant.wait_until_stored(scene.plant.sent.numbered.saturating_sub(400));
    }
    scene.plant.fault_is_over();
    let Scene { plant, cable, .. } = scene;
    let report = plant.finish();
    drop(cable);
    report
}
