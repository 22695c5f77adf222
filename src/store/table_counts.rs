//! How many rows the tables have, for `andon db status`.

/// How many rows a table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCount {
    /// The table.
    pub table: &'static str,
    /// Rows in it, of all sites.
    pub rows: u64,
    /// `false` if `rows` is an estimate, as of a large table.
    pub exact: bool,
}

/// The tables that are counted.
pub(super) const COUNTED_TABLES: [CountedTable; 10] = [
    CountedTable { name: "machine_telemetry", has_id: true },
    CountedTable { name: "machine", has_id: false },
    CountedTable { name: "machine_event", has_id: true },
    CountedTable { name: "rejected_message", has_id: true },
    CountedTable { name: "ingest_checkpoint", has_id: false },
    CountedTable { name: "journal_gap", has_id: true },
    CountedTable { name: "link_outage", has_id: true },
    CountedTable { name: "audit_event", has_id: true },
    CountedTable { name: "machine_rollup", has_id: false },
    CountedTable { name: "machine_rollup_extra", has_id: false },
];

/// A table that is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedTable {
    pub name: &'static str,
    /// Its column `id` numbers the rows; SQLite estimates with it.
    pub has_id: bool,
}

/// Up to this many rows are counted one by one; a larger table is estimated.
pub(super) const COUNTED_ROWS_MAX: i64 = 100_000;
