//! A value that one part writes and anybody reads.

use std::sync::{Arc, Mutex, PoisonError};

/// The newest state of something. Reading it waits for nobody: the lock is held only to exchange the pointer.
#[derive(Debug, Default)]
pub struct StatusCell<T> {
    newest: Mutex<Arc<T>>,
}

impl<T> StatusCell<T> {
    /// A board that shows `first` until it is written.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self { newest: Mutex::new(Arc::new(first)) }
    }

    /// Replaces the state.
    pub fn write(&self, state: T) {
        let state = Arc::new(state);
        // The old one is freed outside the lock.
        let _old = std::mem::replace(&mut *self.lock(), state);
    }

    /// The newest state.
    #[must_use]
    pub fn snapshot(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<T>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
