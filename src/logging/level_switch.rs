//! The levels in effect, which a reload replaces while everything logs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use slog::Level;

use crate::config::LogLevels;

/// The levels in effect. Clones share them.
#[derive(Clone)]
pub struct LevelSwitch {
    shared: Arc<Shared>,
}

struct Shared {
    /// The most verbose level of all, as a number: a suppressed record costs one load.
    most_verbose: AtomicUsize,
    levels: RwLock<LogLevels>,
}

impl LevelSwitch {
    pub(super) fn new(levels: &LogLevels) -> Self {
        let most_verbose = AtomicUsize::new(levels.most_verbose().as_usize());
        Self { shared: Arc::new(Shared { most_verbose, levels: RwLock::new(levels.clone()) }) }
    }

    /// Replaces the levels.
    pub fn set(&self, levels: &LogLevels) {
        *self.shared.levels.write().unwrap_or_else(PoisonError::into_inner) = levels.clone();
        self.shared.most_verbose.store(levels.most_verbose().as_usize(), Ordering::Relaxed);
    }

    /// True if some component may log at `level`.
    pub(super) fn may_admit(&self, level: Level) -> bool {
        level.as_usize() <= self.shared.most_verbose.load(Ordering::Relaxed)
    }

    /// Returns the level of a component, which is looked up only if components have levels of their own.
    pub(super) fn of(&self, component: impl FnOnce() -> Option<String>) -> Level {
        let levels = self.shared.levels.read().unwrap_or_else(PoisonError::into_inner);
        if levels.components.is_empty() { levels.default } else { levels.of(component().as_deref()) }
    }
}
