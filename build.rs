//! Link flags for the C client library: it reports its messages to Andon itself (`src/actors/mqtt/raw_callback.rs`), and
//! its sockets are buffered (`src/socket_layer`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg=-Wl,--wrap=MQTTAsync_setMessageArrivedCallback");
        if target("POINTER_WIDTH") == "64" {
            for function in ["recv", "poll", "writev", "shutdown", "close", "SSL_set_fd"] {
                println!("cargo:rustc-link-arg=-Wl,--wrap={function}");
            }
        }
    }
}
