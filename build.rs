//! Link flags (`--wrap`) that redirect calls of C functions to ours:
//! - paho's registration of its message callback (`src/actors/mqtt/client/raw_callback.rs`);
//! - libpq's access to the SQLSTATE of an error (`src/store/postgres/sqlstate.rs`);
//! - what paho does with its sockets (`src/actors/mqtt/client/socket_layer/mod.rs`).

/// The functions of the last item; `cfg(socket_layer)` says that they are wrapped.
const SOCKET_FUNCTIONS: [&str; 6] = ["recv", "poll", "writev", "shutdown", "close", "SSL_set_fd"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(socket_layer)");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg=-Wl,--wrap=MQTTAsync_setMessageArrivedCallback");
        println!("cargo:rustc-link-arg=-Wl,--wrap=PQresultErrorField");
        if target("POINTER_WIDTH") == "64" {
            println!("cargo:rustc-cfg=socket_layer");
            for function in SOCKET_FUNCTIONS {
                println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
            }
        }
    }
}
