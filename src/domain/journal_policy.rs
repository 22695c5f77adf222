//! What the journal is asked to guarantee: when a record is durable, and what happens when there is no room.

use super::word_enum::word_enum;

word_enum! {
    /// When an appended record is made durable.
    pub enum SyncMode {
        /// An append returns after an fdatasync: not even a power cut loses what was acknowledged.
        BeforeAck = "before_ack",
        /// One thread syncs back to back while anything is unsynced. A power cut loses the messages of the last
        /// sync interval (milliseconds); a killed process loses nothing.
        Background = "background",
        /// The operating system writes when it likes; only a reader syncs, for what it is about to return.
        Os = "os",
    }
}

word_enum! {
    /// What happens when the journal has reached its bound.
    pub enum WhenFull {
        /// Andon leaves the broker, which keeps the messages. What is in flight is still accepted, up to the overrun.
        Hold = "hold",
        /// The oldest whole segments are deleted; readers report the gap.
        DropOldest = "drop_oldest",
    }
}
