//! The space of an SQLite file. A server manages its own.

/// What giving free space back to the file system did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceReleased {
    /// Bytes given back.
    pub bytes: u64,
    /// There is more to give back.
    pub is_more: bool,
}

/// How large a database file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSpace {
    /// Its size in bytes.
    pub bytes: u64,
    /// Of these, free for new rows.
    pub free_bytes: u64,
    /// Andon gives free space back to the file system. Files of Andon 0.1.0 keep it.
    pub is_released: bool,
}
