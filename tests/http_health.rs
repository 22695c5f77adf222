//! The listener for health checks alone, and `andon health` over it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::andon::{Andon, Site};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;
use crate::support::poll::wait_until;

const TOKEN: &str = "a-token-of-the-plant";

/// Asks for a path over a Unix socket; returns status and text.
fn ask(socket: &Path, path: &str) -> (u16, String) {
    let mut connection = UnixStream::connect(socket).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nHost: anything.example\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

/// Returns the address of the health checks' listener.
fn health_client(andon: &mut Andon) -> Client {
    const LINE: &str = "listening for health checks, component: http, address: ";
    andon.wait_for_log(LINE);
    let log = andon.log();
    let rest = log.rsplit(LINE).next().unwrap();
    Client::new(&format!("http://{}", rest.split_whitespace().next().unwrap()))
}

fn health_exit_code(site: &Site) -> (Option<i32>, String) {
    let output = site.command(&["health", "--live"]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn health_and_metrics_need_no_token_on_a_unix_socket_and_nothing_else_is_there() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set(&format!("http.token={TOKEN}"));
    let socket = site.path().join("health.sock");
    let site = site.set(&format!("http.health_bind=unix:{}", socket.display()));
    let mut andon = site.run();
    andon.wait_until_connected();
    andon.wait_for_log("listening for health checks");
    wait_until("a healthy service", || ask(&socket, "/readyz").0 == 200);
    assert!(ask(&socket, "/metrics").1.contains("\nandon_http_connections "));
    for path in ["/", "/api/v1/status", "/login", "/api/v1/stream", "/metrics/"] {
        let (status, text) = ask(&socket, path);
        assert!(status == 404 && text.contains("application/problem+json"), "{path}: {text}");
    }
    // The command needs no token either: this port leads nowhere.
    let command = site.set("http.bind=127.0.0.1:1").without("http.token");
    assert_eq!(health_exit_code(&command), (Some(0), String::new()));
    // A socket that a kill left behind is replaced; one that is in use is not.
    andon.kill();
    assert!(socket.exists());
    let (code, said) = health_exit_code(&command);
    assert_eq!(code, Some(1));
    assert!(said.contains(&socket.display().to_string()), "{said}");
    let site = command.set("http.bind=127.0.0.1:0");
    let mut andon = site.run();
    andon.wait_for_log("listening for health checks");
    wait_until("a healthy service", || ask(&socket, "/livez").0 == 200);
    assert!(andon.stop().success());
    assert!(!socket.exists(), "the socket is removed at the end");
}

#[test]
fn on_loopback_a_health_check_needs_no_token_but_no_foreign_page_may_ask() {
    let broker = Mosquitto::start("");
    let site =
        Site::new(broker.port()).set(&format!("http.token={TOKEN}")).set("http.health_bind=127.0.0.1:0");
    let mut andon = site.run();
    let client = health_client(&mut andon);
    wait_until("a live service", || client.get("/livez").status == 200);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(client.with("Host: attacker.example").get(path).status, 421, "{path}");
        assert_eq!(client.request("POST", path, "x=1").status, 405, "{path}");
    }
    // At http.bind they need it as before.
    andon.wait_for_log("url: http://");
    let main = Client::new(&andon.wait_for_http());
    assert_eq!((main.get("/livez").status, main.get("/metrics").status), (401, 401));
}

#[test]
fn clients_that_hold_every_connection_do_not_delay_a_health_check() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port())
        .set("http.health_bind=127.0.0.1:0")
        .set("http.connections_max=16")
        .set("http.connections_per_address=8")
        .set("http.streams_max=15")
        .set("http.streams_per_address=15");
    let mut andon = site.run();
    let main = Client::new(&andon.wait_for_http());
    let health = health_client(&mut andon);
    // Streams are busy, so they give way to nobody.
    let streams: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = main.open();
            write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {}\r\n\r\n", main.address()).unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let mut refused = [0; 12];
    main.open().read_exact(&mut refused).unwrap();
    assert_eq!(&refused, b"HTTP/1.1 503");
    andon.wait_for_log("HTTP clients are refused: every connection that may be open is busy");
    assert_eq!(health.get("/livez").status, 200);
    let metrics = health.get("/metrics").body;
    assert!(metrics.contains("\nandon_http_connections 8\n"), "{metrics}");
    assert!(metrics.contains("\nandon_http_connections_refused_total 1\n"), "{metrics}");
    drop(streams);
}
