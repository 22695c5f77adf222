//! Connections at their bound.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{ConnectionLimits, Server};
use crate::http::listener::NO_ROOM;

/// How long something may take that happens at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Opens a connection and has one request answered.
fn kept_alive(server: &Server) -> TcpStream {
    let mut connection = server.client.open();
    write!(connection, "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut first = String::new();
    BufReader::new(connection.try_clone().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 "), "{first:?}");
    connection
}

/// Opens a live stream, and returns it once it is open.
fn stream(server: &Server) -> BufReader<TcpStream> {
    let mut connection = server.client.open();
    write!(connection, "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut reader = BufReader::new(connection);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{first:?}");
    reader
}

/// True if the server has closed a connection.
fn is_closed(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).unwrap();
    let read = (&*connection).read(&mut [0; 4096]);
    connection.set_nonblocking(false).unwrap();
    match read {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < AT_ONCE, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Proves ADM-2.
#[test]
fn the_oldest_idle_connection_gives_way_to_a_new_client() {
    let server = Server::with_limits(ConnectionLimits { all: 4, each_address: 4 });
    let silent = server.client.open();
    wait_until("its admission", || server.state.connections.open() == 1);
    let kept: Vec<TcpStream> = (0..3).map(|_| kept_alive(&server)).collect();
    assert!(!is_closed(&silent), "there is room for four");
    assert_eq!(server.client.get("/livez").status, 503, "the supervisor does not run here");
    wait_until("the silent one to be closed", || is_closed(&silent));
    assert_eq!(server.state.connections.evicted(), 1);
    // The place of the last client is free again: three of four are taken.
    wait_until("its end", || server.state.connections.open() == 3);
    kept_alive(&server);
    let open = kept.iter().filter(|connection| !is_closed(connection)).count();
    assert_eq!((open, server.state.connections.evicted()), (3, 1));
}

/// Proves ADM-3.
#[test]
fn a_response_that_is_being_sent_is_never_cut_off_and_the_newcomer_reads_why() {
    let server = Server::with_limits(ConnectionLimits { all: 4, each_address: 2 });
    let streams = [stream(&server), stream(&server)];
    // Reads as far as the content goes: behind it comes the end, or a reset.
    let mut refused = vec![0; NO_ROOM.len()];
    server.client.open().read_exact(&mut refused).unwrap();
    assert_eq!(refused, NO_ROOM);
    let connections = &server.state.connections;
    assert_eq!((connections.refused(), connections.evicted(), connections.open()), (1, 0, 2));
    assert_eq!(connections.last_refused().map(|address| address.to_string()).as_deref(), Some("127.0.0.1"));
    let mut streams = streams.map(|stream| stream.lines().map_while(Result::ok));
    for stream in &mut streams {
        assert!(stream.any(|line| line.starts_with("event: status")), "the streams go on");
    }
    // What has been sent to its end is idle.
    server.state.streams.close();
    wait_until("room for another", || {
        drop(server.client.open());
        connections.evicted() > 0
    });
}

#[test]
fn the_word_to_a_refused_client_is_a_whole_response_with_a_problem() {
    let text = std::str::from_utf8(NO_ROOM).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: 2\r\n"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head} {}", body.len());
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], 503);
}
