//! `andon export` beside the running service.

use std::process::{Command, Stdio};

use crate::support::andon::Site;
use crate::support::database::rows_stored;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;
use crate::support::publisher;

const TOPIC: &str = "factory/machine/{machine}/telemetry";
const HEADINGS: &str = "machine_id,recorded_at,temperature,humidity,vibration,extra,time_source,received_at";

fn run(site: &Site, arguments: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let output = site.command(arguments).output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

fn lines(site: &Site, arguments: &[&str]) -> Vec<String> {
    let (code, text, complaints) = run(site, arguments);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(text).unwrap().split_terminator("\r\n").map(str::to_owned).collect()
}

#[test]
fn readings_are_exported_as_csv_and_parquet_beside_the_running_service() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port());
    let mut andon = site.run();
    andon.wait_until_connected();
    publisher::publish_numbered(broker.port(), TOPIC, 3, 0..3_000, 1);
    wait_until("the rows", || rows_stored(&site.sqlite_url()) == 3_000);

    let all = lines(&site, &["export"]);
    assert_eq!((all[0].as_str(), all.len()), (HEADINGS, 3_001));
    assert!(
        all[1].starts_with("press-000,2026-01-01T00:00:00.000000Z,20,41.5,0.42,\"{\"\"n\"\":0}\",device,"),
        "{}",
        all[1]
    );
    let mut sorted = all[1..].to_vec();
    sorted.sort_unstable();
    assert!(sorted == all[1..], "by machine and time");

    // One reading a millisecond, of the three machines in turn.
    let second = ["--from", "2026-01-01T00:00:01Z", "--to", "2026-01-01 00:00:02"];
    let some = lines(&site, &[&["export", "--machine", "Press-001"][..], &second].concat());
    assert_eq!(some.len(), 1 + 334, "{:?}", some.last());
    assert!(some[1..].iter().all(|line| line.starts_with("press-001,2026-01-01T00:00:01.")));
    assert_eq!(lines(&site, &["export", "--machine", "nobody"]).len(), 1);

    let file = site.path().join("all.parquet");
    let name = file.to_str().unwrap();
    let (code, said, _) = run(&site, &["export", "--format", "parquet", "--output", name]);
    assert_eq!((code, String::from_utf8(said).unwrap()), (Some(0), format!("3000 readings in {name}\n")));
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let (code, _, complaints) = run(&site, &["export", "--output", name]);
    assert_eq!(code, Some(1));
    assert!(complaints.contains("there is a file of that name"), "{complaints}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);

    // A reader that has enough is no failure.
    let mut command = site.command(&["export"]);
    let mut exporting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let head = Command::new("head").arg("-n1").stdin(exporting.stdout.take().unwrap()).output().unwrap();
    assert!(head.stdout.starts_with(HEADINGS.as_bytes()));
    let ended = exporting.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    andon.stop();
}
