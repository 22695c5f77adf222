//! Mode `before_ack`: one sync of the journal for the messages that arrived together, and their PUBACKs after it.
//!
//! - G1 An append leaves its own journal and seq with the connection that the message came in on ([`socket_layer::defer`]): nothing that
//!   is written there from then on leaves before that journal is durable up to there.
//! - G2 Where the connection cannot promise that, the sync happens in the callback.
//! - G3 A sync that fails ends the process, and nothing of the group leaves.
//! - G4 A sync is part of receiving, as an append is: while it lasts the broker is not judged, and one that stalls is a standstill of our
//!   own (rule K4 of [`super::link_health`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use slog::error;

use super::inlet::Inlet;
use crate::clock::mono_now;
use crate::domain::Seq;
use crate::journal::JournalError;
use crate::logging::{causes, last_panic_message};
use crate::shutdown::halt;
use crate::socket_layer::{self, Barrier};

impl Inlet {
    /// The message has been appended as `seq`, and its PUBACK is written next. In the other modes there is nothing to do.
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

impl Barrier for Inlet {
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
        error!(self.logger, "messages could not be made durable and will not be acknowledged: stopping, the broker keeps \
            them; mend what is named here, then start again"; "error" => reason);
        halt(1)
    }
}
