//! Checks that every wire is connected, and the deadline of the stop with it.

use slog::o;

use super::*;
use crate::actors::liveness::LivenessWires;
use crate::actors::mqtt::MqttWires;
use crate::actors::parser::ParserWires;
use crate::actors::supervisor::{ChildContext, ChildExited};
use crate::config::{Places, Sources, load};

/// Stands for the supervisor.
struct NoSupervisor;

impl Actor for NoSupervisor {
    type Context = Context<Self>;
}

impl Handler<ChildExited> for NoSupervisor {
    type Result = ();

    fn handle(&mut self, _: ChildExited, _: &mut Context<Self>) {}
}

/// The settings of a service that finds no broker.
fn settings(directory: &std::path::Path) -> Settings {
    let places = Places { working_dir: directory.to_owned(), ..Places::default() };
    let set = [
        "mqtt.host=127.0.0.1".to_owned(),
        "mqtt.port=1".to_owned(),
        format!("journal.dir={}", directory.join("journal").display()),
        format!("store.url=sqlite://{}/andon.db", directory.display()),
    ];
    let config_dir = Some(directory.to_owned());
    let sources = Sources { config_dir, places, set: set.into(), ..Sources::default() };
    load(&sources).unwrap_or_else(|error| panic!("{error}")).settings
}

fn plan(directory: &std::path::Path) -> (Plan, StopDeadline) {
    let (settings, logger) = (settings(directory), Logger::root(slog::Discard, o!()));
    let (wires, deadline) = (Wires::default(), StopDeadline::new(&logger));
    let listener = Arc::new(JournalEvents::new(wires.clone(), &logger));
    let (journal, _) = Journal::open(journal_options(&settings), Arc::new(RealFs), listener).unwrap();
    let clock = clock_watch::start(&settings, &logger);
    let plan = Plan::new(&settings, journal, clock, wires, deadline.clone(), &logger).unwrap();
    (plan, deadline)
}

/// Returns the wires that lead nowhere. Destructured by name, so that a new wire does not compile until it is
/// checked here.
fn unconnected(plan: &Plan) -> Vec<&'static str> {
    let LivenessWires { parser, publish, prove, link, fence: _, machines: _, forget: _ } =
        plan.liveness_wires();
    let MqttWires { liveness, parser: proof, fence: _ } = plan.mqtt_wires();
    let ParserWires { observe, recover, take_transitions, transitions_recorded, attach, commit } =
        plan.parser_wires();
    let Wires { journal_grew, space, mqtt: _, liveness: _, writer: _, transitions_pending: _ } = &plan.wires;
    let ends = [
        ("liveness tells the parser of transitions", parser.is_connected()),
        ("liveness publishes", publish.is_connected()),
        ("liveness has the link proven", prove.is_connected()),
        ("liveness asks for the state of the link", link.is_connected()),
        ("mqtt tells liveness of the link", liveness.is_connected()),
        ("mqtt tells the parser of a proof", proof.is_connected()),
        ("the callback tells the parser of a proof", plan.callback.parser.is_connected()),
        ("the parser tells liveness of sightings", observe.is_connected()),
        ("the parser has liveness begin", recover.is_connected()),
        ("the parser takes transitions", take_transitions.is_connected()),
        ("the parser hands back a receipt", transitions_recorded.is_connected()),
        ("the parser attaches", attach.is_connected()),
        ("the parser commits", commit.is_connected()),
        ("the journal tells the parser of records", journal_grew.is_connected()),
        ("the journal tells mqtt of room", space.is_connected()),
    ];
    ends.into_iter().filter(|(_, is_connected)| !is_connected).map(|(what, _)| what).collect()
}

#[test]
fn every_wire_leads_to_an_actor_once_the_children_have_started() {
    let directory = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let (plan, _) = plan(directory.path());
        assert_eq!(unconnected(&plan).len(), 15, "nothing has started");
        let supervisor = NoSupervisor.start();
        let specs = [plan.writer_spec(), plan.liveness_spec(), plan.parser_spec(), plan.mqtt_spec()];
        let children: Vec<_> = specs
            .into_iter()
            .enumerate()
            .map(|(child, mut spec)| {
                (spec.start)(ChildContext::new(child, 1, supervisor.clone().recipient()))
            })
            .collect();
        assert_eq!(unconnected(&plan), [""; 0]);
        drop(children);
    });
}

#[test]
fn the_deadline_of_the_stop_asks_the_journal_whether_all_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let (plan, deadline) = plan(directory.path());
        assert_eq!(deadline.exit_code_at_the_end(4), 4, "nothing was received: everything is on the disk");
        drop(plan);
    });
    let unasked = StopDeadline::new(&Logger::root(slog::Discard, o!()));
    assert_eq!(unasked.exit_code_at_the_end(0), 1, "without an answer the disk is not trusted");
}
