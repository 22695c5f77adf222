//! A value that one part writes and any thread reads.

use std::sync::{Arc, Mutex, PoisonError};

/// The newest state of something. Readers never wait: the lock is held only to exchange a pointer.
#[derive(Debug, Default)]
pub struct StatusCell<T> {
    newest: Mutex<Arc<T>>,
}

impl<T> StatusCell<T> {
    /// Creates a cell that holds `first` until it is written.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self { newest: Mutex::new(Arc::new(first)) }
    }

    /// Replaces the state.
    pub fn write(&self, state: T) {
        let state = Arc::new(state);
        // Free the old state outside the lock.
        let _old = std::mem::replace(&mut *self.lock(), state);
    }

    /// Returns the newest state.
    #[must_use]
    pub fn snapshot(&self) -> Arc<T> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<T>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
