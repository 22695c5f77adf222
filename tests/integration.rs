//! Andon as its users meet it: the real process, a real broker, real databases, started and stopped by the tests.
//!
//! Everything listens on free ports of loopback and lives in temporary directories, so tests run in parallel.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod support;

mod actors_under_fault;
mod architecture;
mod broker_churn;
mod broker_links;
mod broker_refusals;
mod broker_tls;
mod browser;
mod clock;
mod command_line;
mod connect_check;
mod faults;
mod http_api;
mod http_auth;
mod http_faults;
mod invalid_topics;
mod journal_of_another;
mod journal_repair;
mod ledger;
mod liveness;
mod machines;
mod pipeline;
mod rejected;
mod secrets;
mod signals;
