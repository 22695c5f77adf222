//! One bound on the bytes of all responses in flight, whatever clients request and however slowly they read.
//!
//! A response is charged for the memory it holds, from when it is written until it is sent or dropped. When the budget
//! is spent, further large responses become 503 with `Retry-After`. The first [`FREE_BYTES`] of a response are free, so
//! health, status and errors always get through; `http.connections_max` bounds those.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use thiserror::Error;

/// Most bytes of all responses in flight together: four pages of the largest size.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that every response may hold free of charge.
pub const FREE_BYTES: usize = 32 * 1024;

/// No room is left for another response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many large responses are being sent to other clients; try again in a moment")]
pub struct BudgetSpent;

/// The budget. Clones share it.
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
    /// Creates a budget of `max` bytes. Only a single response that is larger by itself may exceed it.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { account: Arc::new(Account { max, taken: AtomicUsize::new(0), refused: AtomicU64::new(0) }) }
    }

    /// Returns the bytes that responses hold now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.account.taken.load(Ordering::Relaxed)
    }

    /// Returns how many charges were refused since the process started.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.account.refused.load(Ordering::Relaxed)
    }

    /// Takes `bytes` from the budget.
    ///
    /// # Errors
    /// Not enough is left.
    pub fn charge(&self, bytes: usize) -> Result<Charge, BudgetSpent> {
        let mut charge = Charge { account: Arc::clone(&self.account), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }
}

/// A share of the budget. Dropping it returns the share.
pub struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    /// Takes `more` bytes. Always succeeds for the only charge in use: one row may be larger than the whole budget.
    ///
    /// # Errors
    /// Not enough is left.
    pub fn grow(&mut self, more: usize) -> Result<(), BudgetSpent> {
        let fits = |taken: usize| {
            let is_only_charge = taken == self.bytes;
            let after = taken.saturating_add(more);
            (is_only_charge || after <= self.account.max).then_some(after)
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

    /// Grows or shrinks the share to `bytes`.
    ///
    /// # Errors
    /// Not enough is left. The share stays as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        self.release(self.bytes.saturating_sub(bytes));
        self.grow(bytes - self.bytes)
    }

    /// Returns `bytes` to the budget, or the whole share if it is smaller.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.account.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves HTTP-2.
    #[test]
    fn charges_never_exceed_the_bound_and_are_returned() {
        let budget = Budget::new(100);
        let mut one = budget.charge(60).unwrap();
        assert_eq!(budget.charge(41).err(), Some(BudgetSpent));
        let other = budget.charge(40).unwrap();
        assert_eq!((budget.taken(), budget.refused()), (100, 1));
        assert_eq!(one.grow(1), Err(BudgetSpent));
        drop(other);
        one.release(20);
        assert_eq!(budget.taken(), 40);
        assert_eq!((one.resize(70), budget.taken()), (Ok(()), 70));
        assert_eq!((one.resize(40), budget.taken()), (Ok(()), 40));
        one.release(1_000);
        assert_eq!(budget.taken(), 0, "returns no more than it holds");
        drop(one);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn the_only_charge_may_exceed_the_bound() {
        let budget = Budget::new(100);
        let mut one = budget.charge(500).unwrap();
        assert_eq!(one.grow(500), Ok(()));
        assert!(budget.charge(1).is_err());
        drop(one);
        assert!(budget.charge(1).is_ok());
    }
}
