//! What the holder of a token may do over HTTP.

use super::word_enum::word_enum;

word_enum! {
    /// The role of a named token: `http.tokens`, key `role`.
    pub enum Role {
        /// Board, API and live stream, without changing anything.
        View = "view",
        /// Metrics and health.
        Metrics = "metrics",
        /// Everything, and what changes something.
        Operate = "operate",
    }
}

impl Role {
    /// True if a token of this role may do what needs `needed`.
    #[must_use]
    pub fn allows(self, needed: Self) -> bool {
        self == needed || self == Self::Operate
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Metrics, Operate, View};

    #[test]
    fn operate_may_do_everything_and_the_others_their_own_only() {
        for (role, needed, allowed) in [
            (View, View, true),
            (View, Metrics, false),
            (View, Operate, false),
            (Metrics, Metrics, true),
            (Metrics, View, false),
            (Metrics, Operate, false),
            (Operate, View, true),
            (Operate, Metrics, true),
            (Operate, Operate, true),
        ] {
            assert_eq!(role.allows(needed), allowed, "{role:?} for {needed:?}");
        }
    }
}
