//! The layer over a kernel and a journal made of memory, driven as the library drives it; and over real
//! sockets.

mod library;
mod memory;
mod power_cut;
mod properties;
mod rules;
mod sockets;
