//! What tests and benches start, stop and read: Andon, brokers, databases, clients. None uses all of it.

#![allow(dead_code)]

pub mod andon;
pub mod certificates;
pub mod database;
pub mod device;
pub mod dynamic_security;
pub mod http;
pub mod mosquitto;
pub mod notify_socket;
pub mod poll;
pub mod postgres;
pub mod proxy;
pub mod publisher;
pub mod scripted_broker;
pub mod slow_line;
pub mod subscriber;
pub mod webdriver;
