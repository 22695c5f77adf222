//! The keys of log lines, the same everywhere.

/// The part of Andon that logs.
pub const COMPONENT: &str = "component";
/// An error with its chain of causes, on one line.
pub const ERROR: &str = "error";
/// Why something happened.
pub const REASON: &str = "reason";
/// The site.
pub const SITE: &str = "site";
/// A path of the file system.
pub const PATH: &str = "path";
/// A seq in the journal.
pub const SEQ: &str = "seq";
/// First seq of a range in the journal.
pub const FROM_SEQ: &str = "from_seq";
/// Last seq of a range in the journal.
pub const TO_SEQ: &str = "to_seq";
/// The journal's id.
pub const JOURNAL_ID: &str = "journal_id";
/// An MQTT topic.
pub const TOPIC: &str = "topic";
/// An MQTT topic filter.
pub const FILTER: &str = "filter";
/// MQTT quality of service.
pub const QOS: &str = "qos";
/// The broker's address.
pub const BROKER: &str = "broker";
/// The MQTT client id.
pub const CLIENT_ID: &str = "client_id";
/// A machine.
pub const MACHINE_ID: &str = "machine_id";
/// State of a machine or of a part of Andon.
pub const STATUS: &str = "status";
/// A supervised child.
pub const CHILD: &str = "child";
/// Number of restarts of a child.
pub const RESTARTS: &str = "restarts";
/// Generation of a child: grows with each restart.
pub const GENERATION: &str = "generation";
/// Number of this attempt.
pub const ATTEMPT: &str = "attempt";
/// The wait before the next attempt, in milliseconds.
pub const RETRY_IN_MS: &str = "retry_in_ms";
/// How long something took, in milliseconds.
pub const ELAPSED_MS: &str = "elapsed_ms";
/// A number of messages.
pub const MESSAGES: &str = "messages";
/// Readings stored.
pub const STORED: &str = "stored";
/// Readings that were already stored.
pub const DUPLICATE: &str = "duplicate";
/// Messages or elements rejected.
pub const REJECTED: &str = "rejected";
/// Messages in the journal but not yet in the database.
pub const PENDING: &str = "pending";
/// Elements that are neither readings nor rejections.
pub const CONTROL: &str = "control";
/// Messages ever journaled: the newest seq.
pub const JOURNALED: &str = "journaled";
/// The newest seq that the database has.
pub const COMMITTED: &str = "committed";
/// How long the oldest pending message has been waiting, in seconds.
pub const OLDEST_PENDING_S: &str = "oldest_pending_s";
/// How long the oldest message has waited for its sync to disk, in milliseconds.
pub const UNSYNCED_MS: &str = "unsynced_ms";
/// When the journal will be full at the current rate, in words.
pub const JOURNAL_FULL_IN: &str = "journal_full_in";
/// A number of bytes.
pub const BYTES: &str = "bytes";
/// A bound that was reached.
pub const LIMIT: &str = "limit";
/// A thread's name.
pub const THREAD: &str = "thread";
/// File, line and column in the source.
pub const LOCATION: &str = "location";
/// A process exit code.
pub const EXIT_CODE: &str = "exit_code";
