//! A client sends requests without waiting for their answers, and reads none. It takes neither memory nor the turns of others.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::andon::{Andon, Site};
use crate::support::http::Client;
use crate::support::mosquitto::Mosquitto;

/// Without these bounds it grew by more than 1 GB.
const GROWTH_KIB_MAX: u64 = 100 * 1024;
const CONNECTIONS: u8 = 60;

/// Proves HTTP-2.
#[test]
fn requests_that_nobody_awaits_take_no_memory_and_delay_nobody() {
    let broker = Mosquitto::start("");
    let site = Site::new(broker.port()).set("http.token=s3cret-s3cret-s3cret");
    let mut andon = site.run();
    let client = Client::new(&andon.wait_for_http());
    let board = client.at(2).with("Authorization: Bearer s3cret-s3cret-s3cret");
    assert_eq!(board.get("/").status, 200);
    let before = resident_kib(&andon);

    // Pages with a body, and redirects without one.
    for request in ["GET / HTTP/1.1\r\nHost:\r\n\r\n", "POST /logout HTTP/1.1\r\nHost:\r\n\r\n"] {
        let mut flood: Vec<TcpStream> = (0..CONNECTIONS).map(|_| silent(&client)).collect();
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < Duration::from_secs(5) {
            flood.iter_mut().for_each(|connection| send_what_fits(connection, &request.repeat(2_000)));
            let asked = Instant::now();
            assert_eq!(board.get("/").status, 200);
            slowest = slowest.max(asked.elapsed());
        }
        let grown = resident_kib(&andon).saturating_sub(before);
        eprintln!("{request:?}: grown by {grown} KiB, slowest board {slowest:?}");
        assert!(grown < GROWTH_KIB_MAX, "{request:?}: {grown} KiB");
        assert!(slowest < Duration::from_secs(5), "{request:?}: {slowest:?}");
    }
    assert!(andon.stop().success());
}

fn silent(client: &Client) -> TcpStream {
    let connection = TcpStream::connect(client.address()).unwrap();
    connection.set_nonblocking(true).unwrap();
    connection
}

fn send_what_fits(connection: &mut TcpStream, requests: &str) {
    match connection.write(requests.as_bytes()) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("{error}"),
    }
}

fn resident_kib(andon: &Andon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", andon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
