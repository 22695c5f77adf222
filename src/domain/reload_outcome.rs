//! How a reload of the configuration ended.

use super::word_enum;

word_enum! {
    /// How a reload of the configuration ended.
    pub enum ReloadOutcome {
        /// Everything that was new is in effect.
        Applied = "applied",
        /// Some of it waits for a restart.
        NeedsRestart = "needs_restart",
        /// Nothing has changed, because of a mistake.
        Refused = "refused",
    }
}
