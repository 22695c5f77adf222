//! When a new value of a key takes effect: the one home of that rule is each key's line in `keys`.

/// When a new value takes effect in a running service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Only when the service starts again.
    Restart,
    /// At a reload (SIGHUP).
    Reload,
    /// At a reload, but a connection that is up keeps the old value.
    NextConnection,
}

impl Effect {
    /// Says it in the documentation of the key; `None`: the documentation says nothing.
    #[cfg(test)]
    pub(super) const fn documented(self) -> Option<&'static str> {
        match self {
            Self::Restart => None,
            Self::Reload => Some("Takes effect: at reload"),
            Self::NextConnection => {
                Some("Takes effect: at reload, from the next connection to the broker on")
            }
        }
    }
}
