//! One bound on the bytes of all responses in flight, whatever clients request and however slowly they read.
//!
//! A response is charged for the memory it holds, from when it is written until it is sent or dropped. When the budget
//! is spent, further large responses become 503 with `Retry-After`. The first [`FREE_BYTES`] of a response are free, so
//! health, status and errors always get through; `http.connections_max` bounds those.
//!
//! Nobody can spend it all: responses of the API leave a part to the board, and those of one client, in each lane, leave
//! a part to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::fair_queue::Host;
use super::lane::Lane;

/// Most bytes of all responses in flight together: four pages of the largest size.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that every response may hold free of charge.
pub const FREE_BYTES: usize = 32 * 1024;

/// No room is left for another response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many large responses are being sent; try again in a moment")]
pub struct BudgetSpent;

/// The budget, and who is charged. Clones share it.
#[derive(Clone)]
pub struct Budget {
    accounts: Arc<Mutex<Accounts>>,
    payer: (Lane, Host),
}

/// Every share is bounded, and so is their sum.
struct Accounts {
    max: usize,
    all: usize,
    api: usize,
    /// Only those that hold something.
    hosts: HashMap<(Lane, Host), usize>,
    refused: u64,
}

impl Accounts {
    /// Most bytes of all responses of the API: five eighths.
    fn api_max(&self) -> usize {
        self.max / 8 * 5
    }

    /// Most bytes of one client in one lane: three eighths. In both lanes it leaves a quarter.
    fn host_max(&self) -> usize {
        self.max / 8 * 3
    }

    /// True if `more` bytes may be added to a charge of `bytes`. In each account, the only charge may be of any size:
    /// one row may be larger than the bound.
    fn have_room(&self, payer: (Lane, Host), bytes: usize, more: usize) -> bool {
        let fits =
            |taken: usize, max: usize| more == 0 || taken == bytes || taken.saturating_add(more) <= max;
        let of_host = self.hosts.get(&payer).copied().unwrap_or_default();
        fits(self.all, self.max)
            && fits(of_host, self.host_max())
            && (payer.0 != Lane::Api || fits(self.api, self.api_max()))
    }

    fn add(&mut self, payer: (Lane, Host), bytes: usize) {
        self.all += bytes;
        if payer.0 == Lane::Api {
            self.api += bytes;
        }
        *self.hosts.entry(payer).or_default() += bytes;
        self.forget_empty(payer);
    }

    fn subtract(&mut self, payer: (Lane, Host), bytes: usize) {
        self.all -= bytes;
        if payer.0 == Lane::Api {
            self.api -= bytes;
        }
        if let Some(of_host) = self.hosts.get_mut(&payer) {
            *of_host -= bytes;
        }
        self.forget_empty(payer);
    }

    fn forget_empty(&mut self, payer: (Lane, Host)) {
        if self.hosts.get(&payer) == Some(&0) {
            self.hosts.remove(&payer);
        }
    }
}

impl Budget {
    /// Creates a budget of `max` bytes, charged to Andon itself. Only a single response that is larger by itself may
    /// exceed it.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let accounts = Accounts { max, all: 0, api: 0, hosts: HashMap::new(), refused: 0 };
        Self { accounts: Arc::new(Mutex::new(accounts)), payer: (Lane::Board, None) }
    }

    /// Returns this budget, charged to a client.
    #[must_use]
    pub fn of(&self, lane: Lane, host: Host) -> Self {
        Self { accounts: Arc::clone(&self.accounts), payer: (lane, host) }
    }

    /// Returns the bytes that responses hold now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().all
    }

    /// Returns how many charges were refused since the process started.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Takes `bytes` from the budget.
    ///
    /// # Errors
    /// Not enough is left.
    pub fn charge(&self, bytes: usize) -> Result<Charge, BudgetSpent> {
        let mut charge = Charge { budget: self.clone(), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share of the budget. Dropping it returns the share.
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Takes `more` bytes. Always succeeds for the only charge in use: one row may be larger than the whole budget.
    ///
    /// # Errors
    /// Not enough is left.
    pub fn grow(&mut self, more: usize) -> Result<(), BudgetSpent> {
        let mut accounts = self.budget.lock();
        if accounts.have_room(self.budget.payer, self.bytes, more) {
            accounts.add(self.budget.payer, more);
            self.bytes += more;
            return Ok(());
        }
        accounts.refused += 1;
        Err(BudgetSpent)
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
        self.budget.lock().subtract(self.budget.payer, bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::network::Network;

    fn host(number: u8) -> Host {
        Some(Network::of(Ipv4Addr::new(10, 0, 0, number).into()))
    }

    /// Proves HTTP-6.
    #[test]
    fn one_client_leaves_room_to_others_and_the_api_leaves_room_to_the_board() {
        let budget = Budget::new(800);
        let api = |number| budget.of(Lane::Api, host(number));
        let one = api(1).charge(300).unwrap();
        assert!(api(1).charge(1).is_err(), "its share is spent");
        let two = api(2).charge(200).unwrap();
        assert!(api(2).charge(1).is_err(), "the share of the API is spent");
        let board = budget.of(Lane::Board, host(1)).charge(300).unwrap();
        assert!(budget.of(Lane::Board, host(2)).charge(1).is_err(), "all is spent");
        drop((one, two));
        assert!(api(1).charge(300).is_ok());
        drop(board);
        assert_eq!((budget.taken(), budget.lock().hosts.len()), (0, 0), "nothing is left behind");
    }

    /// Proves HTTP-2.
    #[test]
    fn charges_never_exceed_the_bound_and_are_returned() {
        let budget = Budget::new(100);
        let (budget, other_client) = (budget.of(Lane::Board, host(1)), budget.of(Lane::Board, host(2)));
        let mut one = budget.charge(60).unwrap();
        assert_eq!(budget.charge(41).err(), Some(BudgetSpent));
        let other = other_client.charge(40).unwrap();
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
