//! Link flags that wrap two C functions: paho's, so that it reports messages to Andon directly (see
//! `src/actors/mqtt/client/raw_callback.rs`), and libpq the SQLSTATE of an error (see
//! `src/store/postgres/sqlstate.rs`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg=-Wl,--wrap=MQTTAsync_setMessageArrivedCallback");
        println!("cargo:rustc-link-arg=-Wl,--wrap=PQresultErrorField");
    }
}
