//! What the tests start, stop and look into.

pub mod andon;
pub mod database;
pub mod mosquitto;
pub mod poll;
pub mod postgres;
pub mod publisher;
