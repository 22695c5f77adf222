//! Snapshots of Andon's own state, for the status line, the board and the API.
//!
//! One part writes each cell, and any thread may read it at any time. No reader ever waits for a busy actor.

mod actors;
mod backlog;
mod broker;
mod cell;
mod ledger;
mod machines;
mod progress;
mod store;

pub use self::actors::{ActorPhase, ActorStatus, ActorsCell};
pub use self::backlog::{BacklogWindow, Pace, Room, TimeToFull};
pub use self::broker::{BrokerCell, BrokerState, BrokerStatus};
pub use self::cell::StatusCell;
pub use self::ledger::LedgerCell;
pub use self::machines::{MachineView, MachinesCell, MachinesSnapshot};
pub use self::progress::Progress;
pub use self::store::{StoreCell, StoreState, StoreStatus};
