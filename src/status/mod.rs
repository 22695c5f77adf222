//! Snapshots of how Andon itself is, for the status line, the board and the API.
//!
//! Each board is written by the one actor that knows, and read by anybody at any time; nobody asks a busy actor.

mod actors;
mod backlog;
mod board;
mod broker;
mod ledger;
mod machines;
mod progress;
mod store;

pub use self::actors::{ActorPhase, ActorStatus, ActorsBoard};
pub use self::backlog::{BacklogWindow, Pace, Room, TimeToFull};
pub use self::board::Board;
pub use self::broker::{BrokerBoard, BrokerState, BrokerStatus};
pub use self::ledger::LedgerBoard;
pub use self::machines::{MachineView, MachinesBoard, MachinesSnapshot};
pub use self::progress::Progress;
pub use self::store::{StoreBoard, StoreState, StoreStatus};
