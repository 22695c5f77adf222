//! Finds the machines that somebody asks to forget, between batches: the requests come from outside, through the
//! database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::Writer;
use super::worker::StoreWorker;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// When to look next.
#[derive(Debug)]
pub struct ForgetWatch {
    look_at: Instant,
}

impl ForgetWatch {
    /// What is there now comes with the past: the first look is due later.
    pub fn new() -> Self {
        Self { look_at: Instant::now() + LOOK_EVERY }
    }

    /// Returns whether a look is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.look_at <= now
    }
}

impl Writer {
    pub(super) fn look_for_forgets(&mut self, worker: Arc<StoreWorker>, context: &mut Context<Self>) {
        let job = async move { worker.forget_requests().await };
        self.run(job, context, |writer, result, _| {
            writer.forget_watch.look_at = Instant::now() + LOOK_EVERY;
            // A failure needs no report: the next commit, or the next read of the ledger, fails, too.
            if let Ok(requests) = result
                && *writer.options.forget.snapshot() != requests
            {
                writer.options.forget.write(requests);
            }
        });
    }
}
