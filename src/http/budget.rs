//! The bytes of all answers in flight: one bound, whatever clients ask for and however slowly they read.
//!
//! An answer is charged for what it holds in memory, from the moment it is written until it has been sent or dropped. When the budget
//! is spent, whoever asks for more gets 503 and is asked to come back. The first [`FREE_BYTES`] of an answer are free, so that health,
//! status and errors are answered always; `http.connections_max` bounds those.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use thiserror::Error;

/// Bytes of all answers in flight together: four pages of the largest size.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What every answer may hold without being charged.
pub const FREE_BYTES: usize = 32 * 1024;

/// There is no room for a further answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many large answers are under way to other clients; try again in a moment")]
pub struct BudgetSpent;

/// The budget; clones are the same one.
#[derive(Clone)]
pub struct Budget {
    account: Arc<Account>,
}

struct Account {
    max: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// Nothing is taken yet, and never more than `max` bytes are, but for one answer that is larger by itself.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { account: Arc::new(Account { max, taken: AtomicUsize::new(0), refused: AtomicU64::new(0) }) }
    }

    /// Bytes that answers hold at present.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.account.taken.load(Ordering::Relaxed)
    }

    /// Times that an answer was refused, since the process started.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.account.refused.load(Ordering::Relaxed)
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// They are not left.
    pub fn charge(&self, bytes: usize) -> Result<Charge, BudgetSpent> {
        let mut charge = Charge { account: Arc::clone(&self.account), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }
}

/// A part of the budget; given back when it is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Takes `more` bytes. Who is alone gets them always: a single row may be larger than the whole budget.
    ///
    /// # Errors
    /// They are not left.
    pub fn grow(&mut self, more: usize) -> Result<(), BudgetSpent> {
        let fits = |taken: usize| {
            let is_alone = taken == self.bytes;
            let after = taken.saturating_add(more);
            (is_alone || after <= self.account.max).then_some(after)
        };
        match self.account.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => {
                self.account.refused.fetch_add(1, Ordering::Relaxed);
                Err(BudgetSpent)
            }
        }
    }

    /// Takes more or gives back, so that it is `bytes` altogether.
    ///
    /// # Errors
    /// They are not left; what it has stays.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        self.give_back(self.bytes.saturating_sub(bytes));
        self.grow(bytes - self.bytes)
    }

    /// Gives `bytes` back, or all that is left of it.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_never_exceeds_the_bound_and_comes_back() {
        let budget = Budget::new(100);
        let mut one = budget.charge(60).unwrap();
        assert_eq!(budget.charge(41).err(), Some(BudgetSpent));
        let other = budget.charge(40).unwrap();
        assert_eq!((budget.taken(), budget.refused()), (100, 1));
        assert_eq!(one.grow(1), Err(BudgetSpent));
        drop(other);
        one.give_back(20);
        assert_eq!(budget.taken(), 40);
        assert_eq!((one.resize(70), budget.taken()), (Ok(()), 70));
        assert_eq!((one.resize(40), budget.taken()), (Ok(()), 40));
        one.give_back(1_000);
        assert_eq!(budget.taken(), 0, "never more than it has");
        drop(one);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn who_is_alone_gets_more_than_there_is() {
        let budget = Budget::new(100);
        let mut one = budget.charge(500).unwrap();
        assert_eq!(one.grow(500), Ok(()));
        assert!(budget.charge(1).is_err());
        drop(one);
        assert!(budget.charge(1).is_ok());
    }
}
