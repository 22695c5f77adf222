//! Mode `before_ack`: one sync of the journal for all messages that arrived together, and their PUBACKs after
//! it.
//!
//! Invariants
//! - **ACK-1** An append leaves its journal and seq with the connection that the message came in on
//!   ([`socket_layer::defer`]): nothing written to that connection afterwards leaves before the journal is
//!   durable up to that seq. Where the connection cannot promise this, the callback syncs before it returns.
//! - **ACK-2** A sync that fails ends the process before anything of the group leaves.
//!
//! A sync is part of receiving, as an append is: while it lasts the broker is not judged
//! ([`super::link_health`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use slog::error;

use super::callback::MessageCallback;
use super::client::socket_layer::{self, Barrier};
use crate::clock::mono_now;
use crate::domain::Seq;
use crate::journal::JournalError;
use crate::logging::{causes, last_panic_message};
use crate::shutdown::halt;

impl MessageCallback {
    /// Makes the PUBACK that follows wait until the record `seq` is durable. Does nothing in the other modes.
    ///
    /// # Errors
    /// Those of [`crate::journal::Journal::sync_upto`], if the sync happens here.
    pub(super) fn sync_before_ack(self: &Arc<Self>, seq: Seq) -> Result<(), JournalError> {
        if self.journal.syncs_before_ack() {
            let barrier: Arc<dyn Barrier> = Arc::<Self>::clone(self);
            if !socket_layer::defer(&barrier, seq.0) {
                self.journal.sync_upto(seq)?;
            }
        }
        Ok(())
    }
}

impl Barrier for MessageCallback {
    fn pass(&self, upto: u64) {
        if self.journal.positions().synced >= Seq(upto) {
            return;
        }
        let began = mono_now();
        self.receiving.store(true, Ordering::Relaxed);
        let reason = match catch_unwind(AssertUnwindSafe(|| self.journal.sync_upto(Seq(upto)))) {
            Ok(Ok(_)) => {
                self.health.lock().message(began, mono_now());
                self.receiving.store(false, Ordering::Relaxed);
                return;
            }
            Ok(Err(error)) => causes(&error),
            Err(_) => last_panic_message(),
        };
        error!(self.logger, "messages could not be made durable and are not acknowledged: stopping, the broker keeps \
            them; fix the cause named here, then start again"; "error" => reason);
        halt(1)
    }
}
