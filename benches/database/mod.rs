//! The database of a benchmark.

use std::time::Duration;

use andon::store::{self, DatabaseUrl, Store, StoreOptions};

/// The benchmark's site.
pub const SITE: &str = "bench";

/// Opens the database at `url`, with its tables. Returns its options as well.
pub fn open(url: &str) -> (StoreOptions, Box<dyn Store>) {
    let options = StoreOptions {
        url: DatabaseUrl::parse(url).expect("a valid URL"),
        schema: None,
        site: SITE.to_owned(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(120),
        lock_timeout: Duration::from_secs(10),
        timescale: false,
        unreadable: store::UnreadableRows::default(),
        progress: store::Progress::default(),
    };
    let mut store = store::open(&options).unwrap();
    store.migrate().unwrap();
    (options, store)
}
