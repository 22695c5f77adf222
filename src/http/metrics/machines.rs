//! Metrics of each machine.

use super::Exposition;
use crate::domain::DisplayStatus;
use crate::http::body::PAGE_BYTES_MAX;
use crate::status::MachineView;

/// Upper bound on the bytes of all metrics that do not belong to one machine.
const OTHERS_BYTES: usize = 64 * 1024;
/// Upper bound on the bytes of one machine's metrics, not counting its id.
const MACHINE_BYTES: usize = 160;

/// Writes the metrics of as many machines as fit into a response.
pub(super) fn each_machine(out: &mut Exposition<'_>, all: &[MachineView]) {
    let mut bytes = 0;
    let fits = |view: &&MachineView| {
        bytes += MACHINE_BYTES + 4 * view.machine_id.as_str().len();
        bytes < PAGE_BYTES_MAX - OTHERS_BYTES
    };
    let written = &all[..all.iter().take_while(fits).count()];
    let online = written.iter().map(|view| (view.machine_id.as_str(), view.status == DisplayStatus::Online));
    out.gauges("andon_machine_online", "1 while a machine is online.", "machine_id", online);
    let seen = written
        .iter()
        .filter_map(|view| Some((view.machine_id.as_str(), view.last_seen_at?.as_micros() as f64 / 1e6)));
    out.gauges(
        "andon_machine_last_seen_timestamp_seconds",
        "Time of a machine's newest message, in Unix time.",
        "machine_id",
        seen,
    );
    out.gauge(
        "andon_machines_without_metrics",
        "Machines without metrics of their own, because there are too many.",
        (all.len() - written.len()) as u64,
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{MachineId, Timestamp};
    use crate::http::body::BodyWriter;
    use crate::http::{Budget, IN_FLIGHT_BYTES_MAX};

    /// Proves HTTP-2.
    #[test]
    fn machines_beyond_the_size_of_a_response_are_counted_without_metrics() {
        let view = |number: usize| MachineView {
            machine_id: MachineId::parse(&format!("robot-{number:05}")).unwrap(),
            status: DisplayStatus::Online,
            status_since: None,
            reason: None,
            first_seen_at: None,
            last_seen_at: Some(Timestamp::from_micros(7)),
            offline_after: Duration::from_secs(15),
            flapping: false,
            refused: false,
        };
        for (machines, written) in [(3, 3), (100_000, 20_239)] {
            let all: Vec<_> = (0..machines).map(view).collect();
            let mut body = BodyWriter::new(&Budget::new(IN_FLIGHT_BYTES_MAX));
            each_machine(&mut Exposition::new(&mut body), &all);
            assert!(body.bytes() < PAGE_BYTES_MAX, "{} bytes", body.bytes());
            let mut body = body.finish().unwrap();
            let mut text = String::new();
            while let Some(piece) = body.next_piece() {
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            assert_eq!(text.matches("andon_machine_online{").count(), written);
            assert_eq!(text.matches("andon_machine_last_seen_timestamp_seconds{").count(), written);
            assert!(text.ends_with(&format!("\nandon_machines_without_metrics {}\n", machines - written)));
        }
    }
}
