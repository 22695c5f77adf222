//! Strikes one subscription: the broker refuses it while load comes through the others.

use std::time::Duration;

use super::kinds;
use super::plant::Plant;
use super::{FaultRun, Report, faults};
use crate::support::andon::Site;
use crate::support::device::Device;
use crate::support::dynamic_security;
use crate::support::http::Client;
use crate::support::poll::wait_until;
use crate::support::publisher::Single;

faults![a_filter_that_is_refused_costs_the_others_nothing_and_is_used_once_it_is_granted];

/// "seen" and "unseen" must publish every four seconds. "unseen" has not published since the start, so its filter is unknown, and may be
/// the refused one.
fn a_filter_that_is_refused_costs_the_others_nothing_and_is_used_once_it_is_granted(
    run: &mut FaultRun,
) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let always = ["factory/#", "nameless/#", "andon/#"];
    let broker = dynamic_security::start(directory.path(), &always);
    let site = Site::new(broker.port());
    let url = site.sqlite_url();
    let mut plant = Plant::new(run, broker, None, site, url);
    plant.open();
    let port = plant.broker.port();
    let said = br#"{"temperature":20,"timestamp":"2026-02-01T00:00:00Z"}"#;
    Single::connect(port).publish("factory/machine/unseen/telemetry", said, 1);
    plant.stop();

    let protocol = *run.rng.pick(&["5", "3.1.1"]);
    let mut plant = plant.set(&[
        &format!("{},old/machine/+/telemetry", kinds::SUBSCRIPTIONS),
        &format!("mqtt.protocol={protocol}"),
        "mqtt.backoff_max=500ms",
        "liveness.machines.seen.offline_after=4s",
        "liveness.machines.unseen.offline_after=4s",
    ]);
    let seen = Device::start(port, "seen");
    plant.start();
    plant.andon().wait_for_log("a subscription was refused");
    let http = Client::new(&plant.andon().wait_for_http());
    let shown = |machine: &str| http.json(&format!("/api/v1/machines/{machine}"))["status"].clone();
    let load = plant.load(600 * run.scale);
    // Longer than the `offline_after` of both.
    std::thread::sleep(Duration::from_secs(6));
    load.join();
    assert_eq!((shown("seen"), shown("unseen")), ("online".into(), "unknown".into()));
    dynamic_security::allow_all(&plant.broker, true);
    plant.fault_is_over();
    plant.andon().wait_for_log("every subscription is granted now");
    let unseen = Device::start_on(port, "old", "unseen");
    plant.publish(200 * run.scale);
    wait_until("unseen to be online", || shown("unseen") == "online");
    plant.stop();
    plant.sent.others += 1 + seen.stop() + unseen.stop();
    plant.sent.other_machines += 2;
    // They are silent from here.
    let mut plant =
        plant.set(&["liveness.machines.seen.offline_after=1h", "liveness.machines.unseen.offline_after=1h"]);
    plant.open();
    plant.finish()
}
