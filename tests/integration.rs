//! Integration tests: the real process with a real broker and real databases, which the tests start and stop.
//!
//! Everything listens on free loopback ports and writes to temporary directories, so the tests run in parallel.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod support;

mod actors_under_fault;
mod allocations;
mod architecture;
mod audit;
mod broker_churn;
mod broker_filters;
mod broker_links;
mod broker_protocol;
mod broker_refusals;
mod broker_tls;
mod browser;
mod clock;
mod command_line;
mod configuration_page;
mod connect_check;
mod database_roles;
mod export;
mod faults;
mod file_permissions;
mod forget;
mod http_api;
mod http_auth;
mod http_faults;
mod http_health;
mod http_proxy;
mod http_sessions;
mod http_tls;
mod invalid_topics;
mod invariants;
mod journal_of_another;
mod journal_repair;
mod ledger;
mod liveness;
mod machines;
mod packaging;
mod pipeline;
mod pipelined_requests;
mod progress;
mod quoted_texts;
mod rejected;
mod reload;
mod replace;
mod retention;
mod secrets;
mod service_manager;
mod signals;
mod socket_layer;
mod starvation;
mod take_over;
mod upgrade;
