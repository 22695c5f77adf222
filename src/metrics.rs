//! What the pipeline counts and measures: one table, and plain atomics behind it that the actors write and every
//! thread may read.

mod kinds;

pub use self::kinds::{
    ByLabel, Counter, Counters, Flag, Gauge, Gauges, Histogram, Kind, Metric, Number, OptionalGauge, Sample,
};
use crate::domain::{DisplayStatus, RefusedKind, RejectReason, ReloadOutcome};

/// Upper bounds of durations, in seconds: from a commit on a fast disk to a database that was away for hours.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3_600.0,
    14_400.0,
];
/// Upper bounds of a batch's rows; the largest is the largest `store.batch_max`.
const ROWS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 8_192.0, 16_384.0, 65_536.0];

/// A metric as `/metrics` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// Its lines.
    pub samples: Vec<Sample>,
}

/// Makes [`Metrics`] from its table. A row: the field, its kind with the arguments of its `new`, if it has one, and
/// its name and help text in `/metrics`.
macro_rules! metrics {
    ($(
        $field:ident: $kind:ident $(<$key:ty>)? $(($($argument:expr),+))?, $name:literal, $help:literal;
    )*) => {
        /// Everything that is counted. Begins with the process and survives restarts of actors.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind $(<$key>)?,)*
            /// True if the broker link is up.
            pub broker_connected: Flag,
            /// True if Andon has left the broker because the journal is full.
            pub holding: Flag,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $($field: metrics!(@new $kind $(($($argument),+))?),)*
                    broker_connected: Flag::default(),
                    holding: Flag::default(),
                }
            }
        }

        impl Metrics {
            /// Returns the metrics of the table that have something to show.
            pub fn families(&self) -> impl Iterator<Item = Family> {
                let all = [$(Family {
                    name: $name,
                    help: $help,
                    kind: <$kind $(<$key>)? as Metric>::KIND,
                    samples: self.$field.samples(),
                }),*];
                all.into_iter().filter(|family| !family.samples.is_empty())
            }
        }
    };
    (@new $kind:ident) => { $kind::default() };
    (@new $kind:ident ($($argument:expr),+)) => { $kind::new($($argument),+) };
}

metrics! {
    messages_received: Counter, "andon_messages_received_total", "Messages journaled.";
    bytes_received: Counter, "andon_received_bytes_total", "Payload bytes of the messages journaled.";
    readings_stored: Counter, "andon_readings_stored_total", "Readings stored as new rows.";
    readings_duplicate: Counter, "andon_readings_duplicate_total", "Readings that were stored already.";
    transitions_recorded: Counter,
        "andon_transitions_recorded_total", "Changes of machines' status recorded.";
    rejected: Counters<RejectReason>("reason", &RejectReason::ALL, RejectReason::as_str),
        "andon_rejected_total", "Elements kept in rejected_message, by reason.";
    refused_rows: Counters<RefusedKind>("kind", &RefusedKind::ALL, RefusedKind::as_str),
        "andon_refused_rows_total",
        "Rows other than readings that the database refused and that are stored nowhere, by kind.";

    commit_seconds: Histogram(&SECONDS),
        "andon_commit_duration_seconds", "How long a batch took to be committed.";
    batch_rows: Histogram(&ROWS),
        "andon_commit_batch_rows", "Rows (readings and rejections) of a committed batch.";
    latency_seconds: Histogram(&SECONDS),
        "andon_end_to_end_latency_seconds", "From the receipt of a message to the commit of its row.";
    batches_committed: Counter, "andon_commits_total", "Batches committed.";
    // Each failed attempt is repeated.
    store_failures: Counter, "andon_store_failures_total", "Failed attempts to use the database.";
    store_available: Flag, "andon_store_up", "1 if the newest attempt to use the database succeeded.";
    site_shared: Flag,
        "andon_site_shared", "1 if another service of this site used the same database within the last hour.";
    rows_unreadable: Counter,
        "andon_unreadable_rows_total",
        "Database rows skipped because they are not as Andon writes them; the log names them.";
    writer_queue: Gauge, "andon_writer_queue_jobs", "Jobs that wait for the database.";

    broker_failures: Counter, "andon_broker_failures_total", "Connections lost or refused.";
    broker_buffered: Flag,
        "andon_broker_buffered",
        "1 if the newest message came over a buffered connection; 0: each is read and acknowledged alone.";
    // In Unix seconds; 0 if there is no certificate.
    certificate_expires_at: OptionalGauge,
        "andon_certificate_expiry_timestamp_seconds",
        "When the first certificate of the broker connection expires, in Unix time.";

    http_auth_failures: Counter, "andon_http_auth_failures_total", "Tokens refused: wrong, or too soon after wrong ones.";
    reloads: Counters<ReloadOutcome>("outcome", &ReloadOutcome::ALL, ReloadOutcome::as_str),
        "andon_reloads_total", "Reloads of the configuration (SIGHUP), by outcome.";
    // In Unix seconds.
    reloaded_at: OptionalGauge,
        "andon_last_reload_timestamp_seconds", "When the newest reload succeeded, in Unix time.";

    machines: Gauges<DisplayStatus>("status", &DisplayStatus::ALL, DisplayStatus::as_str),
        "andon_machines", "Machines by status.";
    sightings_untracked: Gauge,
        "andon_sightings_untracked",
        "Messages of machines beyond liveness.machines_max, which are not watched.";
    machines_flapping: Gauge, "andon_machines_flapping", "Machines that change their status too often.";
    transitions_unrecorded: Counter,
        "andon_transitions_unrecorded_total",
        "Changes of status not recorded, because too many waited for the database.";
    transitions_unpublished: Counter,
        "andon_transitions_unpublished_total",
        "Changes of status not published, because too many waited for the broker.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_a_value_yet_is_left_out() {
        let metrics = Metrics::default();
        let expiry = |metrics: &Metrics| {
            let name = "andon_certificate_expiry_timestamp_seconds";
            metrics.families().find(|family| family.name == name).map(|family| family.samples.len())
        };
        assert_eq!(expiry(&metrics), None);
        metrics.certificate_expires_at.set(1_767_225_600);
        assert_eq!(expiry(&metrics), Some(1));
    }

    #[test]
    fn each_value_of_a_label_is_counted_by_itself() {
        let metrics = Metrics::default();
        metrics.rejected.of(RejectReason::TooLarge).add(2);
        metrics.rejected.of(RejectReason::StoreRejected).add(3);
        let family = metrics.families().find(|family| family.name == "andon_rejected_total").unwrap();
        let line = |reason: RejectReason, count: u64| Sample {
            suffix: "",
            label: Some(("reason", reason.as_str().to_owned())),
            number: count.into(),
        };
        assert_eq!((family.kind, family.samples.len()), (Kind::Counter, RejectReason::ALL.len()));
        assert!(family.samples.contains(&line(RejectReason::TooLarge, 2)));
        assert!(family.samples.contains(&line(RejectReason::StoreRejected, 3)));
        assert!(family.samples.contains(&line(RejectReason::InvalidJson, 0)));
    }
}
